"""A driver for test_ray_link.py: two actors and this process move chunks through Ray. Prints one JSON object.

The package is pickled by value: the actors' processes import nothing of `ws`.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import ray

from ws.transfer import onnode
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.pulling import Puller
from ws.transfer.onnode.ray_link import as_values, from_values, links, read_block, value_count, write_block

COUNT, SIZE = 6, 3_000_000
HOLE = 2


class Layout:
    count, total, chunk_size = COUNT, COUNT * SIZE, SIZE

    def length(self, index: int) -> int:
        return SIZE


class Store:
    """Both a source and a target."""

    def __init__(self, full: bool) -> None:
        self.layout, self.total = Layout(), COUNT * SIZE
        chance = random.Random(1)
        data = {i: bytes(SIZE) if i == HOLE else chance.randbytes(SIZE) for i in range(COUNT)}
        self.data = data if full else {}

    @property
    def done_bytes(self) -> int:
        return len(self.data) * SIZE

    def is_missing(self, index: int) -> bool:
        return index not in self.data

    def wait_for(self, index: int, seconds: float) -> bool:
        return index in self.data

    def is_hole(self, index: int) -> bool:
        return index == HOLE

    def pieces(self, index: int) -> Iterator[memoryview]:
        view = memoryview(self.data[index])
        return (view[start : start + 1_000_000] for start in range(0, SIZE, 1_000_000))

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self.data[index]).digest()

    def put_hole(self, index: int, digest: bytes) -> None:
        assert hashlib.sha256(bytes(SIZE)).digest() == digest
        self.data[index] = bytes(SIZE)

    def writer(self, index: int) -> Writer:
        return Writer(self, index)


class Writer:
    def __init__(self, store: Store, index: int) -> None:
        self.store, self.index, self.got = store, index, bytearray()

    def write(self, piece: memoryview) -> None:
        self.got += piece

    def commit(self, expected: bytes) -> None:
        if hashlib.sha256(self.got).digest() != expected:
            raise TransferProblem("bad-chunk", "wrong")
        self.store.data[self.index] = bytes(self.got)

    def abort(self) -> None:
        pass


class Node:
    def __init__(self, full: bool) -> None:
        self.store = Store(full)

    def read_block(self, tid: str, index: int, count: int) -> Any:
        try:
            return as_values(read_block(self.store, index, 0.1), count)
        except TransferProblem as problem:
            return as_values({"problem": problem.as_dict()}, count)

    def write_block(self, tid: str, index: int, *values: Any) -> bool:
        write_block(self.store, index, from_values(values))
        return True

    def progress(self, tid: str) -> dict[str, Any]:
        return {}

    def pull(self, actor: Any) -> dict[str, Any]:
        puller = Puller(self.store, b"t" * 16, b"s" * 32, [peer(actor)], links=links)
        puller.run()
        return puller.progress()

    def imported(self) -> list[str]:
        return [name for name in sys.modules if name.startswith("ws.")]

    def hashes(self) -> list[str]:
        return [self.store.digest(i).hex() for i in sorted(self.store.data)]


def peer(actor: Any) -> dict[str, Any]:
    return {"name": "origin", "addresses": [], "actor": actor, "origin": True}


def main(address: str) -> None:
    ray.init(address=address, log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(onnode)
    node = ray.remote(num_cpus=0, max_concurrency=16)(Node)
    source, target, pushed = node.remote(True), node.remote(False), node.remote(False)
    expected = ray.get(source.hashes.remote(), timeout=60)
    progress = ray.get(target.pull.remote(source), timeout=60)
    here = Store(False)
    Puller(here, b"t" * 16, b"s" * 32, [peer(target)], links=links).run()
    for index in range(COUNT):
        values = as_values(read_block(here, index), value_count(SIZE))
        ray.get(pushed.write_block.remote("", index, *values), timeout=60)
    ray.kill(target)
    code = ""
    try:
        Puller(Store(False), b"t" * 16, b"s" * 32, [peer(target)], links=links, patience=3.0).run()
    except TransferProblem as problem:
        code = problem.code
    told = {
        "progress": progress,
        "pulled": [here.digest(i).hex() for i in range(COUNT)] == expected,
        "pushed": ray.get(pushed.hashes.remote(), timeout=60) == expected,
        "imported": ray.get(source.imported.remote(), timeout=60),
        "killed": code,
    }
    sys.stdout.write(json.dumps(told) + "\n")
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
