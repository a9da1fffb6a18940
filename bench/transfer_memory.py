"""Memory for bench/transfer.py that is at hand: on a virtual machine, free memory may not be."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20
_HOLE = 256 << 10
"""Bytes. A host takes back what is free in pieces of 2 MiB or more: these holes it leaves alone."""


@contextmanager
def memory_at_hand(size: int) -> Iterator[None]:
    """Keep about `size` bytes of free memory from being given back to the host.

    A virtual machine with free page reporting gives back what is free, and gets it again page by page as it is touched, at
    1 to 2 s for each GiB: the page cache of each new copy then costs more than sending it, whoever does. So twice `size`,
    or half of what is to be had where that is less, is touched once, and every second piece let go.
    """
    size = min(size, available() // 4)
    with mmap.mmap(-1, 2 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        touched = bytes(MIB)
        for start in range(0, 2 * size, MIB):
            held[start : start + MIB] = touched[: min(MIB, 2 * size - start)]
        for start in range(0, 2 * size - _HOLE, 2 * _HOLE):
            held.madvise(mmap.MADV_DONTNEED, start, _HOLE)
        yield


def available() -> int:
    """Bytes of memory that are to be had."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
