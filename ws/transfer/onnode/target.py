"""A target on its disk: made ready, what an earlier try left taken up, compared with what is there, read, released."""

from __future__ import annotations

import os
from collections.abc import Callable

from ws.transfer.onnode.entries import FILE, Listing, content_id
from ws.transfer.onnode.existing import IN_PLACE, KEPT, WANTED, Existing
from ws.transfer.onnode.hashing import DIGEST
from ws.transfer.onnode.having import HadChunks
from ws.transfer.onnode.journal import Journal
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import Place
from ws.transfer.onnode.problems import BAD_CHUNK, CANCELLED, TransferProblem
from ws.transfer.onnode.staging import Staging, look_at
from ws.transfer.onnode.tree import Tree


class Target(HadChunks):
    """What a Sink is besides being written and published: its files, its journal, and what was there before."""

    def __init__(
        self,
        place: Place,
        listing: Listing,
        layout: Layout,
        *,
        overwrite: bool = False,
        fsync: bool = True,
        keep_partial: bool = False,
    ) -> None:
        super().__init__(layout)
        self._place, self._listing = place, listing
        self._overwrite, self._fsync, self._keep_partial = overwrite, fsync, keep_partial
        self._staging: Staging | None = None
        self._journal: Journal | None = None
        self._existing: Existing | None = None
        self._final: Tree | None = None  # where the files are once they are published
        self._resumed = False  # what an earlier try left is being taken up

    def prepare(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Make room; take up what an earlier try left, unless `stop` says so: whoever stops it closes it.

        Problems: bad-name, exists, no-space, busy, read-only, link-refused, not-a-file, cancelled.
        """
        try:
            staging = self._staging = Staging(self._place, self._listing, self.layout)
            staging.refuse_names_of_others()
            self._existing = Existing(self._place, self._listing, staging.parent, overwrite=self._overwrite)
            self._existing.look()
            for chunk, digest in self._open_parts(staging).items():
                if stop():
                    raise TransferProblem(CANCELLED, "the transfer was ended on this node")
                self._take_up(chunk, digest)
            self._skip_kept()
            wanted, small = self._to_come()
            staging.check_space(wanted, small)
            staging.reserve(wanted)
        except BaseException as error:
            if not stop():
                self.close(discard=not self._resumed)
            if isinstance(error, OSError) and self._staging:
                raise self._staging.problem(error, need=self.total - self.done_bytes) from error
            raise

    def discard_left(self) -> None:
        """Remove what an earlier try of the same left; what is of another transfer stays. Problem: busy."""
        staging = self._staging = Staging(self._place, self._listing, self.layout)
        try:
            journal = self._journal_of(staging)
            is_ours = journal.open() is not None
            if is_ours:
                staging.clear()
            if is_ours or not journal.found:
                journal.remove()
            journal.close()
            staging.remove_made()
        except OSError as error:
            raise staging.problem(error) from error
        finally:
            staging.close()

    def _journal_of(self, staging: Staging) -> Journal:
        return Journal(
            staging.parent,
            staging.journal,
            content=content_id(self._listing, self.layout.chunk_size, self.layout.algorithm),
            chunk_size=self.layout.chunk_size,
            count=self.layout.count,
        )

    def _open_parts(self, staging: Staging) -> dict[int, bytes]:
        """What the journal of an earlier try claims: digests by chunk."""
        journal = self._journal_of(staging)
        claimed = journal.open()
        if not journal.found:
            try:
                staging.refuse_foreign()
            except TransferProblem:
                journal.remove()
                raise
        self._journal = journal
        if claimed is None or self._was_published(staging):
            staging.clear()
            journal.start()
            claimed = {}
        else:
            self._resumed = True
        staging.open()
        return claimed

    def _was_published(self, staging: Staging) -> bool:
        """An earlier try was killed between giving the file its name and taking the part's away."""
        part, final = staging.look(), look_at(staging.parent, self._place.name)
        return part is not None and final is not None and (part.st_dev, part.st_ino) == (final.st_dev, final.st_ino)

    def _take_up(self, chunk: int, digest: bytes) -> None:
        """A chunk that the journal claims is had if it is really there."""
        moved = [index for index, _, _ in self.layout.segments(chunk) if self._was_moved(index)]
        for index in moved:
            self.fate[index] = IN_PLACE
        try:
            if self.hashed(chunk) == digest:
                self.take(chunk, digest)
                return
        except TransferProblem:
            pass  # what can't be read is fetched again
        self.forget(chunk)
        for index in moved:
            self.fate[index] = WANTED

    def _was_moved(self, index: int) -> bool:
        """An earlier try was killed when it had moved this file to its place in a folder."""
        if index not in self._looked.candidates:
            return False
        path, name = self._parts.tree.split(index)
        with self._parts.tree.folder(path) as folder:
            return look_at(folder, name) is None

    def _to_come(self) -> tuple[list[int], int]:
        """Entries to be written, and the bytes on disk of small files to come."""
        block = os.fstatvfs(self._parts.parent).f_frsize or 4096
        wanted, small = [], 0
        for index, entry in enumerate(self._listing.entries):
            if entry.kind != FILE or self.fate[index] != WANTED or index in self._looked.candidates:
                continue
            wanted.append(index)
            if 0 < entry.size <= self.layout.chunk_size and not self.have(self.layout.chunks_of(index)[0]):
                small += -(-entry.size // block) * block
        return wanted, small

    def _skip_kept(self) -> None:
        """Chunks of nothing but files that are kept need not be fetched."""
        if KEPT not in self.fate:
            return
        for chunk in self.missing():
            if all(self.fate[index] == KEPT for index, _, _ in self.layout.segments(chunk)):
                self.skip(chunk)

    @property
    def _parts(self) -> Staging:
        assert self._staging is not None, "prepare comes first"
        return self._staging

    @property
    def _looked(self) -> Existing:
        assert self._existing is not None, "prepare comes first"
        return self._existing

    @property
    def fate(self) -> bytearray:
        """What becomes of each entry: WANTED, IN_PLACE or KEPT."""
        return self._looked.fate

    @property
    def place(self) -> Place:
        return self._place

    # What is there already

    def identical_candidates(self) -> list[int]:
        """Entries whose files are there with the same size; where there are some, `offer_existing` is worth calling."""
        return sorted(self._looked.candidates)

    def offer_existing(self, hashes: bytes) -> list[int]:
        """Compare what is there with the source's chunk hashes; returns the entries found identical: their chunks are had.

        Different ones are kept and not fetched unless `overwrite`; for a file sent alone that is the problem `exists`.
        Small files that travel in one chunk with others that are not there can't be told apart yet: `publish` does.
        """
        self._check_length(hashes)
        found: list[int] = []
        looked = self._looked
        for chunks in looked.comparable(self.layout, self.is_missing):
            indexes = [index for index, _, _ in self.layout.segments(chunks[0])]
            for index in indexes:
                self.fate[index] = IN_PLACE
            same = all(self._is_same(chunk, hashes[DIGEST * chunk : DIGEST * (chunk + 1)]) for chunk in chunks)
            for index in indexes:
                self.fate[index] = WANTED
                if same or len(indexes) == 1:
                    looked.settle(index, same=same)
            if same:
                found += indexes
            for chunk in chunks:
                if same:
                    self.take(chunk, hashes[DIGEST * chunk : DIGEST * (chunk + 1)])
                else:
                    self.forget(chunk)
        self._skip_kept()
        return found

    def _is_same(self, chunk: int, digest: bytes) -> bool:
        try:
            return self.hashed(chunk) == digest
        except TransferProblem:
            return False

    # Reading what was written

    def tree_of(self, index: int) -> Tree:
        if self._final is not None:
            return self._final
        there = self._looked.tree
        return there if there is not None and self.fate[index] == IN_PLACE else self._parts.tree

    def check(self, index: int, descriptor: int) -> None:
        """Nothing to compare with: what was written is compared by its hash."""

    def read_problem(self, error: OSError, index: int) -> TransferProblem:
        return self._parts.problem(error, index)

    def _check_length(self, hashes: bytes) -> None:
        if len(hashes) != DIGEST * self.layout.count:
            raise TransferProblem(
                BAD_CHUNK, "the sender's list of hashes is damaged", f"{len(hashes)} bytes", "send it again"
            )

    def close(self, discard: bool = False) -> None:
        """Release the lock; `discard` removes what is not published, unless partial ones are kept, and folders made for it
        that are empty.
        """
        already = self.end_waiting()
        staging, journal = self._staging, self._journal
        if already or staging is None:
            return
        try:
            if discard and not self._keep_partial and self._final is None:
                if journal:
                    staging.clear()
                    journal.remove()
                staging.remove_made()
        except OSError as error:
            raise staging.problem(error) from error
        finally:
            for held in (journal, self._existing, self._final, staging):
                if held:
                    held.close()
