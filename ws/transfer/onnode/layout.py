"""How a listing's bytes are cut into chunks, the same at every party.

A file larger than a chunk begins a chunk of its own and is cut into chunks, the last of which may be short. Other files
that follow each other travel together, as many as fit, so that 10,000 small files are a few chunks. Empty files, folders
and links are in the listing alone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from ws.transfer.onnode.entries import FILE, Entry
from ws.transfer.onnode.hashing import SHA256, digest_of

CHUNK_SIZE = 8 << 20  # bytes


class Layout:
    """The chunks of `entries`: three numbers for each, whatever the number of files.

    Attributes: `count` chunks, `total` bytes, `chunk_size` bytes; `algorithm` of the chunks' hashes.
    """

    def __init__(self, entries: Sequence[Entry], chunk_size: int = CHUNK_SIZE, algorithm: str = SHA256) -> None:
        self.entries = entries
        self.chunk_size = chunk_size
        self.algorithm = algorithm
        self._first = array("L")  # the entry that a chunk begins in
        self._offset = array("Q")  # where in that entry
        self._length = array("Q")
        self.total = self._cut()
        self.count = len(self._length)

    def _cut(self) -> int:
        total, open_length = 0, 0  # the length of the last chunk while more small files may join it
        for index, entry in enumerate(self.entries):
            size = entry.size
            if entry.kind != FILE or not size:
                continue
            total += size
            if size > self.chunk_size:
                for offset in range(0, size, self.chunk_size):
                    self._add(index, offset, min(self.chunk_size, size - offset))
                open_length = 0
            elif open_length and open_length + size <= self.chunk_size:
                open_length += size
                self._length[-1] = open_length
            else:
                self._add(index, 0, size)
                open_length = size
        return total

    def _add(self, entry: int, offset: int, length: int) -> None:
        self._first.append(entry)
        self._offset.append(offset)
        self._length.append(length)

    def length(self, chunk: int) -> int:
        """Bytes; above 0."""
        return self._length[chunk]

    def is_big(self, chunk: int) -> bool:
        """Whether it is a piece of one file that is larger than a chunk."""
        return self.entries[self._first[chunk]].size > self.chunk_size

    def first_segment(self, chunk: int) -> tuple[int, int, int]:
        """Index of the entry, offset in that file, and the chunk's length: all there is of a big one."""
        return self._first[chunk], self._offset[chunk], self._length[chunk]

    def segments(self, chunk: int) -> list[tuple[int, int, int]]:
        """What it consists of, in order: index of the entry, offset in that file, length."""
        index, left = self._first[chunk], self._length[chunk]
        if self.is_big(chunk):
            return [(index, self._offset[chunk], left)]
        found = []
        while left:
            entry = self.entries[index]
            if entry.kind == FILE and entry.size:
                found.append((index, 0, entry.size))
                left -= entry.size
            index += 1
        return found

    def chunks_of(self, entry: int) -> range:
        """The chunks that hold bytes of that entry; none for empty files, folders and links."""
        if self.entries[entry].kind != FILE or not self.entries[entry].size:
            return range(0)
        first, after = bisect_left(self._first, entry), bisect_right(self._first, entry)
        return range(first, after) if first < after else range(after - 1, after)


def root_hash(layout: Layout, hashes: bytes) -> str:
    """One hash for the whole, in hexadecimal, by the layout's algorithm. `hashes`: the chunks', 32 bytes each, in order.

    One file of at most one chunk: the hash of its content, as `sha256sum` or `b3sum` gives it. Otherwise the hash of
    `hashes`; docs/transfer.md has the command that gives it for one file.
    """
    if len(layout.entries) == layout.count == 1:
        return hashes.hex()
    return digest_of(layout.algorithm, hashes).hex()
