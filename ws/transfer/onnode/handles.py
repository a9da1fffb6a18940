"""Open files, few at a time: shared by threads, the least recently used closed first."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Handles:
    """Descriptors by key, at most `most` of them open besides those in use."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[Hashable, list[int]] = OrderedDict()  # key -> [descriptor, users]
        self._closed = False

    def take(self, key: Hashable, opener: Callable[[], int]) -> int:
        """The descriptor of `key`, opened by `opener` where it is not yet; `give_back` it."""
        with self._lock:
            held = self._open.get(key)
            if held is None:
                held = self._open[key] = [opener(), 0]
            else:
                self._open.move_to_end(key)
            held[1] += 1
            descriptor = held[0]
            self._trim()
        return descriptor

    def give_back(self, key: Hashable) -> None:
        with self._lock:
            held = self._open[key]
            held[1] -= 1
            if self._closed and not held[1]:
                os.close(self._open.pop(key)[0])

    def close(self) -> None:
        """Close all; those in use when they are given back."""
        with self._lock:
            self._closed = True
            for key in [key for key, held in self._open.items() if not held[1]]:
                os.close(self._open.pop(key)[0])

    def _trim(self) -> None:
        if len(self._open) <= self._most:
            return
        for key in [key for key, held in self._open.items() if not held[1]][: len(self._open) - self._most]:
            os.close(self._open.pop(key)[0])
