"""Which chunks are still to be fetched, and which are on their way: lowest first, so that a chain flows."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any


class Claims:
    """Not for several threads at once: whoever drives it brings the lock. Memory: a number for each chunk on its way."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._count: int = sink.layout.count
        self.restart()

    def restart(self) -> None:
        """Look at the sink anew; nothing is claimed."""
        self._next = 0
        self._returned: list[int] = []
        self._claimed: set[int] = set()

    def take(self, count: int) -> list[int]:
        """At most so many chunks, which nobody else gets until they are given back."""
        taken: list[int] = []
        while len(taken) < count and self.has_unclaimed():
            index = heapq.heappop(self._returned) if self._returned else self._next
            if index == self._next:
                self._next += 1
            self._claimed.add(index)
            taken.append(index)
        return taken

    def has_unclaimed(self) -> bool:
        """Chunks that came another way meanwhile, or are not wanted at all, are passed over."""
        while self._returned and not self._sink.is_missing(self._returned[0]):
            heapq.heappop(self._returned)
        if self._returned:
            return True
        while self._next < self._count and not self._sink.is_missing(self._next):
            self._next += 1
        return self._next < self._count

    def done(self, index: int) -> None:
        self._claimed.discard(index)

    def give_back(self, indexes: Iterable[int]) -> None:
        """They did not come."""
        for index in indexes:
            if index in self._claimed:
                self._claimed.discard(index)
                heapq.heappush(self._returned, index)

    def all_had(self) -> bool:
        return not self._claimed and not self.has_unclaimed()
