"""How soon a watcher shows what happens to a real cluster: a node joins and is killed, the head is killed and returns.

    python bench/connection.py [ROUNDS]

The cluster is one of plain `ray start` on this machine. "Known" is when the dashboard's own state API tells it.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import machine, verdict

from tests.cluster.ray_here import RayHere
from ws.cluster.connect import Connector, Wish
from ws.cluster.connection import State
from ws.cluster.nodes import NodeState
from ws.cluster.watcher import View, Watcher

BARS = {
    "connected, from the GCS's address": 3.0,
    "a node that joined shows, after it is known": 2.0,
    "a killed node is suspect": 5.0,
    "a killed head is noticed": 10.0,
    "connected, after the head answers again": 10.0,
}


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; {rounds} rounds; the worst of them, seconds")
    found = [measure() for _ in range(rounds)]
    met = []
    for name, bar in BARS.items():
        values = [each[name] for each in found]
        print(f"{name:<46}{statistics.median(values):6.2f} (at most {max(values):.2f})")
        met.append(verdict(name, max(values), bar))
    return 0 if all(met) else 1


def measure() -> dict[str, float]:
    with ExitStack() as ends:
        cluster = RayHere()
        ends.callback(cluster.close)
        head = cluster.start_head()
        cluster.await_alive(1)
        watcher = Watcher(Connector(Wish(cluster.gcs)))
        ends.callback(watcher.close)
        watcher.connect()
        times = [until(watcher, lambda view: view.state is State.connected)]
        worker = cluster.start_worker()
        cluster.await_alive(2)
        times.append(until(watcher, lambda view: len(view.nodes) == 2))
        until(watcher, lambda view: all(node.seen.port for node in view.nodes))
        time.sleep(2)  # a node's raylet is felt only once it is followed
        killed = time.monotonic()  # before the signal is sent: killing all of a node takes a moment
        worker.kill()
        times.append(until(watcher, lambda view: view.nodes[1].state is not NodeState.alive, killed))
        killed = time.monotonic()
        head.kill()
        times.append(until(watcher, lambda view: view.state is State.reconnecting, killed))
        cluster.start_head()
        cluster.await_alive(1)
        times.append(until(watcher, lambda view: view.state is State.connected))
        return dict(zip(BARS, times, strict=True))


def until(watcher: Watcher, condition: Callable[[View], bool], since: float | None = None) -> float:
    began = time.monotonic() if since is None else since
    if not watcher.wait(condition, 120):
        raise SystemExit(f"not within 120 s: {watcher.view()}")
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
