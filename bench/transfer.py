"""Files between nodes, against what others do the same with: `ws.transfer`, rsync, scp, rclone, nc, uftp.

    python bench/transfer.py [ROUNDS] [--only unicast|broadcast|files|nat]

Real clusters on this machine, all tools in the same containers (tools/get-peers makes their image). The source is random
data and in the page cache, nobody fsyncs, memory for the copies is at hand (`transfer_memory`); every copy is compared
with its source, outside the time. The tools take turns, in another order each round, after a round to warm up. Medians, and
the ratio round by round. Ends with 1 where a bar is missed, or the peer that it is about is missing; fewer than 7 rounds
are no verdict.

Ours goes through `ws.transfer` as `ws send` does, over a Ray Client connection that is open already and with actors that are
started, as the peers' servers are; planning and receipts are in its time. Shaping links and reading control groups take this
machine's root.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common import machine
from transfer_contest import MIB, Contest, put_aside
from transfer_links import check_rate, pin_congestion_control, shape
from transfer_nodes import BASE, DATA, Node, cluster, note
from transfer_ours import Ours
from transfer_peers import BROADCAST, IPERF_PORT, RSYNC_DAEMON, UNICAST, nc

RECIPIENTS, MBIT = 8, 500
FILES, FILE_SIZE = 10_000, 4096
# The last worker port of the head's block: published like its transfer port, and the last that Ray would take.
NAT_NC_PORT = BASE + 8 + 16 - 1
STREAM, STREAM_SHA256, RAY = "ws, stream plane", "ws, stream plane, SHA-256", "ws, ray plane"


def random_file(node: Node, name: str, size: int) -> None:
    node.run(f"head -c {size} /dev/urandom > {DATA}/{name}; sync -f {DATA}")


def unicast(folder: Path, rounds: int, scale: float) -> list[bool]:
    size = int(1024 * MIB * scale)
    with pair(folder, outside=False) as (ours, (sender, recipient), congestion):
        random_file(sender, "one.bin", size)
        title = f"Unicast of {size // MIB} MiB, node to node, {congestion}"
        contest = Contest(title, (sender, recipient), "one.bin", size, ours.start_actors)
        says = "{} of every chunk, checked by the recipient"
        to_one = partial(ours.send, sender, [recipient], "one.bin")
        contest.add(STREAM, partial(to_one, "stream"), [recipient], says.format("BLAKE3"))
        contest.add(STREAM_SHA256, partial(to_one, "stream", "sha256"), [recipient], says.format("SHA-256"))
        contest.add(RAY, partial(to_one, "ray"), [recipient], says.format("BLAKE3"))
        contest.add_peers(UNICAST, sender, [recipient])
        contest.run(rounds)
        contest.show(rounds)
        for peer in UNICAST[1:]:
            contest.tell(STREAM, peer.name)
        return [contest.bar(STREAM, RSYNC_DAEMON.name, 0.75), contest.bar(RAY, RSYNC_DAEMON.name, 1.4)]


def files(folder: Path, rounds: int, scale: float) -> list[bool]:
    count = int(FILES * scale)
    with pair(folder, outside=False) as (ours, (sender, recipient), congestion):
        for node in (sender, recipient):
            node.use_new_disk(folder / f"{node.hostname}.ext4", (rounds + 2) * 2 * count)
        make = f"import os\nfor n in range({count}): open(f'{DATA}/many/{{n:05}}', 'wb').write(os.urandom({FILE_SIZE}))"
        sender.run(f'mkdir {DATA}/many && python3 -c "{make}" && sync -f {DATA}')
        title = f"{count} files of {FILE_SIZE // 1024} KiB, node to node, {congestion}"
        contest = Contest(title, (sender, recipient), "many", count * FILE_SIZE, ours.start_actors, tidy=put_aside)
        contest.add(STREAM, partial(ours.send, sender, [recipient], "many", "stream"), [recipient])
        contest.add_peers([RSYNC_DAEMON], sender, [recipient])
        contest.run(rounds)
        contest.show(rounds)
        return [contest.bar(STREAM, RSYNC_DAEMON.name, 1.0)]


def broadcast(folder: Path, rounds: int, scale: float) -> list[bool]:
    size = int(256 * MIB * scale)
    with cluster(folder, RECIPIENTS + 1, 1, "2g", outside=False) as nodes, Ours(folder) as ours:
        sender, *recipients = nodes
        congestion = pin_congestion_control(nodes)
        random_file(sender, "one.bin", size)
        for node in nodes:
            shape(node, MBIT)
        rates = [check_rate(sender, node, MBIT, IPERF_PORT) for node in recipients]
        note(f"links: {min(rates):.0f} to {max(rates):.0f} Mbit/s by iperf3")
        links = f"links of {MBIT} Mbit/s (iperf3: {min(rates):.0f})"
        title = f"Broadcast of {size // MIB} MiB to {RECIPIENTS} over {links}, {congestion}"
        contest = Contest(title, nodes, "one.bin", size, ours.start_actors)
        contest.add("ws, to one", partial(ours.send, sender, recipients[:1], "one.bin", "stream"), recipients[:1])
        contest.add("ws, to all", partial(ours.send, sender, recipients, "one.bin", "stream"), recipients)
        contest.add_peers(BROADCAST, sender, recipients)
        contest.run(rounds)
        contest.show(rounds)
        for peer in BROADCAST:
            contest.tell("ws, to all", peer.name)
        return [contest.bar("ws, to all", "ws, to one", 1.25)]


def nat(folder: Path, rounds: int, scale: float) -> list[bool]:
    size = int(1024 * MIB * scale)
    with pair(folder, outside=True) as (ours, (recipient, sender), congestion):
        random_file(sender, "one.bin", size)
        title = f"Through NAT, {size // MIB} MiB from the test network into the cluster, {congestion}"
        contest = Contest(title, (sender, recipient), "one.bin", size, ours.start_actors)
        contest.add(STREAM, partial(ours.send, sender, [recipient], "one.bin", "stream"), [recipient])
        way = partial(nc, sender, recipient, "one.bin", NAT_NC_PORT, hashed=False)
        contest.add("nc", way, [recipient], "no hash, by a published port of the same block")
        contest.run(rounds)
        contest.show(rounds)
        return [contest.bar(STREAM, "nc", 1.25, " (so at least 0.8 of its rate)")]


@contextmanager
def pair(folder: Path, outside: bool) -> Iterator[tuple[Ours, list[Node], str]]:
    """Two nodes with room: both in the cluster's network, or the head and a worker in the test network."""
    replicas = 1 if outside else 2
    with cluster(folder, replicas, 4, "6g", outside=outside) as nodes, Ours(folder) as ours:
        yield ours, nodes, pin_congestion_control(nodes)


PARTS = {"unicast": unicast, "broadcast": broadcast, "files": files, "nat": nat}


def main() -> int:
    parser = argparse.ArgumentParser(description="Transfers against rsync, scp, rclone, nc and uftp, in one run.")
    parser.add_argument("rounds", nargs="?", type=int, default=7)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)  # of the sizes, to try the bench itself
    given = parser.parse_args()
    print(f"{machine()}; page cache warm, no fsync")
    print(
        "CPU: of all the containers and of the coordinator, for each GB received; MiB: the most that a node's memory grew by"
    )
    met: list[bool] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in given.only or PARTS:
            met.extend(PARTS[part](Path(folder), given.rounds, given.scale))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
