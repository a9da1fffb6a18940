"""Whoever is killed with -9, or stopped, whenever that is: a file with the final name is whole, and little is sent again.

Each node is a process; there is a chain of three recipients. The coordinator is the real one, in this process.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.transfer.party_process import GIVEN, TAKEN
from tests.transfer.processes import Processes
from ws.transfer import running, ticker
from ws.transfer.events import Event, RecipientDone, Stream
from ws.transfer.outcome import Outcome, Settings

MIB = 1 << 20
CHUNK = 256 << 10
SENDER, FIRST, MIDDLE, LAST = NODES = [f"ray_node_{number}" for number in range(1, 5)]
RECIPIENTS = NODES[1:]
ASKED_AHEAD = 2
IN_FLIGHT = ASKED_AHEAD * CHUNK
"""Bytes that one recipient has asked for and does not have yet, by the one connection that it has in a chain of three."""
LIVES = {SENDER: "sender", MIDDLE: "relay", LAST: "recipient"}

victims = pytest.mark.parametrize("victim", LIVES, ids=LIVES.values())
shares = pytest.mark.parametrize("share", [0.1, 0.5, 0.9])


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    made = Processes(tmp_path_factory.mktemp("nodes"))
    yield made
    made.close()


@pytest.fixture
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender that is gone is noticed as soon as anything can be: runs are short, and there are many."""
    monkeypatch.setattr(ticker, "EVERY", 0.02)
    monkeypatch.setattr(ticker, "_SENDER_EVERY", 0.02)


class Watch:
    """Looks at the final names without pause: each is absent, or all of it is there."""

    def __init__(self, paths: list[Path], content: bytes) -> None:
        self._paths, self._content = paths, content
        self._seen: dict[Path, tuple[int, int]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.broken: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        for path in self._paths:
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    about = (status.st_ino, status.st_ctime_ns)
                    if self._seen.get(path) != about and file.read() != self._content:
                        self.broken.append(f"{path} has {status.st_size} bytes, not all of them right")
                    self._seen[path] = about
            except FileNotFoundError:
                if path in self._seen:
                    self.broken.append(f"{path} was there, and is gone")

    def _run(self) -> None:
        while not self._stopped.wait(0.001):
            self.look()


class Run:
    """One transfer of a file of its own to the three, watched."""

    def __init__(self, nodes: Processes, name: str, chance: random.Random) -> None:
        self.nodes, self.name = nodes, name
        self.content = chance.randbytes(chance.randrange(6 * MIB, 9 * MIB))
        self.size = len(self.content)
        self.paths = [nodes.root(node) / name for node in RECIPIENTS]
        (nodes.root(SENDER) / name).write_bytes(self.content)
        nodes.start(NODES)
        self._before = {node: nodes.counts(node) for node in NODES}

    def to_end(self, on_event: Callable[[Event], None] = lambda event: None) -> Outcome:
        settings = Settings(fsync=False, chunk_size=CHUNK)
        stream = Stream(on_event)
        ran = running.Transfer(self.nodes.party, (SENDER, self.name), RECIPIENTS, settings, stream, retry_pause=0.01)
        with Watch(self.paths, self.content) as watch:
            outcome = ran.run()
        assert watch.broken == []
        assert outcome.state == "done", outcome
        assert [path.read_bytes() == self.content for path in self.paths] == [True] * 3
        assert [outcome.receipts[node].bytes for node in RECIPIENTS] == [self.size] * 3
        return outcome

    def await_all_given(self) -> None:
        deadline = time.monotonic() + 30
        while sum(self._more(node, GIVEN) for node in NODES) < len(RECIPIENTS) * self.size and time.monotonic() < deadline:
            time.sleep(0.001)

    def again(self) -> int:
        """Bytes that were sent more than once; no recipient wrote more of them than it had in flight."""
        for node in RECIPIENTS:
            assert self._more(node, TAKEN) - self.size <= IN_FLIGHT
        return sum(self._more(node, GIVEN) for node in NODES) - len(RECIPIENTS) * self.size

    def clear(self) -> None:
        for path in (*self.paths, self.nodes.root(SENDER) / self.name):
            path.unlink()
        assert [path.name for node in RECIPIENTS for path in self.nodes.root(node).iterdir()] == []

    def _more(self, node: str, which: int) -> int:
        return self.nodes.counts(node)[which] - self._before[node][which]


def kill_at(nodes: Processes, victim: str, share: float, seed: int) -> None:
    """The victim dies when it has about that share of its bytes behind it, within a chunk or between two of them."""
    chance = random.Random(f"{victim} {share} {seed}")
    run = Run(nodes, f"{victim}-{share}-{seed}.bin", chance)
    which, steps = (GIVEN, ["piece", "whole"]) if victim == SENDER else (TAKEN, ["piece", "whole", "kept"])
    remote = nodes.remotes[victim]
    remote.on_held = remote.kill
    remote.call("hold", which, int(run.size * (share + chance.uniform(-0.05, 0.05))), chance.choice(steps)).result()
    run.to_end()
    assert remote.process.returncode == -signal.SIGKILL
    assert 0 <= run.again() <= len(RECIPIENTS) * IN_FLIGHT
    run.clear()


@victims
@shares
def test_whoever_is_killed_all_end_with_whole_files(nodes: Processes, attentive: None, victim: str, share: float) -> None:
    kill_at(nodes, victim, share, seed=0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 21))
