"""The one clock that leases are counted by."""

from __future__ import annotations

import time


def steady() -> float:
    """Seconds that never go back, and that go on while the machine sleeps.

    `time.monotonic` stands still on Linux while a laptop or a virtual machine is suspended: a head that wakes up
    would believe that its lease still lasts.
    """
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()


_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)
