"""Calls that Python has no name for."""

from __future__ import annotations

import ctypes
import errno
import os

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def reserve(descriptor: int, size: int) -> bool:
    """Room on disk for `size` bytes, and that length; whether it did it. OSError where there is no room.

    Not `posix_fallocate`: where the file system can't, that one writes a byte to every block.
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return _done(int(fallocate(descriptor, 0, 0, size)))


def sync_all(descriptor: int) -> bool:
    """Everything on the file system of that file is on the disk afterwards: quicker than one `fsync` for each of many.

    Returns whether it did it.
    """
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return False
    return _done(int(syncfs(descriptor)))


def give_back_memory() -> None:
    """Let the C library give the system what was freed: pieces of blocks leave its arenas many times as large as a block."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def _done(result: int) -> bool:
    if not result:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))
