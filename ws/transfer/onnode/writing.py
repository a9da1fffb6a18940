"""One chunk on its way into the files that it is of."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

from ws.transfer.onnode import hashing
from ws.transfer.onnode.chunks import PIECE, SmallFiles, is_unwritten
from ws.transfer.onnode.entries import Entry
from ws.transfer.onnode.problems import BAD_CHUNK, TransferProblem
from ws.transfer.onnode.staging import Staging

_RUN = 64 << 10  # bytes; zeros of a sparse file are left out by so many
_AT_ONCE = 128 << 10
"""Bytes. The page cache takes for each write memory in one piece as large as it; the large ones are those that a virtual
machine has given back to its host, and get only when they are touched: writes of 1 MiB take 6 times as long as these."""
_CREATING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class BigPart:
    """A piece of one big file."""

    def __init__(self, staging: Staging, chunk: int) -> None:
        self._held = ExitStack()
        self._index, self._offset, length = staging.layout.first_segment(chunk)
        self._descriptor = self._held.enter_context(staging.tree.shared(self._index))
        # Where the disk holds data of an earlier try, zeros must be written like all else.
        self.is_unwritten = is_unwritten(self._descriptor, self._offset, length)
        self._leaves_holes = self.is_unwritten and staging.listing.entries[self._index].sparse

    def write(self, piece: memoryview) -> None:
        if self._leaves_holes:
            for start, after in _runs(piece):
                _write_at(self._descriptor, piece[start:after], self._offset + start)
        else:
            _write_at(self._descriptor, piece, self._offset)
        self._offset += len(piece)

    def close(self) -> None:
        self._held.close()


class SmallPart:
    """Whole small files, one after another; a file gets its mode and time when its last byte is written."""

    def __init__(self, staging: Staging, chunk: int, is_wanted: Callable[[int], bool]) -> None:
        self._staging = staging
        self._tree = staging.tree
        self._entries = staging.listing.entries
        self._segments = iter(staging.layout.segments(chunk))
        self._is_wanted = is_wanted
        self._folder = SmallFiles()
        self._index, self._left, self._descriptor = -1, 0, -1

    def write(self, piece: memoryview) -> None:
        while piece:
            if not self._left:
                self._next()
            now, piece = piece[: self._left], piece[self._left :]
            self._left -= len(now)
            while now and self._descriptor >= 0:
                now = now[os.write(self._descriptor, now[:_AT_ONCE]) :]
            if not self._left:
                self._finish()

    def _next(self) -> None:
        self._index, _, self._left = next(self._segments)
        if self._is_wanted(self._index):
            try:
                self._descriptor = self._folder.open(self._tree, self._index, _CREATING, 0o600)
            except PermissionError:  # it is there from an earlier try, with its final mode
                path, name = self._tree.split(self._index)
                with self._tree.folder(path) as folder:
                    os.unlink(name, dir_fd=folder)
                self._descriptor = self._folder.open(self._tree, self._index, _CREATING, 0o600)
            if not self._staging.listing.is_folder:
                self._staging.note(self._descriptor)  # it may have been made anew

    def _finish(self) -> None:
        if self._descriptor >= 0:
            try:
                dress(self._descriptor, self._entries[self._index])
            finally:
                self._drop()

    def _drop(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def close(self) -> None:
        self._drop()
        self._folder.leave()


class ChunkWriter:
    """One chunk on its way; `write` its bytes in order, then `commit` or `abort`. For one thread.

    `taken(digest)` is told when it is whole and right, `left()` when it is done with, `failed(error)` makes a
    problem of what the disk said.
    """

    def __init__(
        self,
        part: BigPart | SmallPart,
        length: int,
        algorithm: str,
        taken: Callable[[bytes], None],
        left: Callable[[], None],
        failed: Callable[[OSError], TransferProblem],
    ) -> None:
        self.part = part
        self._left_over = length
        self._known = hashing.new(algorithm)
        self._taken, self._left, self._failed = taken, left, failed
        self._open = True

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Problems: no-space, read-only; bad-chunk where there are more bytes than the chunk has."""
        view = memoryview(piece)
        if len(view) > self._left_over:
            raise TransferProblem(BAD_CHUNK, "a chunk is longer than it may be", "", "it is fetched again")
        self._left_over -= len(view)
        self._known.update(view)
        try:
            self.part.write(view)
        except OSError as error:
            raise self._failed(error) from error

    def commit(self, expected: bytes) -> None:
        """It is had from here on. Problem bad-chunk where its bytes are not those of the digest: it is still missing."""
        digest = self._known.digest()
        if self._left_over or digest != expected:
            why = f"{self._left_over} bytes are missing" if self._left_over else "its hash is another"
            self.abort()
            raise TransferProblem(BAD_CHUNK, "a chunk arrived damaged", why, "it is fetched again")
        try:
            self.part.close()
            self._taken(digest)
        finally:
            self.abort()

    def abort(self) -> None:
        """Forget it: it is missing. Safe after `commit`, and twice."""
        if self._open:
            self._open = False
            self.part.close()
            self._left()


def dress(descriptor: int, entry: Entry) -> None:
    """Give a file its mode and time."""
    os.fchmod(descriptor, entry.mode)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))


def write_zeros(part: BigPart | SmallPart, length: int) -> None:
    block = memoryview(bytes(min(length, PIECE)))
    for start in range(0, length, len(block)):
        part.write(block[: min(len(block), length - start)])


def _write_at(descriptor: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.pwrite(descriptor, piece[:_AT_ONCE], offset)
        piece, offset = piece[count:], offset + count


def _runs(piece: memoryview) -> list[tuple[int, int]]:
    """The parts of it that are not zeros, (start, after), neighbours joined."""
    zeros = bytes(_RUN)
    runs: list[tuple[int, int]] = []
    for start in range(0, len(piece), _RUN):
        after = min(start + _RUN, len(piece))
        if bytes(piece[start:after]) == zeros[: after - start]:
            continue
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], after)
        else:
            runs.append((start, after))
    return runs
