"""Which chunks a target has, and waiting for those that it has not yet."""

from __future__ import annotations

import threading
import time
from abc import ABC
from collections.abc import Iterator

from ws.transfer.onnode.chunks import Chunks
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.problems import NOT_READABLE, TransferProblem

MISSING, HAD, SKIPPED = 0, 1, 2
_END = 10.0
"""Seconds that who writes a chunk may take to end: a disk that hangs must not hang all."""


class HadChunks(Chunks, ABC):
    """Chunks that come one by one. For several threads at once.

    Attributes: `total` bytes; `done_bytes`, those had, with those of chunks that need not be fetched.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.total = layout.total
        self.done_bytes = 0
        self.closed = False
        self._state = bytearray(layout.count)
        self._claimed: set[int] = set()
        self._changed = threading.Condition()

    def have(self, chunk: int) -> bool:
        return self._state[chunk] == HAD

    def is_missing(self, chunk: int) -> bool:
        """Whether it is to be fetched."""
        return self._state[chunk] == MISSING

    def missing(self) -> Iterator[int]:
        """Chunks to be fetched, in order; one that is being written counts as missing."""
        chunk = self._state.find(MISSING)
        while chunk >= 0:
            yield chunk
            chunk = self._state.find(MISSING, chunk + 1)

    def wait_for(self, chunk: int, timeout: float) -> bool:
        """Whether it is had, waiting at most `timeout` seconds for it; problem `not-readable` where it never will be."""
        if self.have(chunk):
            return True
        if self._state[chunk] == SKIPPED:
            raise TransferProblem(NOT_READABLE, f"chunk {chunk} is not taken here", "other files are there, and kept")
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.have(chunk) and not self.closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self.have(chunk)

    def take(self, chunk: int, digest: bytes) -> None:
        """It is had."""
        with self._changed:
            self.know(chunk, digest)
            self._state[chunk] = HAD
            self.done_bytes += self.layout.length(chunk)
            self._changed.notify_all()

    def claim(self, chunk: int) -> bool:
        """Whether the caller may write it: it is missing, and nobody else is at it; `unclaim` it."""
        with self._changed:
            if not self.is_missing(chunk) or chunk in self._claimed or self.closed:
                return False
            self._claimed.add(chunk)
            return True

    def unclaim(self, chunk: int) -> None:
        with self._changed:
            self._claimed.discard(chunk)
            if self.closed:
                self._changed.notify_all()

    def drop(self, chunk: int) -> None:
        """It is not had after all."""
        with self._changed:
            self._state[chunk] = MISSING
            self.forget(chunk)
            self.done_bytes -= self.layout.length(chunk)

    def skip(self, chunk: int) -> None:
        """It need not be fetched."""
        with self._changed:
            self._state[chunk] = SKIPPED
            self.done_bytes += self.layout.length(chunk)

    def end_waiting(self) -> bool:
        """Nothing comes any more; whether that was known already. Waits a while for those who are writing a chunk."""
        with self._changed:
            already, self.closed = self.closed, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._claimed, _END)
        return already
