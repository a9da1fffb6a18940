"""How fast bytes may go: one token bucket for all connections of a transfer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST = 0.1  # seconds' worth of bytes that may go at once after a rest
_LARGEST = 1024 * 1024
_SLICE = 0.02  # seconds' worth of bytes in one slice, so that many connections share evenly and none seems silent


class Limiter:
    """`bytes_per_second` None: no limit. Safe to use from several threads.

    Raises:
        ValueError: for a rate that is not positive.
    """

    def __init__(
        self,
        bytes_per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        if bytes_per_second is not None and bytes_per_second <= 0:
            raise ValueError(f"a rate must be positive, not {bytes_per_second}")
        self._lock = threading.Lock()
        self._clock, self._wait = clock, wait
        self._free_at = clock()
        self._rate = bytes_per_second or 0.0

    def slice(self) -> int:
        """How many bytes to take, and to send or receive, at once; at most 1 MiB."""
        return max(1, min(_LARGEST, int(self._rate * _SLICE))) if self._rate else _LARGEST

    def take(self, count: int) -> None:
        """Wait until `count` more bytes may go."""
        rate = self._rate
        if not rate:
            return
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _BURST) + count / rate
            pause = self._free_at - now
        if pause > 0:
            self._wait(pause)
