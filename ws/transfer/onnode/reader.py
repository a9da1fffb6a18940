"""A source being served: its chunks read and hashed, by several connections at once."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable

from ws.transfer.onnode.chunks import Chunks
from ws.transfer.onnode.entries import FILE, FOLDER, Listing
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import Place, open_folder
from ws.transfer.onnode.problems import CANCELLED, SOURCE_CHANGED, TransferProblem, reading_problem
from ws.transfer.onnode.tree import Tree


class Reader(Chunks):
    """The chunks of what `scan` listed at `place`; `wait_for`, `is_hole`, `pieces` and `digest` are what serves them.

    Problems of every method: `source-changed`, `not-readable`.
    """

    def __init__(self, place: Place, listing: Listing, layout: Layout) -> None:
        super().__init__(layout)
        self._place = place
        self._entries = listing.entries
        if listing.is_folder:
            self._tree = Tree(open_folder(place), listing)
        else:
            self._tree = Tree(open_folder(place.parent), listing, place.name)
        # `cp -p` and `rsync --inplace` put the time of the last write back; that of the last change nobody can set.
        self._changed_at = array("q", [0]) * len(listing.entries)
        try:
            self.check_unchanged()
        except BaseException:
            self.close()
            raise

    def tree_of(self, index: int) -> Tree:
        return self._tree

    def wait_for(self, chunk: int, timeout: float) -> bool:
        """A source has all its chunks."""
        return True

    def digests(self, stop: Callable[[], bool] | None = None) -> bytes:
        """Every chunk's, joined, those computed that were not served yet. Problem `cancelled` where `stop` says so."""
        for chunk in range(self.layout.count):
            if stop and stop():
                raise TransferProblem(CANCELLED, "the source is not read to its end", "the transfer was ended")
            self.hashed(chunk)
        return bytes(self._digests)

    def check_unchanged(self) -> None:
        """Problem `source-changed` where a file or link is no more what was listed; what is new in a folder is no matter."""
        folder, path, held = -1, "", False
        try:
            for index, entry in enumerate(self._entries):
                if entry.kind == FOLDER:
                    continue
                where, name = self._tree.split(index)
                if not held or where != path:
                    if held:
                        self._tree.give_folder_back(path)
                        held = False
                    path, folder, held = where, self._tree.take_folder(where), True
                self._compare(index, os.stat(name, dir_fd=folder, follow_symlinks=False))
        except OSError as error:
            raise self._changed(index, f"it can't be read any more: {error.strerror}") from error
        finally:
            if held:
                self._tree.give_folder_back(path)

    def check(self, index: int, descriptor: int) -> None:
        self._compare(index, os.fstat(descriptor))

    def _compare(self, index: int, status: os.stat_result) -> None:
        entry = self._entries[index]
        if entry.kind == FILE and status.st_size != entry.size:
            raise self._changed(index, f"it had {entry.size} bytes and has {status.st_size}")
        if status.st_mtime_ns != entry.mtime_ns:
            raise self._changed(index, "it was written to meanwhile")
        noted = self._changed_at[index] = self._changed_at[index] or status.st_ctime_ns
        if status.st_ctime_ns != noted:
            raise self._changed(index, "it was written to meanwhile, or its mode, owner, name or links have changed")

    def _changed(self, index: int, why: str) -> TransferProblem:
        return TransferProblem(
            SOURCE_CHANGED, f"{self._path(index)!r} has changed since it was listed", why, "send it again"
        )

    def _path(self, index: int) -> str:
        path = self._entries[index].path
        return f"{self._place.text}/{path}" if path else self._place.text

    def read_problem(self, error: OSError, index: int) -> TransferProblem:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return self._changed(index, "it is gone")
        if error.errno == errno.ESPIPE:
            return self._changed(index, "it is no file any more")
        return reading_problem(error, self._path(index))

    def close(self) -> None:
        """Close its files; those being read when their thread is done with them."""
        self._tree.close()
