"""What is at the target already: what of it may be the same, what is kept, and so need not be fetched."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from ws.transfer.onnode.entries import FILE, FOLDER, LINK, Listing
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import FOLDER_FLAGS, Place
from ws.transfer.onnode.problems import EXISTS, LINK_REFUSED, NOT_A_FILE, TransferProblem
from ws.transfer.onnode.staging import look_at
from ws.transfer.onnode.tree import Tree

WANTED, IN_PLACE, KEPT = 0, 1, 2


class Existing:
    """Entries by what is known of them under the final name.

    Attributes:
        fate: for each entry, WANTED (to be fetched), IN_PLACE (there, the same) or KEPT (there, another, not touched).
        candidates: wanted entries whose files are there with the same size.
        tree: the files there; None where there is nothing.
    """

    def __init__(self, place: Place, listing: Listing, parent: int, *, overwrite: bool) -> None:
        self._place, self._listing, self._parent = place, listing, parent
        self._overwrite = overwrite
        self.fate = bytearray(len(listing.entries))
        self.candidates: set[int] = set()
        self.tree: Tree | None = None

    def look(self) -> None:
        """Problem `exists` where it is clear already that the target can't have this name, or one of `refuse_odd`."""
        status = self.refuse_odd()
        if status is None:
            return
        if self._listing.is_folder:
            if not stat.S_ISDIR(status.st_mode):
                raise self.problem("it is no folder", "remove it, or choose another destination")
            self.tree = Tree(os.open(self._place.name, FOLDER_FLAGS, dir_fd=self._parent), self._listing)
            self._look_inside(self.tree)
            return
        if stat.S_ISDIR(status.st_mode):
            raise self.problem("it is a folder", "choose another destination")
        self.tree = Tree(os.dup(self._parent), self._listing, self._place.name)
        if stat.S_ISREG(status.st_mode) and status.st_size == self._listing.entries[0].size:
            self.candidates = {0}
        elif not self._overwrite:
            raise self.different()

    def refuse_odd(self) -> os.stat_result | None:
        """What has the final name now. Problems where that is no file or folder: `link-refused`, `not-a-file`."""
        status = look_at(self._parent, self._place.name)
        if status is None or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            return status
        what = f"{self._place.text!r} is there, and is "
        if stat.S_ISLNK(status.st_mode):
            mend = "name what it points to"
            raise TransferProblem(LINK_REFUSED, what + "a symbolic link", "links are neither followed nor replaced", mend)
        why = "devices, sockets and pipes are not replaced"
        raise TransferProblem(NOT_A_FILE, what + "no file or folder", why, "remove it, or choose another destination")

    def problem(self, why: str, mend: str) -> TransferProblem:
        return TransferProblem(EXISTS, f"{self._place.text!r} exists", why, mend)

    def different(self) -> TransferProblem:
        return self.problem("its content is another", "send with --overwrite, or choose another destination")

    def _look_inside(self, tree: Tree) -> None:
        lost: set[str] = set()  # folders that are not there
        barred: set[str] = set()  # folders whose names are taken by something else
        for index, entry in enumerate(self._listing.entries):
            path, name = tree.split(index)
            if path in lost or path in barred:
                if path in barred:
                    self.fate[index] = KEPT
                if entry.kind == FOLDER:
                    (barred if path in barred else lost).add(entry.path)
                continue
            with tree.folder(path) as folder:
                status = look_at(folder, name)
            if entry.kind == FOLDER:
                if status is None:
                    lost.add(entry.path)
                elif not stat.S_ISDIR(status.st_mode):
                    barred.add(entry.path)
                    self.fate[index] = KEPT
            elif status is not None:
                self._judge(index, status)

    def _judge(self, index: int, status: os.stat_result) -> None:
        entry = self._listing.entries[index]
        if entry.kind == FILE and stat.S_ISREG(status.st_mode) and status.st_size == entry.size:
            self.candidates.add(index)
        elif not is_replaceable(entry.kind, status) or (entry.kind == FILE and not self._overwrite):
            self.fate[index] = KEPT

    def settle(self, index: int, *, same: bool) -> None:
        """The candidate was compared with the source."""
        if same:
            self.fate[index] = IN_PLACE
        elif not self._overwrite:
            if not self._listing.is_folder:
                raise self.different()
            self.fate[index] = KEPT
        self.candidates.discard(index)

    def comparable(self, layout: Layout, is_missing: Callable[[int], bool]) -> Iterator[range]:
        """Runs of missing chunks whose files are all there with the right size: a big file's, or one of small files."""
        seen = -1
        for index in sorted(self.candidates):
            chunks = layout.chunks_of(index)
            if not chunks or chunks[0] <= seen:
                continue
            seen = chunks[-1]
            alone = all(segment in self.candidates for segment, _, _ in layout.segments(chunks[0]))
            if alone and all(is_missing(chunk) for chunk in chunks):
                yield chunks

    def close(self) -> None:
        if self.tree is not None:
            self.tree.close()


def is_replaceable(kind: str, there: os.stat_result) -> bool:
    """Whether an entry of that kind may take the place of what is there where that is wanted: files, and links by links."""
    return stat.S_ISREG(there.st_mode) or (kind == LINK and stat.S_ISLNK(there.st_mode))
