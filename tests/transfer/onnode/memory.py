"""A source and a target in memory, with the interface of Reader and Sink."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator

from ws.transfer.onnode.problems import BAD_CHUNK, BUSY, TransferProblem

SECRET, TID = b"s" * 32, b"t" * 16


class Chunks:
    """A layout of `count` chunks of `size` bytes."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size, self.total = count, size, count * size

    def length(self, index: int) -> int:
        assert 0 <= index < self.count
        return self.size


class Source:
    """Random chunks; those in `holes` are zeros. `lies`: other data, with the digest that belongs to it."""

    def __init__(self, count: int = 12, size: int = 100_000, holes: tuple[int, ...] = (), lies: bool = False) -> None:
        self.layout = Chunks(count, size)
        chance = random.Random(7 if not lies else 8)
        self.holes = set(holes)
        self.data = [bytes(size) if i in self.holes else chance.randbytes(size) for i in range(count)]
        self.asked: list[int] = []
        self.breaks_at: int | None = None

    @property
    def hashes(self) -> bytes:
        return b"".join(self.digest(i) for i in range(self.layout.count))

    def wait_for(self, index: int, timeout: float) -> bool:
        return True

    def is_hole(self, index: int) -> bool:
        return index in self.holes

    def pieces(self, index: int) -> Iterator[memoryview]:
        self.asked.append(index)
        view = memoryview(self.data[index])
        for start in range(0, len(view), 32_768):
            if index == self.breaks_at and start:
                raise TransferProblem("source-changed", "the source was changed")
            yield view[start : start + 32_768]

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self.data[index]).digest()


class Target:
    """What comes, chunk by chunk; served while it is being written."""

    def __init__(self, layout: Chunks, full_after: int | None = None) -> None:
        self.layout, self.total = layout, layout.total
        self.data: dict[int, bytes] = {}
        self.holes: set[int] = set()
        self.full_after = full_after
        self.writes = 0
        self._writing: set[int] = set()
        self._changed = threading.Condition()

    @property
    def done_bytes(self) -> int:
        return len(self.data) * self.layout.size

    @property
    def hashes(self) -> bytes:
        return b"".join(hashlib.sha256(self.data[i]).digest() for i in sorted(self.data))

    def is_missing(self, index: int) -> bool:
        return index not in self.data

    def missing(self) -> Iterator[int]:
        return (i for i in range(self.layout.count) if i not in self.data)

    def wait_for(self, index: int, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: index in self.data, timeout)

    def is_hole(self, index: int) -> bool:
        return index in self.holes

    def pieces(self, index: int) -> Iterator[memoryview]:
        view = memoryview(self.data[index])
        return (view[start : start + 32_768] for start in range(0, len(view), 32_768))

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self.data[index]).digest()

    def writer(self, index: int) -> Writer:
        with self._changed:
            if index in self.data or index in self._writing:
                raise TransferProblem(BUSY, f"chunk {index} is being written")
            self._writing.add(index)
        return Writer(self, index)

    def put(self, index: int, data: bytes | None, expected: bytes) -> None:
        with self._changed:
            self._writing.discard(index)
            if data is None:
                return
            if hashlib.sha256(data).digest() != expected:
                raise TransferProblem(BAD_CHUNK, f"chunk {index} is wrong")
            self.data[index] = data
            self.writes += 1
            self._changed.notify_all()

    def put_hole(self, index: int, digest: bytes) -> None:
        self.put(index, bytes(self.layout.length(index)), digest)
        self.holes.add(index)

    def verify(self, hashes: bytes) -> list[int]:
        bad = [i for i in self.data if self.digest(i) != hashes[32 * i : 32 * i + 32]]
        for index in bad:
            del self.data[index]
        return bad


class Writer:
    def __init__(self, target: Target, index: int) -> None:
        self._target, self._index, self._data = target, index, bytearray()

    def write(self, piece: memoryview) -> None:
        if self._target.full_after is not None and self._target.writes >= self._target.full_after:
            raise TransferProblem("no-space", "the disk is full")
        self._data += piece

    def commit(self, expected: bytes) -> None:
        self._target.put(self._index, bytes(self._data), expected)

    def abort(self) -> None:
        if self._index not in self._target.data:
            self._target.put(self._index, None, b"")
