"""Reading chunks from files: what a source and a target that is served meanwhile have in common."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from ws.transfer.onnode import hashing
from ws.transfer.onnode.hashing import DIGEST
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.problems import NOT_READABLE, SOURCE_CHANGED, TransferProblem
from ws.transfer.onnode.tree import READING, Tree

PIECE = 512 << 10
"""Bytes that are read, sent, received, hashed and written at once. They stay in a core's own cache on the way; and a write
of 1 MiB asks the page cache for so large pieces of memory that a virtual machine has given them back to its host: 3 times
as slow."""
_MOST_BUFFERS = 8


class Chunks(ABC):
    """Chunks that are read with `pread` into a buffer, never mapped: a file cut short is an error then, and no SIGBUS.

    For several threads at once.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._known = bytearray(layout.count)
        self._digests = bytearray(DIGEST * layout.count)
        self._buffers: list[memoryview] = []
        self._zeros: dict[int, bytes] = {}

    @abstractmethod
    def tree_of(self, index: int) -> Tree:
        """Where that entry's file is."""

    @abstractmethod
    def check(self, index: int, descriptor: int) -> None:
        """Raise where the file that was just read is not what was listed."""

    @abstractmethod
    def read_problem(self, error: OSError, index: int) -> TransferProblem:
        """What a failure to read that entry's file means."""

    def digest(self, chunk: int) -> bytes:
        """Its hash, 32 bytes; known when `pieces` have been taken to the end, or it is a hole."""
        if not self._known[chunk]:
            raise TransferProblem(NOT_READABLE, f"chunk {chunk} has not been read yet", "", "report this as a bug")
        return bytes(self._digests[DIGEST * chunk : DIGEST * (chunk + 1)])

    def know(self, chunk: int, digest: bytes) -> None:
        self._digests[DIGEST * chunk : DIGEST * (chunk + 1)] = digest
        self._known[chunk] = 1

    def forget(self, chunk: int) -> None:
        self._known[chunk] = 0

    def is_hole(self, chunk: int) -> bool:
        """Whether it is a part of a sparse file that holds no data; `digest` is known then, and nothing need be read."""
        index, offset, length = self.layout.first_segment(chunk)
        if not self.layout.entries[index].sparse or not self.layout.is_big(chunk):
            return False
        try:
            with self.tree_of(index).shared(index) as descriptor:
                if not is_unwritten(descriptor, offset, length):
                    return False
                self.check(index, descriptor)
        except OSError as error:
            raise self.read_problem(error, index) from error
        if not self._known[chunk]:
            self.know(chunk, self.zeros(length))
        return True

    def zeros(self, length: int) -> bytes:
        """The hash of that many zeros; remembered, as nearly all holes have one length."""
        if length not in self._zeros:
            self._zeros[length] = zeros_digest(length, self.layout.algorithm)
        return self._zeros[length]

    def pieces(self, chunk: int) -> Iterator[memoryview]:
        """Its bytes in order, at most `PIECE` at once; each view holds only until the next is asked for."""
        known = hashing.new(self.layout.algorithm) if not self._known[chunk] else None
        buffer = self._buffers.pop() if self._buffers else memoryview(bytearray(PIECE))
        try:
            for piece in self._read(chunk, buffer):
                if known:
                    known.update(piece)
                yield piece
        finally:
            if len(self._buffers) < _MOST_BUFFERS:
                self._buffers.append(buffer)
        if known:
            self.know(chunk, known.digest())

    def hashed(self, chunk: int) -> bytes:
        """Its digest, read for it where it is not known."""
        if not self._known[chunk] and not self.is_hole(chunk):
            for _ in self.pieces(chunk):
                pass
        return self.digest(chunk)

    def _read(self, chunk: int, buffer: memoryview) -> Iterator[memoryview]:
        if self.layout.is_big(chunk):
            return self._read_big(chunk, buffer)
        return self._read_small(chunk, buffer)

    def _read_big(self, chunk: int, buffer: memoryview) -> Iterator[memoryview]:
        index, offset, length = self.layout.first_segment(chunk)
        try:
            with self.tree_of(index).shared(index) as descriptor:
                for start in range(0, length, PIECE):
                    piece = buffer[: min(PIECE, length - start)]
                    self._fill(descriptor, piece, offset + start, index)
                    if start + PIECE >= length:
                        self.check(index, descriptor)
                    yield piece
        except OSError as error:
            raise self.read_problem(error, index) from error

    def _read_small(self, chunk: int, buffer: memoryview) -> Iterator[memoryview]:
        filled = 0
        folder = SmallFiles()
        try:
            for index, _, length in self.layout.segments(chunk):
                try:
                    descriptor = folder.open(self.tree_of(index), index, READING)
                    try:
                        done = 0
                        while done < length:
                            count = min(PIECE - filled, length - done)
                            self._fill(descriptor, buffer[filled : filled + count], done, index)
                            done, filled = done + count, filled + count
                            if done == length:
                                self.check(index, descriptor)
                            if filled == PIECE:
                                yield buffer
                                filled = 0
                    finally:
                        os.close(descriptor)
                except OSError as error:
                    raise self.read_problem(error, index) from error
        finally:
            folder.leave()
        if filled:
            yield buffer[:filled]

    def _fill(self, descriptor: int, piece: memoryview, offset: int, index: int) -> None:
        done = os.preadv(descriptor, [piece], offset)
        while done < len(piece):
            count = os.preadv(descriptor, [piece[done:]], offset + done)
            if not count:
                path = self.layout.entries[index].path
                raise TransferProblem(SOURCE_CHANGED, f"{path or 'the file'!r} has become shorter", "", "send it again")
            done += count


class SmallFiles:
    """The folder that small files are opened in: most files of a chunk are in the same one."""

    def __init__(self) -> None:
        self._held: tuple[Any, ...] = (None, "", -1)

    def open(self, tree: Tree, index: int, flags: int, mode: int = 0o600) -> int:
        path, name = tree.split(index)
        if tree is not self._held[0] or path != self._held[1]:
            self.leave()
            self._held = (tree, path, tree.take_folder(path))
        return os.open(name, flags, mode, dir_fd=self._held[2])

    def leave(self) -> None:
        tree, path, _ = self._held
        if tree is not None:
            self._held = (None, "", -1)
            tree.give_folder_back(path)


def zeros_digest(length: int, algorithm: str) -> bytes:
    known, block = hashing.new(algorithm), bytes(min(length, PIECE))
    for start in range(0, length, PIECE):
        known.update(block[: min(PIECE, length - start)])
    return known.digest()


def is_unwritten(descriptor: int, offset: int, length: int) -> bool:
    """Whether there is no data there: a hole, or room that was only reserved."""
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA) >= offset + length
    except OSError as error:  # ENXIO: there is none up to the end; else the file system can't tell
        return error.errno == errno.ENXIO and os.fstat(descriptor).st_size >= offset + length
