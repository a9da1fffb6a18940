"""Whether the process that runs a transfer still lives: it holds a lock, which the kernel drops when the process ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ws.errors import EnvironmentProblem

_LOOKS, _LOOK = 10, 0.02
"""How often a lock is tried, and seconds between: who only looks whether it is held has it for a moment."""


class Owned(EnvironmentProblem):
    """Another process holds the lock."""


class Owners:
    """Locks of one folder, a file for each transfer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def own(self, transfer: str) -> Iterator[None]:
        """Hold the transfer's lock; raises Owned, or EnvironmentProblem where there can be no locks."""
        path = self._folder / transfer
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = _lock(path, transfer)
        except OSError as error:
            what = f"no locks can be made in {self._folder}, so that a transfer that runs shows as interrupted"
            raise EnvironmentProblem(what, str(error), "make it writable; WS_STATE names another folder") from error
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                path.unlink()
            os.close(held)

    def lives(self, transfer: str) -> bool:
        """Whether a process holds the lock."""
        try:
            asking = os.open(self._folder / transfer, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            fcntl.flock(asking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(asking)
        return False

    def sweep(self) -> None:
        """Remove what processes left that were killed."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                with suppress(OSError), path.open("rb") as file:
                    if _try_lock(file.fileno()) and _is_still(path, file.fileno()):
                        path.unlink()


def _lock(path: Path, transfer: str) -> int:
    looks = 0
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _try_lock(held):
            looks += 1
            os.close(held)
            if looks > _LOOKS:
                raise Owned(f"another process runs the transfer {transfer[:8]}")
            time.sleep(_LOOK)
        elif _is_still(path, held):
            return held
        else:
            os.close(held)  # somebody swept between our opening it and locking it


def _try_lock(descriptor: int) -> bool:
    """Lock it, if nobody else has it; whether that was so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, held: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(held))
    except FileNotFoundError:
        return False
