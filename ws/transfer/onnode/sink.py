"""A target being written: chunks arrive in any order, are hashed, journalled, and appear under the final name as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ws.transfer.onnode.entries import Listing
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import Place


class ChunkWriter:
    """One chunk on its way; `write` its bytes in order, then `commit` or `abort`. For one thread."""

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Problems: no-space, read-only; bad-chunk where there are more bytes than the chunk has."""
        raise NotImplementedError

    def commit(self, expected: bytes) -> None:
        """It is had from here on. Problem bad-chunk where its bytes are not those of the digest: it is still missing."""
        raise NotImplementedError

    def abort(self) -> None:
        """Forget it: it is missing. Safe after `commit`, and twice."""
        raise NotImplementedError


class Sink:
    """The target `place`: its last component is the final name. Methods may be called by several threads at once.

    While it is being written it is served like a Reader: `wait_for`, `is_hole`, `pieces`, `digest`.

    Attributes: `total` bytes, `layout`.
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
        self.layout = layout
        self.total = layout.total

    def prepare(self) -> None:
        """Make room; take up what an earlier try left.

        Problems: bad-name, exists, no-space, busy, read-only, link-refused.
        """
        raise NotImplementedError

    def identical_candidates(self) -> list[int]:
        """Entries whose files are there with the same size; where there are some, `offer_existing` is worth calling."""
        raise NotImplementedError

    def offer_existing(self, hashes: bytes) -> list[int]:
        """Compare what is there with the source's chunk hashes; returns the entries found identical: their chunks are had.

        Different ones are kept and not fetched unless `overwrite`; for a file sent alone that is the problem `exists`.
        """
        raise NotImplementedError

    @property
    def done_bytes(self) -> int:
        """Bytes had, those of chunks that need not be fetched included."""
        raise NotImplementedError

    def have(self, chunk: int) -> bool:
        raise NotImplementedError

    def missing(self) -> Iterator[int]:
        """Chunks to be fetched, in order; one that is being written counts as missing."""
        raise NotImplementedError

    def wait_for(self, chunk: int, timeout: float) -> bool:
        """Whether it is had, waiting at most `timeout` seconds for it."""
        raise NotImplementedError

    def is_hole(self, chunk: int) -> bool:
        raise NotImplementedError

    def pieces(self, chunk: int) -> Iterator[memoryview]:
        """As Reader's; only for a chunk that is had."""
        raise NotImplementedError

    def digest(self, chunk: int) -> bytes:
        raise NotImplementedError

    def writer(self, chunk: int) -> ChunkWriter:
        """Problem `busy` where it is had, or another writer is at it."""
        raise NotImplementedError

    def put_hole(self, chunk: int, digest: bytes) -> None:
        """That chunk is zeros; problem bad-chunk where `digest` is not that of as many zeros."""
        raise NotImplementedError

    def verify(self, hashes: bytes) -> list[int]:
        """Chunks whose digest is not the origin's; they are missing again."""
        raise NotImplementedError

    def publish(self, hashes: bytes) -> dict[str, Any]:
        """Give it the final name, after `verify` found nothing.

        Returns {"path", "hash", "bytes", "files", "identical", "kept" (names, at most 100), "kept_count", "fsync"}.
        Problems: stalled (a chunk is missing), bad-chunk, exists, no-space, read-only.
        """
        raise NotImplementedError

    def close(self, discard: bool = False) -> None:
        """Release the lock; `discard` removes what is not published, and folders made for it that are empty."""
        raise NotImplementedError
