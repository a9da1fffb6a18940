"""Memory for bench/transfer.py that is at hand: on a virtual machine, free memory may not be."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20
_BLOCK = 2 * MIB
"""Bytes. What a host takes back is free in one piece of this size or more; it is that of a huge page too."""


@contextmanager
def memory_at_hand(size: int) -> Iterator[None]:
    """Keep about `size` bytes of free memory from being given back to the host, in pieces of 1 MiB.

    A virtual machine with free page reporting gives back what is free, and gets it again page by page as it is touched, at
    1 to 2 s for each GiB: the page cache of each new copy then costs more than sending it, whoever does. So twice `size`,
    or half of what is to be had where that is less, is touched once as huge pages, and half of each let go. Pieces of 1 MiB
    serve every size of write alike; with smaller ones, who writes more at once gets its memory from the host again.
    """
    size = min(size, available() // 4) // MIB * MIB
    with mmap.mmap(-1, 2 * size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.madvise(mmap.MADV_HUGEPAGE)
        touched = b"1" * MIB  # zeros would be freed, all of them, when the huge pages are split
        for start in range(0, 2 * size, MIB):
            held[start : start + MIB] = touched
        for start in range(0, 2 * size, _BLOCK):
            held.madvise(mmap.MADV_FREE, start, MIB)  # of half a huge page: which splits it, so that what follows frees it
            held.madvise(mmap.MADV_DONTNEED, start, MIB)
        yield


def available() -> int:
    """Bytes of memory that are to be had."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
