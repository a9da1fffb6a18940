"""Latency and bandwidth between every two nodes, in both directions; a driver on the head. Needs Ray.

PARAMS: {"address": GCS as for `ray.init`, "nodes": names, "pair_timeout": 4.0, "start_timeout": 20.0, "calls": 200,
"size": bytes of an object, 32 MiB by default}; times in seconds.

Events:
- {"event": "link", "source", "target", "median_ms", "p99_ms", "calls", "bandwidth", "bytes", "trouble"} for each ordered
  pair, as they are measured. Latency: calls of an actor on the target by one on the source, after some that don't count;
  `calls` of them, or as many as half of `pair_timeout` gives time for; of less than 100, p99_ms is the maximum.
  Bandwidth: bytes per second of an object that the source put and the target fetched, by the target's clock. What was not
  measured is null, and `trouble` says why; else it is "".
- {"event": "done"}; {"event": "connecting", "why"} before, where connecting takes more than one attempt.

A pair that hangs is given up after `pair_timeout` for its calls, and as much for its object; the others go on.
"""

import sys
import time

from common import brief, connect, emit, parameters

CONNECT_LIMIT = 15.0
LATE = 2.0  # seconds that an actor's own report of what hung may take


def peer_class():
    """The class of the actors; made here, so that it travels by value and needs no module of ours there."""

    class Peer:
        def ready(self):
            return True

        def echo(self, number):
            return number

        def call(self, other, calls, limit):
            """Milliseconds of each call, as many as half of `limit` allows; raises GetTimeoutError where one hangs."""
            import time

            import ray

            enough, ends = time.monotonic() + limit / 2, time.monotonic() + limit
            took = []
            while len(took) < calls + 5 and (len(took) < 6 or time.monotonic() < enough):
                began = time.perf_counter()
                ray.get(other.echo.remote(len(took)), timeout=max(0.01, ends - time.monotonic()))
                took.append((time.perf_counter() - began) * 1000)
            return took[5:]

        def send(self, other, size, limit):
            """Seconds until the other had a new object of ours; None where it did not come."""
            import os

            import ray

            parcel = ray.put(os.urandom(1 << 16) * (size >> 16))
            return ray.get(other.fetch.remote([parcel], limit), timeout=limit + 1)

        def fetch(self, parcel, limit):
            import time

            import ray

            began = time.perf_counter()
            ready, _ = ray.wait(parcel, timeout=limit, fetch_local=True)
            return time.perf_counter() - began if ready else None

    return Peer


class Matrix:
    """The actors, one on each node, and why there is none on the others."""

    def __init__(self, ray, params):
        self.ray = ray
        self.nodes = params["nodes"]
        self.limit = float(params.get("pair_timeout", 4.0))
        self.start_limit = float(params.get("start_timeout", 20.0))
        self.calls = int(params.get("calls", 200))
        self.size = int(params.get("size", 32 << 20)) >> 16 << 16
        self.peers = {}
        self.trouble = {}

    def start(self):
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        alive = {node["NodeName"]: node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        remote = self.ray.remote(num_cpus=0)(peer_class())
        for name in self.nodes:
            if name in alive:
                here = NodeAffinitySchedulingStrategy(alive[name], soft=False)
                self.peers[name] = remote.options(scheduling_strategy=here).remote()
            else:
                self.trouble[name] = f"{name} is not alive"
        waiting = {peer.ready.remote(): name for name, peer in self.peers.items()}
        ready, late = (
            self.ray.wait(list(waiting), num_returns=len(waiting), timeout=self.start_limit) if waiting else ([], [])
        )
        for ref in late:
            self.trouble[waiting[ref]] = f"no actor started on {waiting[ref]} within {self.start_limit:g} s"
        for ref in ready:
            try:
                self.ray.get(ref)
            except Exception as error:
                self.trouble[waiting[ref]] = f"no actor on {waiting[ref]}: {brief(error)}"

    def measure(self, source, target):
        """The fields of a pair's event."""
        found = {"median_ms": None, "p99_ms": None, "calls": 0, "bandwidth": None, "bytes": 0}
        trouble = self.trouble.get(source) or self.trouble.get(target)
        if trouble:
            return {**found, "trouble": trouble}
        one, other = self.peers[source], self.peers[target]
        took, trouble = self.answer(one.call.remote(other, self.calls, self.limit), "calls")
        if took:
            took.sort()
            found.update(calls=len(took), median_ms=round(took[len(took) // 2], 3))
            found.update(p99_ms=round(took[min(len(took) - 1, int(len(took) * 0.99))], 3))
            seconds, trouble = self.answer(one.send.remote(other, self.size, self.limit), "an object")
            if seconds:
                found.update(bandwidth=round(self.size / seconds), bytes=self.size)
            elif not trouble:
                trouble = f"an object of {self.size} bytes did not arrive within {self.limit:g} s"
        return {**found, "trouble": trouble}

    def answer(self, ref, what):
        """(the value, ""), or (None, why there is none)."""
        try:
            return self.ray.get(ref, timeout=self.limit + LATE), ""
        except Exception as error:
            late = "Timeout" in type(error).__name__ or "GetTimeoutError" in str(error)
            return None, f"{what}: no answer within {self.limit:g} s" if late else f"{what}: {brief(error)}"


def main():
    params = parameters()
    matrix = Matrix(connect(params["address"], time.monotonic() + CONNECT_LIMIT), params)
    matrix.start()
    for source in matrix.nodes:
        for target in matrix.nodes:
            if source != target:
                emit("link", source=source, target=target, **matrix.measure(source, target))
    emit("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
