"""Giving a target that is complete its final name: at once, or, into a folder that is there, file by file."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from ws.transfer.onnode.entries import FILE, FOLDER, LINK, Entry, Listing
from ws.transfer.onnode.existing import IN_PLACE, KEPT, WANTED, Existing, is_replaceable
from ws.transfer.onnode.linux import sync_all
from ws.transfer.onnode.names import FOLDER_FLAGS
from ws.transfer.onnode.problems import NO_SUCH_FILE, TransferProblem
from ws.transfer.onnode.staging import Staging, look_at, make_folder
from ws.transfer.onnode.tree import READING, Tree
from ws.transfer.onnode.writing import dress

_FEW = 64  # files are synced one by one up to here
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV}
_BLOCK = 1 << 20
_MOST_NAMES = 100


class Publisher:
    """Publishes what is staged. `existing.fate` says afterwards what became of each entry."""

    def __init__(self, staging: Staging, existing: Existing, *, overwrite: bool, fsync: bool) -> None:
        self._staging, self._existing = staging, existing
        self._listing: Listing = staging.listing
        self._overwrite, self._fsync = overwrite, fsync
        self._name = staging.place.name

    def finish(self, *, dress_all: bool) -> None:
        """What has no chunks is made; modes and times set; all of it on the disk. `dress_all`: small files, too."""
        big = self._staging.layout.chunk_size
        written = [index for index, fate in enumerate(self._existing.fate) if fate == WANTED]
        files = [index for index in written if self._listing.entries[index].kind == FILE]
        self._refuse_lost(files)
        for index in written:
            entry = self._listing.entries[index]
            if entry.kind == LINK:
                self._make_link(index, entry)
            elif entry.kind == FILE and (dress_all or not entry.size or entry.size > big):
                self._dress(index, entry)
        if self._fsync:
            self._sync(files)

    def _refuse_lost(self, files: list[int]) -> None:
        """A part that somebody has removed files from is not whole."""
        names: dict[str, frozenset[str]] = {}
        for index in files:
            if not self._listing.entries[index].size or index in self._existing.candidates:
                continue  # it is made when it is dressed; an earlier try was killed when it had moved this one already
            path, name = self._staging.tree.split(index)
            if path not in names:
                with self._staging.tree.folder(path) as folder, os.scandir(folder) as listed:
                    names[path] = frozenset(each.name for each in listed)
            if name not in names[path]:
                what = f"{self._listing.entries[index].path or self._name!r} was removed from what has arrived"
                raise TransferProblem(NO_SUCH_FILE, what, "not by us", "send it again: what is missing is fetched")

    def _dress(self, index: int, entry: Entry) -> None:
        flags = os.O_RDONLY if entry.size else os.O_WRONLY | os.O_CREAT
        try:
            descriptor = self._staging.tree.open(index, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            if index in self._existing.candidates:  # an earlier try was killed when it had moved this one already
                return
            raise
        try:
            dress(descriptor, entry)
        finally:
            os.close(descriptor)

    def _make_link(self, index: int, entry: Entry) -> None:
        path, name = self._staging.tree.split(index)
        with self._staging.tree.folder(path) as folder:
            if look_at(folder, name) is None:
                os.symlink(entry.target, name, dir_fd=folder)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _sync(self, files: list[int]) -> None:
        if len(files) > _FEW and sync_all(self._staging.parent):
            return
        for index in files:
            try:
                descriptor = self._staging.tree.open(index)
            except FileNotFoundError:
                continue
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if self._listing.is_folder:
            self._sync_folders(self._staging.tree)

    def _sync_folders(self, tree: Tree) -> None:
        for entry in self._listing.entries:
            if entry.kind == FOLDER:
                with tree.folder(entry.path) as folder:
                    os.fsync(folder)
        os.fsync(tree.top)

    def receipt(self) -> dict[str, Any]:
        """What a receipt says beside the hash; names that were kept, at most 100."""
        entries, fate = self._listing.entries, self._existing.fate
        kept = [entry.path for entry, what in zip(entries, fate, strict=True) if what == KEPT]
        return {
            "path": self._staging.place.text,
            "bytes": self._staging.layout.total,
            "files": sum(entry.kind == FILE for entry in entries),
            "identical": fate.count(IN_PLACE),
            "kept": kept[:_MOST_NAMES],
            "kept_count": len(kept),
            "fsync": self._fsync,
        }

    def publish(self) -> Tree:
        """Where the files are then."""
        try:
            return self._publish_folder() if self._listing.is_folder else self._publish_file()
        finally:
            if self._fsync:
                os.fsync(self._staging.parent)

    def _publish_file(self) -> Tree:
        parent, part = self._staging.parent, self._staging.part
        self._existing.refuse_odd()
        if self._existing.fate[0] == IN_PLACE:
            self._staging.clear()
        elif self._overwrite:
            try:
                os.replace(part, self._name, src_dir_fd=parent, dst_dir_fd=parent)
            except IsADirectoryError:
                raise self._existing.problem("it is a folder", "choose another destination") from None
        elif not self._move(part, parent, self._name, parent):
            if not same_content(parent, part, parent, self._name):
                raise self._existing.different()
            self._existing.fate[0] = IN_PLACE
            self._staging.clear()
        return Tree(os.dup(parent), self._listing, self._name)

    def _move(self, source: str, source_folder: int, name: str, folder: int) -> bool:
        """Whether it was moved; False where the name is taken."""
        try:
            os.link(source, name, src_dir_fd=source_folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # Without hard links there is no move that never replaces: a file that appears right now would be lost.
            if look_at(folder, name) is not None:
                return False
            os.rename(source, name, src_dir_fd=source_folder, dst_dir_fd=folder)
            return True
        os.unlink(source, dir_fd=source_folder)
        return True

    def _publish_folder(self) -> Tree:
        parent, part = self._staging.parent, self._staging.part
        if look_at(parent, self._name) is None:
            self._dress_folders(self._staging.tree, set(range(len(self._listing.entries))), itself=True)
            try:
                os.rename(part, self._name, src_dir_fd=parent, dst_dir_fd=parent)
                self._staging.tree.open_big = self._staging.tree.open
                return self._staging.tree
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    raise
        try:
            tree = Tree(os.open(self._name, FOLDER_FLAGS, dir_fd=parent), self._listing)
        except NotADirectoryError:
            raise self._existing.problem("it is no folder", "remove it, or choose another destination") from None
        self._merge(tree)
        return tree

    def _merge(self, tree: Tree) -> None:
        fate, made = self._existing.fate, set()
        barred: set[str] = set()  # folders whose names there are taken by something else
        for index, entry in enumerate(self._listing.entries):
            path, name = tree.split(index)
            if path in barred:
                fate[index] = KEPT
            if entry.kind == FOLDER:
                if path not in barred and self._make_folder(tree, path, name):
                    made.add(index)
                if fate[index] == KEPT or not self._is_folder(tree, path, name):
                    fate[index] = KEPT
                    barred.add(entry.path)
            elif fate[index] == WANTED:
                self._merge_one(tree, index, path, name)
        if self._fsync:
            for folder in {entry.path.rpartition("/")[0] for entry in self._listing.entries} - barred:
                with tree.folder(folder) as descriptor:
                    os.fsync(descriptor)
        self._dress_folders(tree, made, itself=False)
        self._staging.clear()

    @staticmethod
    def _make_folder(tree: Tree, path: str, name: str) -> bool:
        with tree.folder(path) as folder:
            return make_folder(folder, name)

    @staticmethod
    def _is_folder(tree: Tree, path: str, name: str) -> bool:
        with tree.folder(path) as folder:
            status = look_at(folder, name)
            return status is not None and stat.S_ISDIR(status.st_mode)

    def _merge_one(self, tree: Tree, index: int, path: str, name: str) -> None:
        fate = self._existing.fate
        with self._staging.tree.folder(path) as source, tree.folder(path) as folder:
            if look_at(source, name) is None:  # an earlier try was killed when it had moved this one already
                fate[index] = IN_PLACE
            elif self._move(name, source, name, folder):
                pass
            elif same_content(source, name, folder, name):
                fate[index] = IN_PLACE
            elif self._overwrite and self._may_replace(folder, name, index):
                os.replace(name, name, src_dir_fd=source, dst_dir_fd=folder)
            else:
                fate[index] = KEPT

    def _may_replace(self, folder: int, name: str, index: int) -> bool:
        there = look_at(folder, name)
        return there is None or is_replaceable(self._listing.entries[index].kind, there)

    def _dress_folders(self, tree: Tree, wanted: set[int], *, itself: bool) -> None:
        """Inner ones first, as each change in a folder sets its time, and a mode may bar the way."""
        for index in sorted(wanted, reverse=True):
            entry = self._listing.entries[index]
            if entry.kind == FOLDER:
                path, name = tree.split(index)
                with tree.folder(path) as folder:
                    _dress_folder(os.open(name, FOLDER_FLAGS, dir_fd=folder), entry.mode, entry.mtime_ns)
        if itself:
            _dress_folder(os.dup(tree.top), self._listing.mode, self._listing.mtime_ns)


def _dress_folder(descriptor: int, mode: int, mtime_ns: int) -> None:
    try:
        os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    finally:
        os.close(descriptor)


def same_content(folder: int, name: str, other_folder: int, other_name: str) -> bool:
    """Whether two names hold the same: equal files, or links with one target."""
    one, other = look_at(folder, name), look_at(other_folder, other_name)
    if one is None or other is None or stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
        return False
    if stat.S_ISLNK(one.st_mode):
        return os.readlink(name, dir_fd=folder) == os.readlink(other_name, dir_fd=other_folder)
    if not stat.S_ISREG(one.st_mode) or one.st_size != other.st_size:
        return False
    with (
        os.fdopen(os.open(name, READING, dir_fd=folder), "rb", buffering=0) as left,
        os.fdopen(os.open(other_name, READING, dir_fd=other_folder), "rb", buffering=0) as right,
    ):
        while True:
            block = left.read(_BLOCK)
            if block != right.read(_BLOCK):
                return False
            if not block:
                return True
