"""One file from the outside to a node, from there to another, and out again, through Ray's object store. Needs Ray.

PARAMS: {"address": "ray://host:port" (or a GCS address, on a node), "nodes": [first, second], "size": 16 MiB}. The same name
may be given twice.

Events:
- {"event": "file", "bytes", "sha256"}: the random file that is sent.
- {"event": "hop", "source", "target", "ok", "sha256", "seconds", "detail"}: of outside → first, first → second, second →
  outside, each with the hash of the file that was written there, read anew; seconds for moving, writing and hashing. A hop
  that fails (sha256 null) says why in `detail`, and is the last.
- {"event": "done"}

Files are temporary and have no name, so that none stays, whatever happens. Ray is used in a child process, which may hang.
"""

import hashlib
import os
import sys
import tempfile
import time

from child import CUT, step, supervised
from common import connect, emit, parameters

OUTSIDE = "outside"
LIMITS = {"connect": 30.0, "start": 25.0, "in": 30.0, "across": 30.0, "out": 30.0}
WORDS = {"connect": "connecting", "start": "starting an actor on each node"}


def holder_class():
    """The class of the actors; made here, so that it travels by value and needs no module of ours there."""

    class Holder:
        def __init__(self):
            import tempfile

            self.file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the actor)

        def ready(self):
            return True

        def take(self, content):
            """Write what came; returns the hash of what is in the file then."""
            import hashlib

            self.file.write(content)
            self.file.seek(0)
            return hashlib.sha256(self.file.read()).hexdigest()

        def give(self):
            self.file.seek(0)
            return self.file.read()

    return Holder


def send(params, outside, digest, say):
    """All three hops; runs in a child."""
    first, second = params["nodes"]
    say(step("connect"))
    ray = connect(params["address"], time.monotonic() + LIMITS["connect"])
    say(step("start"))
    holders = start(ray, (first, second))
    say(step("in"))
    began = time.monotonic()
    outside.seek(0)
    arrived = ray.get(holders[0].take.remote(ray.put(outside.read())))
    say(hop(OUTSIDE, first, digest, arrived, began))
    say(step("across"))
    began = time.monotonic()
    arrived = ray.get(holders[1].take.remote(holders[0].give.remote()))
    say(hop(first, second, digest, arrived, began))
    say(step("out"))
    began = time.monotonic()
    with tempfile.TemporaryFile() as back:
        back.write(ray.get(holders[1].give.remote()))
        back.seek(0)
        arrived = hashlib.sha256(back.read()).hexdigest()
    say(hop(second, OUTSIDE, digest, arrived, began))


def start(ray, names):
    """An actor on each of the nodes."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = {node["NodeName"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
    missing = sorted(set(names) - set(alive))
    if missing:
        raise LookupError(f"not alive: {', '.join(missing)}")
    remote = ray.remote(num_cpus=0)(holder_class())
    holders = [
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(alive[name], soft=False)).remote()
        for name in names
    ]
    ray.get([holder.ready.remote() for holder in holders])
    return holders


def hop(source, target, sent, arrived, began):
    ok = sent == arrived
    detail = "" if ok else f"what arrived has SHA-256 {arrived}, what was sent {sent}"
    seconds = round(time.monotonic() - began, 3)
    return {
        "event": "hop",
        "source": source,
        "target": target,
        "ok": ok,
        "sha256": arrived,
        "seconds": seconds,
        "detail": detail,
    }


def failed(event, nodes):
    """A step that was cut, as the hop that it was to be; what comes before the first hop fails that one."""
    first, second = nodes
    source, target = {"across": (first, second), "out": (second, OUTSIDE)}.get(event["step"], (OUTSIDE, first))
    words = WORDS.get(event["step"])
    detail = f"{words}: {event['why']}" if words else event["why"]
    fields = {"ok": False, "sha256": None, "seconds": event["seconds"], "detail": detail}
    return {"event": "hop", "source": source, "target": target, **fields}


def main():
    params = parameters()
    with tempfile.TemporaryFile() as outside:
        content = os.urandom(int(params.get("size", 16 << 20)))
        outside.write(content)
        outside.flush()
        digest = hashlib.sha256(content).hexdigest()
        emit("file", bytes=len(content), sha256=digest)
        for event in supervised(lambda say: send(params, outside, digest, say), LIMITS):
            emit(**(failed(event, params["nodes"]) if event["event"] == CUT else event))
    emit("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
