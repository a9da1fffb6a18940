"""Two calls that Python has no name for; each says whether it did it."""

from __future__ import annotations

import ctypes
import errno
import os

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def reserve(descriptor: int, size: int) -> bool:
    """Room on disk for `size` bytes, and that length; OSError where there is none.

    Not `posix_fallocate`: where the file system can't, that one writes a byte to every block.
    """
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return False
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return _done(int(fallocate(descriptor, 0, 0, size)))


def sync_all(descriptor: int) -> bool:
    """Everything on the file system of that file is on the disk afterwards: quicker than one `fsync` for each of many."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError):
        return False
    return _done(int(syncfs(descriptor)))


def _done(result: int) -> bool:
    if not result:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number))
