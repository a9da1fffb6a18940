"""What keeping track of a large cluster costs: 2,000 nodes and 200 changes per second, by default.

    python bench/tracker.py [NODES] [CHANGES_PER_SECOND] [SECONDS]

The GCS is simulated: each second one look shows every node, and since the look before so many nodes have died, come back
under a new id, changed their free resources, or got an actor. Looks come as JSON text, as from the dashboard, so reading
it is part of the cost. CPU is that of the process over the simulated time; memory what it grew by.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

from common import machine, verdict

from ws.cluster.nodes import Actor, NodeState, NodeTracker, SeenNode

CPU_BAR, MEMORY_BAR = 0.25, 64.0
"""Of one core; and MiB."""


@dataclass
class Cluster:
    """A simulated GCS: nodes by index with their generation, some dead, some with actors."""

    count: int
    chance: random.Random = field(default_factory=lambda: random.Random(4))
    generation: dict[int, int] = field(default_factory=dict)
    dead: set[int] = field(default_factory=set)
    used: dict[int, float] = field(default_factory=dict)
    actors: dict[int, str] = field(default_factory=dict)

    def change(self) -> None:
        index = self.chance.randrange(1, self.count)
        kind = self.chance.random()
        if index in self.dead:
            self.dead.remove(index)
            self.generation[index] = self.generation.get(index, 0) + 1
        elif kind < 0.3:
            self.dead.add(index)
        elif kind < 0.7:
            self.used[index] = self.chance.randrange(8)
        else:
            self.actors[index] = f"actor-{self.chance.randrange(10**9)}"

    def text(self) -> str:
        rows = [self.row(index) for index in range(self.count)]
        actors = [
            {"actor_id": name, "class_name": "CastingNode", "name": name, "namespace": "", "node_id": self.id(index)}
            for index, name in self.actors.items()
            if index not in self.dead
        ]
        return json.dumps({"nodes": rows, "actors": actors})

    def id(self, index: int) -> str:
        return f"{index:08x}{self.generation.get(index, 0):048x}"

    def row(self, index: int) -> dict[str, Any]:
        total = {"CPU": 8.0, "memory": 3.2e10, "object_store_memory": 1.0e10, f"node:10.0.{index // 250}.{index % 250}": 1.0}
        return {
            "node_id": self.id(index),
            "name": f"ray-{index}",
            "address": f"10.0.{index // 250}.{index % 250}",
            "alive": index not in self.dead,
            "head": index == 0,
            "total": total,
            "free": {**total, "CPU": 8.0 - self.used.get(index, 0)},
            "labels": {"ray.io/node-id": self.id(index)},
            "hostname": f"machine-{index}",
            "port": 7000,
        }


def main() -> int:
    nodes, rate, seconds = (int(value) for value in [*sys.argv[1:], *("2000", "200", "60")[len(sys.argv) - 1 :]])
    print(f"{machine()}; {nodes} nodes, {rate} changes per second, {seconds} s simulated; CPU time")
    cluster, tracker = Cluster(nodes), NodeTracker()
    texts = [cluster.text()]
    for _ in range(seconds):
        for _ in range(rate):
            cluster.change()
        texts.append(cluster.text())
    reading, tracking, told = [], [], 0
    numbers: dict[str, int] = {}
    began = time.process_time()
    for text in texts:
        start = time.process_time()
        raw = json.loads(text)
        seen = [SeenNode(**row) for row in raw["nodes"]]
        actors = [Actor(**row) for row in raw["actors"]]
        middle = time.process_time()
        told += len(tracker.update(seen, actors))
        reading.append(middle - start)
        tracking.append(time.process_time() - middle)
    cpu = (time.process_time() - began) / seconds
    for node in tracker.nodes():
        if numbers.setdefault(node.seen.name, node.number) != node.number:
            raise SystemExit(f"{node.seen.name} has two numbers")
    alive = sum(node.state is NodeState.alive for node in tracker.nodes())
    if alive != nodes - len(cluster.dead) or len(tracker.nodes()) != nodes:
        raise SystemExit(f"{alive} alive of {len(tracker.nodes())}, not {nodes - len(cluster.dead)} of {nodes}")
    print(f"reading a look    {statistics.median(reading) * 1000:6.1f} ms (at most {max(reading) * 1000:.1f})")
    print(f"tracking a look   {statistics.median(tracking) * 1000:6.1f} ms (at most {max(tracking) * 1000:.1f})")
    print(f"changes told      {told / seconds:6.0f} per second; every node has the number that it had at first")
    print(f"peak of the whole process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    met = [
        verdict("CPU, share of one core", cpu, CPU_BAR),
        verdict("memory of the tracker, MiB", memory(texts), MEMORY_BAR),
    ]
    return 0 if all(met) else 1


def memory(texts: list[str]) -> float:
    """MiB that the tracker holds after all looks, measured by itself because tracing slows everything."""
    tracemalloc.start()
    tracker = NodeTracker()
    for text in texts[:: max(1, len(texts) // 10)]:
        raw = json.loads(text)
        tracker.update([SeenNode(**row) for row in raw["nodes"]], [Actor(**row) for row in raw["actors"]])
        del raw
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 2**20


if __name__ == "__main__":
    sys.exit(main())
