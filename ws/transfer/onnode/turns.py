"""Who may fill memory now: one measure of bytes for all transfers of a node, given out first come, first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

_BEAT = 0.5


class Turns:
    """At most `most` bytes are out at once. Several threads use it."""

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, count: int, stop: threading.Event) -> Iterator[None]:
        """Wait until so many bytes (more than all: all) are free, then have them for the body.

        Once `stop` is set nobody waits any more: the body has nothing then, and is to end at once.
        """
        count = min(count, self._most)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while not stop.is_set() and (self._queue[0] is not ticket or self._free < count):
                    self._changed.wait(_BEAT)
                count = 0 if stop.is_set() else count
                self._free -= count
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()
