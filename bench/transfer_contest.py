"""Turns, figures and tables of bench/transfer.py."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from common import ratio, spread, verdict
from transfer_memory import memory_at_hand
from transfer_nodes import DATA, Figures, Node, measure, note
from transfer_peers import Peer

MIB = 1 << 20
MEMORY = 4 << 30
"""Bytes: twice as many as the copies of the largest part have."""
FEWEST = 7
"""Rounds that a verdict takes."""
Action = Callable[[], float | None]
Tidy = Callable[[Sequence[Node]], None]


def put_aside(nodes: Sequence[Node]) -> None:
    """As `clear`, and deletes nothing; see `Node.use_new_disk`."""
    for node in nodes:
        node.run(f"mkdir -p {DATA}/old && mv {DATA}/in $(mktemp -d -p {DATA}/old) && mkdir {DATA}/in; sync -f {DATA}")


def clear(nodes: Sequence[Node]) -> None:
    """Nothing is left of the run before, neither files nor pages to be written to disk."""
    for node in nodes:
        node.run(f"rm -rf {DATA}/in/* {DATA}/in/.[!.]*; sync -f {DATA}")


@dataclass
class Contest:
    """Tools that take turns at sending DATA/`name`, which is `size` bytes; `nodes`: all that work, the sender first.

    Before each run `tidy` makes room for the next copy, and `start` starts what may have ended by itself.
    """

    title: str
    nodes: Sequence[Node]
    name: str
    size: int
    start: Callable[[], None]
    actions: dict[str, Action] = field(default_factory=dict)
    copied_to: dict[str, Sequence[Node]] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    tidy: Tidy = clear

    def add(self, tool: str, action: Action, copied_to: Sequence[Node], says: str = "") -> None:
        self.actions[tool], self.copied_to[tool], self.says[tool] = action, copied_to, says
        self.figures[tool] = Figures()

    def add_peers(self, peers: Sequence[Peer], sender: Node, recipients: Sequence[Node]) -> None:
        for peer in peers:
            if not peer.is_here([sender, *recipients]):
                note(f"{peer.name} is not in the containers: left out (tools/get-peers)")
                continue
            peer.prepare(sender, recipients)
            action = partial(peer.send, sender, recipients, self.name)
            self.add(peer.name, action, recipients if peer.copies else (), peer.says)

    def run(self, rounds: int) -> None:
        with memory_at_hand(MEMORY):
            self._run(rounds)

    def _run(self, rounds: int) -> None:
        wanted = digest(self.nodes[0], f"{DATA}/{self.name}")
        order, shuffled = list(self.actions), random.Random(rounds)
        for number in range(rounds + 1):
            for tool in order:
                self.tidy(self.nodes)
                self.start()
                measure(self.figures[tool], self.nodes, self.actions[tool], counts=number > 0)
                for node in self.copied_to[tool]:
                    if digest(node, f"{DATA}/in/{self.name}") != wanted:
                        raise SystemExit(f"{tool}: the copy at {node.hostname} differs")
            shuffled.shuffle(order)
            told = ", ".join(f"{tool} {figures.seconds[-1]:.2f}" for tool, figures in self.figures.items() if number)
            note(f"{self.title}, round {number}: {told}" if number else f"{self.title}: warm")
        clear(self.nodes)

    def show(self, rounds: int) -> None:
        print(f"\n{self.title}; {rounds} rounds, interleaved; median (min to max)")
        print(f"{'':27}{'seconds':24}{'MB/s':>8}{'CPU s/GB':>10}{'MiB':>6}")
        for tool, figures in self.figures.items():
            rate = self.size / 1e6 / statistics.median(figures.seconds)
            cpu = statistics.median(figures.cpu) / (self.size * max(1, len(self.copied_to[tool])) / 1e9)
            row = f"{tool:27}{spread(figures.seconds):24}{rate:8.0f}{cpu:10.1f}{figures.memory / MIB:6.0f}"
            print(f"{row}  {self.says[tool]}".rstrip())

    def bar(self, ours: str, theirs: str, most: float, why: str = "") -> bool:
        """Whether our time over theirs, round by round, is at most `most`. Without that peer it is not.

        Fewer than FEWEST rounds have no verdict, and so can't fail: they are there to try the bench.
        """
        name = f"{ours} / {theirs}{why}"
        if theirs not in self.figures:
            print(f"✗ {name}: nothing to compare with, as {theirs} is missing (tools/get-peers)")
            return False
        seconds = self.figures[ours].seconds
        value = ratio(seconds, self.figures[theirs].seconds)
        if len(seconds) < FEWEST:
            print(f"· {name}: {value:.2f}; no verdict: {len(seconds)} rounds, and it takes {FEWEST}")
            return True
        return verdict(name, value, most)

    def tell(self, ours: str, theirs: str) -> None:
        if theirs in self.figures:
            print(f"  {ours} / {theirs}: {ratio(self.figures[ours].seconds, self.figures[theirs].seconds):.2f}")


def digest(node: Node, path: str) -> str:
    """Of a file's or a folder's content, names within a folder included."""
    found = f"find {path.rsplit('/', 1)[1]} -type f -print0 | sort -z | xargs -0 -n 1000 sha256sum"
    return node.run(f"set -o pipefail; cd {path.rsplit('/', 1)[0]} && {found} | sha256sum")
