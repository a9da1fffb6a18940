"""Where a target is written before it has its name: `NAME.part` beside it, a file, or a folder with all that is in it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat

from ws.transfer.onnode.entries import FILE, FOLDER, Listing
from ws.transfer.onnode.journal import is_locked
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.linux import reserve
from ws.transfer.onnode.names import FOLDER_FLAGS, LONGEST_NAME, Place, open_folder
from ws.transfer.onnode.problems import BUSY, EXISTS, LOST, NO_SPACE, TransferProblem, size_text, writing_problem
from ws.transfer.onnode.tree import Tree

_SUFFIX, _JOURNAL = ".part", ".journal"
_WRITING = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Staging:
    """The names beside the final one, and what is under them.

    Attributes: `parent`, the descriptor of the folder that the target is in; `part` and `journal`, names there; `tree`,
    the files being written.
    """

    def __init__(self, place: Place, listing: Listing, layout: Layout) -> None:
        self.place = place
        self.listing = listing
        self.layout = layout
        self.part = _part_name(place.name)
        self.journal = self.part + _JOURNAL
        self._made: list[tuple[str, ...]] = []
        self.parent = open_folder(place.parent, make=True, made=self._made)
        self._tree: Tree | None = None
        self._own: tuple[int, int] | None = None  # device and inode of what is being written

    @property
    def tree(self) -> Tree:
        assert self._tree is not None
        return self._tree

    def look(self) -> os.stat_result | None:
        """What is under the name of the part; None: nothing."""
        return look_at(self.parent, self.part)

    def refuse_foreign(self) -> None:
        """Without a journal beside it, a `.part` is someone else's."""
        if self.look() is not None:
            path = self.place.parent.below(self.part).text
            raise TransferProblem(EXISTS, f"{path!r} is there, and is of no transfer", "", "rename or remove it")

    def refuse_names_of_others(self) -> None:
        """Problem busy where the final name is what a transfer that goes on writes, `NAME.part` or its journal."""
        name = self.place.name
        stem = name.removesuffix(_JOURNAL)
        if stem.endswith(_SUFFIX) and is_locked(self.parent, stem + _JOURNAL):
            why = f"another transfer writes {stem.removesuffix(_SUFFIX)!r}"
            raise TransferProblem(BUSY, f"{self.place.text!r} is in use", why, "wait for that one, or send to another name")

    def note(self, descriptor: int) -> None:
        """That is what is being written under the part's name."""
        status = os.fstat(descriptor)
        self._own = status.st_dev, status.st_ino

    def refuse_replaced(self) -> None:
        """What has the part's name must be what was written: whatever else it is, it is not published.

        Problems: exists; lost, where nothing has that name.
        """
        if not self._is_own(status := self.look()):
            path = self.place.parent.below(self.part).text
            if status is None:
                raise TransferProblem(LOST, f"{path!r} is gone", "somebody removed it", "send it again")
            why = "somebody put it there while it was being written"
            raise TransferProblem(EXISTS, f"{path!r} is another file", why, "rename or remove it, then send again")

    def _is_own(self, status: os.stat_result | None) -> bool:
        return status is not None and self._own == (status.st_dev, status.st_ino)

    def clear(self) -> None:
        """Remove what is under the part's name, unless somebody else put it there while it was being written."""
        status = self.look()
        if status is None or (self._own and not self._is_own(status)):
            return
        if stat.S_ISDIR(status.st_mode):
            for _, _, _, folder in os.fwalk(self.part, dir_fd=self.parent):
                os.fchmod(folder, 0o700)  # else one with its final mode may bar the way
            shutil.rmtree(self.part, dir_fd=self.parent)
        else:
            os.unlink(self.part, dir_fd=self.parent)

    def open(self) -> None:
        """Make the part, or take the one that is there; a folder's folders, too."""
        if not self.listing.is_folder:
            self._tree = Tree(os.dup(self.parent), self.listing, self.part)
            self._tree.open_big = self._open_big
            descriptor = self._open_big(0)
            self.note(descriptor)
            os.close(descriptor)
            return
        _ready_folder(self.parent, self.part)
        self._tree = Tree(os.open(self.part, FOLDER_FLAGS, dir_fd=self.parent), self.listing)
        self.note(self._tree.top)
        self._tree.open_big = self._open_big
        for index, entry in enumerate(self.listing.entries):
            if entry.kind == FOLDER:
                path, name = self._tree.split(index)
                with self._tree.folder(path) as folder:
                    _ready_folder(folder, name)

    def _open_big(self, index: int) -> int:
        """For writing and reading: who writes a chunk and who serves one share it."""
        try:
            return self.tree.open(index, _WRITING | os.O_CREAT)
        except PermissionError:  # an earlier try was killed when it had set the mode
            descriptor = self.tree.open(index)
            try:
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
            return self.tree.open(index, _WRITING)

    def reserve(self, wanted: list[int]) -> None:
        """Room for the big files among the entries `wanted`; sparse ones get their length alone."""
        for index in wanted:
            entry = self.listing.entries[index]
            if entry.kind != FILE or entry.size <= self.layout.chunk_size:
                continue
            with self.tree.shared(index) as descriptor:
                if os.fstat(descriptor).st_size > entry.size or entry.sparse or not reserve(descriptor, entry.size):
                    os.ftruncate(descriptor, entry.size)

    def check_space(self, wanted: list[int], small_bytes: int) -> None:
        """Problem `no-space` where the big files among `wanted` and `small_bytes` of others can't fit."""
        space = os.fstatvfs(self.parent)
        need = small_bytes
        for index in wanted:
            entry = self.listing.entries[index]
            if entry.size > self.layout.chunk_size and not entry.sparse:
                need += max(0, entry.size - self._allocated(index))
        free = space.f_bavail * space.f_frsize
        if need > free:
            raise self.no_space(need, free)
        if space.f_files and len(wanted) > space.f_favail:
            why = f"it takes {len(wanted):,} files, and the disk has room for {space.f_favail:,}"
            raise TransferProblem(NO_SPACE, f"no room for {self.place.text!r}", why, "remove files there")

    def _allocated(self, index: int) -> int:
        try:
            path, name = self.tree.split(index)
            with self.tree.folder(path) as folder:
                return os.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
        except OSError:
            return 0

    def no_space(self, need: int, free: int) -> TransferProblem:
        folder = self.place.parent.text
        why = f"it needs {size_text(need)}, and {size_text(free)} are free on {folder}"
        mend = f"free {size_text(max(need - free, 1))} there"
        return TransferProblem(NO_SPACE, f"no room for {self.place.text!r}", why, mend)

    def problem(self, error: OSError, index: int | None = None, need: int = 0) -> TransferProblem:
        """What a failure to write means; `need`: bytes still to come."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT} and need:
            try:
                space = os.fstatvfs(self.parent)
            except OSError:
                return writing_problem(error, self.place.text)
            free = space.f_bavail * space.f_frsize
            if need > free:
                return self.no_space(need, free)
        path = self.listing.entries[index].path if index is not None else ""
        return writing_problem(error, self.place.below(*path.split("/")).text if path else self.place.text)

    def close(self) -> None:
        if self._tree is not None:
            self._tree.close()
        parent, self.parent = self.parent, -1
        if parent >= 0:
            os.close(parent)

    def remove_made(self) -> None:
        """Remove the folders made for the target that are still empty."""
        for parts in reversed(self._made):
            try:
                folder = open_folder(self.place.root, parts[:-1])
            except TransferProblem:
                return
            try:
                os.rmdir(parts[-1], dir_fd=folder)
            except OSError:
                return
            finally:
                os.close(folder)


def look_at(folder: int, name: str) -> os.stat_result | None:
    """The status of a name, of a link itself; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def make_folder(folder: int, name: str) -> bool:
    """Whether it had to be made."""
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _ready_folder(folder: int, name: str) -> None:
    """It is there, and can be written to: one that an earlier try left may have its final mode."""
    if not make_folder(folder, name):
        descriptor = os.open(name, FOLDER_FLAGS, dir_fd=folder)
        try:
            os.fchmod(descriptor, 0o755)
        finally:
            os.close(descriptor)


def _part_name(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) + len(_SUFFIX) + len(_JOURNAL) <= LONGEST_NAME:
        return name + _SUFFIX
    return os.fsdecode(encoded[:200]) + "~" + hashlib.sha256(encoded).hexdigest()[:16] + _SUFFIX