@victims
@shares
def test_whoever_is_killed_whenever_all_end_with_whole_files(
    nodes: Processes, attentive: None, victim: str, share: float, seed: int
) -> None:
    kill_at(nodes, victim, share, seed)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("victim", "call"), [(SENDER, "hashes"), (MIDDLE, "settle"), (LAST, "accept"), (LAST, "pull")])
def test_who_is_killed_at_a_step_of_the_protocol_takes_nothing_twice(
    nodes: Processes, attentive: None, victim: str, call: str, moment: str
) -> None:
    """After `settle` the file has its name, and only the answer is missing."""
    run = Run(nodes, f"{victim}-{call}-{moment}.bin", random.Random(call))
    remote = nodes.remotes[victim]
    at_the_end = call in {"hashes", "settle"}

    def kill() -> None:
        if at_the_end:
            run.await_all_given()  # whoever still takes from it would have to take the rest of a chunk again
        remote.kill()

    remote.on_held = kill
    remote.call("hold_call", call, moment).result()
    outcome = run.to_end()
    assert remote.process.returncode == -signal.SIGKILL
    if at_the_end:
        assert run.again() == 0
    if call == "settle":
        assert outcome.receipts[MIDDLE].had == 0  # when this transfer began, whoever was killed meanwhile
    run.clear()


def stopped(nodes: Processes, victim: str, long_enough: Callable[[set[str]], bool]) -> None:
    """The victim is stopped in the middle until it is long enough, which is asked with those who have the file."""
    run = Run(nodes, f"stopped-{victim}.bin", random.Random(victim))
    remote = nodes.remotes[victim]
    changed, asleep = threading.Condition(), threading.Event()
    have: set[str] = set()

    def on_event(event: Event) -> None:
        if isinstance(event, RecipientDone):
            with changed:
                have.add(event.recipient)
                changed.notify_all()

    def wake_up() -> None:
        assert asleep.wait(60)
        os.waitid(os.P_PID, remote.process.pid, os.WSTOPPED)
        with changed:
            changed.wait_for(lambda: long_enough(have), 60)
        assert victim not in have
        remote.process.send_signal(signal.SIGCONT)

    remote.on_held = asleep.set
    remote.call("hold", GIVEN if victim == SENDER else TAKEN, run.size // 2, "stopped").result()
    with ThreadPoolExecutor(1) as helper:
        waking = helper.submit(wake_up)
        run.to_end(on_event)
        waking.result()
    assert not remote.dead
    run.clear()


@pytest.mark.parametrize("victim", [MIDDLE, LAST], ids=["relay", "recipient"])
def test_while_one_is_stopped_the_others_end_and_then_it_goes_on(nodes: Processes, victim: str) -> None:
    """The last one, behind a relay that is stopped, has to notice that: it takes some seconds."""
    stopped(nodes, victim, lambda have: have == {*RECIPIENTS} - {victim})


@pytest.mark.long
@victims
def test_one_that_is_stopped_for_half_a_minute_goes_on(nodes: Processes, victim: str) -> None:
    over = threading.Event()
    timer = threading.Timer(30, over.set)
    timer.start()
    stopped(nodes, victim, lambda have: over.wait())
    timer.join()
