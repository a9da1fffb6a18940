"""A source being served: its chunks read and hashed, by several connections at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ws.transfer.onnode.entries import Listing
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import Place

PIECE = 1 << 20  # bytes


class Reader:
    """The chunks of what `scan` listed at `place`. For several threads at once.

    Problems of every method: `source-changed`, `not-readable`.
    """

    def __init__(self, place: Place, listing: Listing, layout: Layout) -> None:
        self.layout = layout

    def wait_for(self, chunk: int, timeout: float) -> bool:
        """A source has all its chunks."""
        return True

    def is_hole(self, chunk: int) -> bool:
        """Whether it is a part of a sparse file that holds no data; `digest` is known then, and nothing need be read."""
        raise NotImplementedError

    def pieces(self, chunk: int) -> Iterator[memoryview]:
        """Its bytes in order, at most 1 MiB at once; each view holds only until the next is asked for."""
        raise NotImplementedError

    def digest(self, chunk: int) -> bytes:
        """Its SHA-256, 32 bytes; to be asked for when `pieces` have been taken to the end, or it is a hole."""
        raise NotImplementedError

    def digests(self, progress: Callable[[int], None] | None = None, stop: Callable[[], bool] | None = None) -> bytes:
        """Every chunk's, joined, those computed that were not served yet; `progress` gets bytes hashed, once per chunk.

        Problem `cancelled` where `stop` says so.
        """
        raise NotImplementedError

    def check_unchanged(self) -> None:
        """Problem `source-changed` where a file is no more what was listed."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
