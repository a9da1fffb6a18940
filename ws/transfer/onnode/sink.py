"""A target being written: chunks arrive in any order, are hashed, journalled, and appear under the final name as a whole.

A crash at any point leaves under the final name what was there before, or all of it; a folder that is there already gets
its files one by one, each of them whole. What has arrived is in `NAME.part`, and `prepare` takes it up again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from ws.transfer.onnode.chunks import DIGEST, Chunks
from ws.transfer.onnode.entries import FILE, Listing, content_id
from ws.transfer.onnode.existing import IN_PLACE, KEPT, WANTED, Existing
from ws.transfer.onnode.journal import Journal
from ws.transfer.onnode.layout import Layout, root_hash
from ws.transfer.onnode.names import Place
from ws.transfer.onnode.problems import BAD_CHUNK, BUSY, STALLED, TransferProblem
from ws.transfer.onnode.publish import Publisher
from ws.transfer.onnode.staging import Staging, look_at
from ws.transfer.onnode.tree import Tree
from ws.transfer.onnode.writing import BigPart, ChunkWriter, SmallPart, write_zeros

_MISSING, _HAD, _SKIPPED = 0, 1, 2
_MOST_NAMES = 100


class Sink(Chunks):
    """The target `place`: its last component is the final name. Methods may be called by several threads at once.

    While it is being written it is served like a Reader: `wait_for`, `is_hole`, `pieces`, `digest`.

    Attributes: `total` bytes, `layout`; `done_bytes`, those had, with those of chunks that need not be fetched.
    """

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
        self.total = layout.total
        self.done_bytes = 0
        self._place, self._listing = place, listing
        self._overwrite, self._fsync, self._keep_partial = overwrite, fsync, keep_partial
        self._state = bytearray(layout.count)
        self._writing: set[int] = set()
        self._changed = threading.Condition()
        self._staging: Staging | None = None
        self._journal: Journal | None = None
        self._existing: Existing | None = None
        self._final: Tree | None = None  # where the files are once they are published
        self._resumed = self._closed = False

    # Making ready

    def prepare(self) -> None:
        """Make room; take up what an earlier try left.

        Problems: bad-name, exists, no-space, busy, read-only, link-refused.
        """
        try:
            staging = self._staging = Staging(self._place, self._listing, self.layout)
            self._existing = Existing(self._place, self._listing, staging.parent, overwrite=self._overwrite)
            self._existing.look()
            self._open_parts(staging)
            self._skip_kept()
            wanted, small = self._to_come()
            staging.check_space(wanted, small)
            staging.reserve(wanted)
        except BaseException as error:
            self.close(discard=not self._resumed)
            if isinstance(error, OSError) and self._staging:
                raise self._staging.problem(error, need=self.total - self.done_bytes) from error
            raise

    def _open_parts(self, staging: Staging) -> None:
        journal = Journal(
            staging.parent,
            staging.journal,
            content=content_id(self._listing, self.layout.chunk_size),
            chunk_size=self.layout.chunk_size,
            count=self.layout.count,
        )
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
        staging.open()
        for chunk, digest in claimed.items():
            self._take_up(chunk, digest)

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
                self._take(chunk, digest)
                self._resumed = True
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
        with self._changed:
            for chunk in range(self.layout.count):
                if self._state[chunk] == _MISSING and all(self.fate[seg[0]] == KEPT for seg in self.layout.segments(chunk)):
                    self._state[chunk] = _SKIPPED
                    self.done_bytes += self.layout.length(chunk)

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
        for chunks in self._comparable():
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
                    self._take(chunk, hashes[DIGEST * chunk : DIGEST * (chunk + 1)])
                else:
                    self.forget(chunk)
        self._skip_kept()
        return found

    def _comparable(self) -> Iterator[range]:
        """Runs of missing chunks whose files are all there with the right size: a big file's, or one of small files."""
        seen = -1
        for index in sorted(self._looked.candidates):
            chunks = self.layout.chunks_of(index)
            if not chunks or chunks[0] <= seen:
                continue
            seen = chunks[-1]
            if all(self._state[chunk] == _MISSING for chunk in chunks) and all(
                segment[0] in self._looked.candidates for segment in self.layout.segments(chunks[0])
            ):
                yield chunks

    def _is_same(self, chunk: int, digest: bytes) -> bool:
        try:
            return self.hashed(chunk) == digest
        except TransferProblem:
            return False

    # What arrives

    def have(self, chunk: int) -> bool:
        return self._state[chunk] == _HAD

    def missing(self) -> Iterator[int]:
        """Chunks to be fetched, in order; one that is being written counts as missing."""
        chunk = self._state.find(_MISSING)
        while chunk >= 0:
            yield chunk
            chunk = self._state.find(_MISSING, chunk + 1)

    def wait_for(self, chunk: int, timeout: float) -> bool:
        """Whether it is had, waiting at most `timeout` seconds for it."""
        if self._state[chunk] == _HAD:
            return True
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._state[chunk] != _HAD and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self._state[chunk] == _HAD

    def writer(self, chunk: int) -> ChunkWriter:
        """Problem `busy` where it is had, or another writer is at it."""
        with self._changed:
            if self._state[chunk] != _MISSING or chunk in self._writing or self._closed:
                raise TransferProblem(BUSY, f"chunk {chunk} is not wanted", "it is had, or being written", "fetch another")
            self._writing.add(chunk)
        try:
            part = self._part(chunk)
        except BaseException as error:
            self._left(chunk)
            if isinstance(error, OSError):
                raise self._write_problem(error, chunk) from error
            raise
        return ChunkWriter(
            part,
            self.layout.length(chunk),
            taken=lambda digest: self._arrived(chunk, digest),
            left=lambda: self._left(chunk),
            failed=lambda error: self._write_problem(error, chunk),
        )

    def _part(self, chunk: int) -> BigPart | SmallPart:
        if self.layout.is_big(chunk):
            return BigPart(self._parts, chunk)
        return SmallPart(self._parts, chunk, lambda index: self.fate[index] == WANTED)

    def put_hole(self, chunk: int, digest: bytes) -> None:
        """That chunk is zeros; problem bad-chunk where `digest` is not that of as many zeros."""
        length = self.layout.length(chunk)
        if digest != self.zeros(length):
            raise TransferProblem(
                BAD_CHUNK, "a chunk arrived damaged", "it is said to be empty and is not", "it is fetched again"
            )
        writer = self.writer(chunk)
        try:
            part = writer.part
            if not (isinstance(part, BigPart) and part.is_unwritten):
                write_zeros(part, length)
            part.close()
            self._arrived(chunk, digest)
        except OSError as error:
            raise self._write_problem(error, chunk) from error
        finally:
            writer.abort()

    def _arrived(self, chunk: int, digest: bytes) -> None:
        journal = self._journal
        if journal is None or self._closed:
            raise TransferProblem(BUSY, "the target is closed", "the transfer was ended")
        journal.add(chunk, digest)
        self._take(chunk, digest)

    def _take(self, chunk: int, digest: bytes) -> None:
        with self._changed:
            self.know(chunk, digest)
            self._state[chunk] = _HAD
            self.done_bytes += self.layout.length(chunk)
            self._changed.notify_all()

    def _left(self, chunk: int) -> None:
        with self._changed:
            self._writing.discard(chunk)

    def _write_problem(self, error: OSError, chunk: int) -> TransferProblem:
        return self._parts.problem(error, self.layout.first_segment(chunk)[0], need=self.total - self.done_bytes)

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

    # The end

    def verify(self, hashes: bytes) -> list[int]:
        """Chunks whose digest is not the origin's; they are missing again."""
        self._check_length(hashes)
        if self._digests == hashes and _SKIPPED not in self._state:
            return []
        bad = [
            chunk
            for chunk in range(self.layout.count)
            if self._state[chunk] == _HAD and self.digest(chunk) != hashes[DIGEST * chunk : DIGEST * (chunk + 1)]
        ]
        for chunk in bad:
            if self._journal:
                self._journal.drop(chunk)
            with self._changed:
                self._state[chunk] = _MISSING
                self.forget(chunk)
                self.done_bytes -= self.layout.length(chunk)
        return bad

    def _check_length(self, hashes: bytes) -> None:
        if len(hashes) != DIGEST * self.layout.count:
            raise TransferProblem(
                BAD_CHUNK, "the sender's list of hashes is damaged", f"{len(hashes)} bytes", "send it again"
            )

    def publish(self, hashes: bytes) -> dict[str, Any]:
        """Give it the final name, after `verify` found nothing.

        Returns {"path", "hash", "bytes", "files", "identical", "kept" (names, at most 100), "kept_count", "fsync"}.
        Problems: stalled (a chunk is missing), bad-chunk, exists, no-space, read-only.
        """
        bad = self.verify(hashes)
        if bad:
            raise TransferProblem(BAD_CHUNK, f"{len(bad)} chunks are not those of the sender", "", "they are fetched again")
        lacking = sum(1 for _ in self.missing())
        if lacking:
            raise TransferProblem(STALLED, f"{lacking} of {self.layout.count} chunks are missing", "", "resume the transfer")
        publisher = Publisher(self._parts, self._looked, overwrite=self._overwrite, fsync=self._fsync)
        try:
            publisher.finish(dress_all=self._resumed)
            self._final = publisher.publish()
            if self._journal:
                self._journal.remove()
        except OSError as error:
            raise self._parts.problem(error) from error
        return self._receipt(hashes)

    def _receipt(self, hashes: bytes) -> dict[str, Any]:
        entries = self._listing.entries
        kept = [entry.path for entry, fate in zip(entries, self.fate, strict=True) if fate == KEPT]
        return {
            "path": self._place.text,
            "hash": root_hash(self.layout, hashes),
            "bytes": self.total,
            "files": sum(entry.kind == FILE for entry in entries),
            "identical": sum(fate == IN_PLACE for fate in self.fate),
            "kept": kept[:_MOST_NAMES],
            "kept_count": len(kept),
            "fsync": self._fsync,
        }

    def close(self, discard: bool = False) -> None:
        """Release the lock; `discard` removes what is not published, unless partial ones are kept, and folders made for it
        that are empty.
        """
        with self._changed:
            already, self._closed = self._closed, True
            self._changed.notify_all()
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
