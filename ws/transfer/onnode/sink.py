"""A target being written: chunks arrive in any order, are hashed, journalled, and appear under the final name as a whole.

A crash at any point leaves under the final name what was there before, or all of it; a folder that is there already gets
its files one by one, each of them whole. What has arrived is in `NAME.part`, and `prepare` takes it up again.
"""

from __future__ import annotations

from typing import Any

from ws.transfer.onnode.existing import WANTED
from ws.transfer.onnode.hashing import DIGEST
from ws.transfer.onnode.layout import root_hash
from ws.transfer.onnode.problems import BAD_CHUNK, BUSY, STALLED, TransferProblem
from ws.transfer.onnode.publish import Publisher
from ws.transfer.onnode.target import Target
from ws.transfer.onnode.writing import BigPart, ChunkWriter, SmallPart, write_zeros


class Sink(Target):
    """The target `place`: its last component is the final name. Methods may be called by several threads at once.

    While it is being written it is served like a Reader: `wait_for`, `is_hole`, `pieces`, `digest`.

    Attributes: `layout`, `total`, `done_bytes`.
    """

    def writer(self, chunk: int) -> ChunkWriter:
        """Problem `busy` where it is had, or another writer is at it."""
        if not self.claim(chunk):
            raise TransferProblem(BUSY, f"chunk {chunk} is not wanted", "it is had, or being written", "fetch another")
        try:
            part = self._part(chunk)
        except BaseException as error:
            self.unclaim(chunk)
            if isinstance(error, OSError):
                raise self._write_problem(error, chunk) from error
            raise
        return ChunkWriter(
            part,
            self.layout.length(chunk),
            self.layout.algorithm,
            taken=lambda digest: self._arrived(chunk, digest),
            left=lambda: self.unclaim(chunk),
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
        if journal is None or self.closed:
            raise TransferProblem(BUSY, "the target is closed", "the transfer was ended")
        try:
            journal.add(chunk, digest)
        except OSError as error:
            raise self._write_problem(error, chunk) from error
        self.take(chunk, digest)

    def _write_problem(self, error: OSError, chunk: int) -> TransferProblem:
        return self._parts.problem(error, self.layout.first_segment(chunk)[0], need=self.total - self.done_bytes)

    def verify(self, hashes: bytes) -> list[int]:
        """Chunks whose digest is not the origin's; they are missing again."""
        self._check_length(hashes)
        bad = [
            chunk
            for chunk in range(self.layout.count)
            if self.have(chunk) and self.digest(chunk) != hashes[DIGEST * chunk : DIGEST * (chunk + 1)]
        ]
        for chunk in bad:
            self.drop(chunk)
            try:
                if self._journal:
                    self._journal.drop(chunk)
            except OSError as error:
                raise self._write_problem(error, chunk) from error
        return bad

    def _refuse_others(self) -> None:
        """Nothing but what was written here gets the name, and no other transfer's file loses it."""
        self._parts.refuse_names_of_others()
        try:
            self._parts.refuse_replaced()
        except TransferProblem:
            if self._journal:
                self._journal.remove()  # without it, nobody takes the other file for a part of this transfer
            raise

    def publish(self, hashes: bytes) -> dict[str, Any]:
        """Give it the final name, after `verify` found nothing.

        Returns {"path", "hash", "algorithm", "bytes", "files", "identical", "kept" (names, at most 100), "kept_count",
        "fsync"}.
        Problems: stalled (a chunk is missing), bad-chunk, exists, link-refused, not-a-file, busy, lost, no-space, read-only.
        """
        bad = self.verify(hashes)
        if bad:
            raise TransferProblem(BAD_CHUNK, f"{len(bad)} chunks are not those of the sender", "", "they are fetched again")
        lacking = sum(1 for _ in self.missing())
        if lacking:
            raise TransferProblem(STALLED, f"{lacking} of {self.layout.count} chunks are missing", "", "resume the transfer")
        publisher = Publisher(self._parts, self._looked, overwrite=self._overwrite, fsync=self._fsync)
        try:
            self._refuse_others()
            publisher.finish(dress_all=self._resumed)
            self._refuse_others()  # it may have taken a while
            self._final = publisher.publish()
            if self._journal:
                self._journal.remove()
        except OSError as error:
            raise self._parts.problem(error) from error
        root = root_hash(self.layout, hashes)
        return {"hash": root, "algorithm": self.layout.algorithm, **publisher.receipt()}
