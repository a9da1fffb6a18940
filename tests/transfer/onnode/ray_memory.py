"""A driver for test_ray_link.py: a file larger than the object store goes between real parties through Ray: from one actor
to another, from here to an actor, and back. Prints one JSON object: what the node's memory grew by at most, in bytes.

The argument is the cluster's address, an empty folder, and the process that started the node.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray

from ws.transfer import CastingNode
from ws.transfer.here import HereParty
from ws.transfer.onnode.ray_link import links

CHUNK = 8 << 20
COUNT = 32
SECRET = b"s" * 32


def make(path: Path, count: int) -> None:
    block = bytearray(hashlib.shake_256(b"x").digest(CHUNK))
    with path.open("wb") as out:
        for number in range(count):
            block[:4] = number.to_bytes(4, "big")
            out.write(block)


class Memory:
    """What the processes of a node hold at most, beyond what they hold now: their own memory, and the shared memory that was
    touched, counted once. Files in the page cache are no part of it."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._idle = self._held()
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def of(self, action: Callable[[], Any]) -> int:
        self._thread.start()
        try:
            action()
        finally:
            self._ended.set()
            self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._most = max(self._most, self._held() - self._idle)

    def _held(self) -> int:
        found = [fields(pid) for pid in self._pids]
        return sum(each["RssAnon"] for each in found) + max(each["RssShmem"] for each in found)


def fields(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # an idle worker of Ray may end
        lines = []
    found = (line.split() for line in lines if line.startswith("Rss"))
    return {"RssAnon": 0, "RssShmem": 0, **{each[0].rstrip(":"): 1024 * int(each[1]) for each in found}}


class Way:
    """One transfer: `call(party, method, …)` is answered by an actor or by this process."""

    def __init__(self, number: int, source: Any, target: Any, path: str, dest: str) -> None:
        self.tid = f"{number:032x}"
        self.source, self.target = source, target
        offered = call(source, "offer", self.tid, path, SECRET, {"chunk_size": CHUNK})
        self.listing = offered["listing"]
        spec = {"listing": self.listing, "secret": SECRET, "chunk_size": CHUNK, "fsync": False, "dest": dest}
        call(target, "accept", self.tid, spec)

    def pull(self) -> None:
        call(self.target, "pull", self.tid, [{"name": "a", "addresses": [], "actor": self.source, "origin": True}])

    def push(self) -> None:
        call(self.source, "push", self.tid, self.target)

    def settle(self) -> str:
        hashes = call(self.source, "hashes", self.tid)["hashes"]
        receipt = call(self.target, "settle", self.tid, hashes)["receipt"]
        for party in (self.source, self.target):
            call(party, "finish", self.tid)
        return str(receipt["hash"])


def call(party: Any, method: str, *args: Any) -> dict[str, Any]:
    if isinstance(party, HereParty):
        answer = getattr(party, method)(*args)
    else:
        answer = ray.get(getattr(party, method).remote(*args), timeout=120)
    assert "problem" not in answer, answer
    return dict(answer)


def main(address: str, folder: Path, root: int) -> None:
    ray.init(address=address, namespace="castray", log_to_driver=False)
    parties = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        environ = {"env_vars": {"WS_TRANSFER_ROOTS": str(folder / name)}}
        parties.append(CastingNode.options(runtime_env=environ).remote(name))
    first, second = parties
    here = HereParty(links)
    for party in (*parties, here):
        call(party, "start")
    make(folder / "a" / "small", 4)
    make(folder / "a" / "large", COUNT)
    warm_up = Way(1, first, second, "small", "small")
    warm_up.pull()
    warm_up.settle()
    ways = [
        ("between", Way(2, first, second, "large", "1"), Way.pull),
        ("pushed", Way(3, here, second, str(folder / "a" / "large"), "2"), Way.push),
        ("fetched", Way(4, first, here, "large", str(folder / "3")), Way.pull),
    ]
    started = psutil.Process(root).children(recursive=True)
    # Ray Client's server keeps what passed through it, a few hundred megabytes: nothing of ours runs in it.
    pids = [process.pid for process in started if "ray.util.client.server" not in process.cmdline()]
    told: dict[str, Any] = {}
    hashes = set()
    for name, way, move in ways:
        told[name] = Memory(pids).of(partial(move, way))
        hashes.add(way.settle())
    sys.stdout.write(json.dumps({**told, "hashes": len(hashes)}) + "\n")
    for party in parties:
        ray.kill(party)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
