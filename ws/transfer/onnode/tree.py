"""The files of a listing below one folder that is held open: reached component by component, links never followed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ws.transfer.onnode.entries import Listing
from ws.transfer.onnode.handles import Handles
from ws.transfer.onnode.names import FOLDER_FLAGS

READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # NONBLOCK: a pipe in a file's place must not hang us
_MOST_OPEN = 16


class Tree:
    """Where the entries are: below the folder `top`, whose descriptor it owns.

    `alone`: the name there of the one file of a listing that is no folder. Attribute `open_big`: opens what is `shared`,
    for reading unless it is replaced.
    """

    def __init__(self, top: int, listing: Listing, alone: str = "") -> None:
        self.top = top
        self.open_big: Callable[[int], int] = self.open
        self._entries = listing.entries
        self._alone = alone
        self._folders = Handles(_MOST_OPEN)
        self._files = Handles(_MOST_OPEN)

    def split(self, index: int) -> tuple[str, str]:
        """(folder relative to the top, name in it) of an entry."""
        folder, _, name = self._entries[index].path.rpartition("/")
        return folder, name or self._alone

    @contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """A descriptor of the folder `path` below the top, to hold for a while."""
        descriptor = self.take_folder(path)
        try:
            yield descriptor
        finally:
            self.give_folder_back(path)

    def take_folder(self, path: str) -> int:
        return self._folders.take(path, lambda: self._open_folder(path))

    def give_folder_back(self, path: str) -> None:
        self._folders.give_back(path)

    def _open_folder(self, path: str) -> int:
        folder = os.dup(self.top)
        for part in path.split("/") if path else ():
            try:
                inner = os.open(part, FOLDER_FLAGS, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder

    def open(self, index: int, flags: int = READING, mode: int = 0o600) -> int:
        """A descriptor of an entry's file, the caller's to close."""
        path, name = self.split(index)
        with self.folder(path) as folder:
            return os.open(name, flags, mode, dir_fd=folder)

    @contextmanager
    def shared(self, index: int) -> Iterator[int]:
        """A descriptor of a big file, made by `open_big`, that stays open for the next who asks."""
        descriptor = self._files.take(index, lambda: self.open_big(index))
        try:
            yield descriptor
        finally:
            self._files.give_back(index)

    def close(self) -> None:
        self._files.close()
        self._folders.close()
        top, self.top = self.top, -1
        if top >= 0:
            os.close(top)
