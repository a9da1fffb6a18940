"""What a source consists of: listed without following a link, and sent in a form that can do no harm."""

from __future__ import annotations

from typing import NamedTuple

from ws.transfer.onnode.names import Place

FILE, FOLDER, LINK = "file", "dir", "link"
MOST_ENTRIES = 1_000_000


class Entry(NamedTuple):
    """One file, folder or link. `path` is relative to the top, and "" for a file that is sent alone.

    size: bytes, 0 unless a file; mode: permission bits; sparse: it has holes; target: where a link points, else "".
    """

    path: str
    kind: str
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 0
    sparse: bool = False
    target: str = ""


class Listing(NamedTuple):
    """A source: `name` is its last component; a folder's entries exclude the folder itself and come after their folders."""

    name: str
    is_folder: bool
    entries: list[Entry]


def scan(place: Place, links: str = "keep") -> Listing:
    """What is there. `links`: "keep", or "refuse".

    Problems: no-such-file, not-readable, link-refused (the top is a link, or one leads out of the folder), not-a-file
    (a device, socket or pipe, by name), bad-name, too-many.
    """
    raise NotImplementedError


def scan_here(path: str) -> tuple[Place, Listing]:
    """A user's own file or folder, wherever it is, and where it really is; the top itself may be a link, and is followed."""
    raise NotImplementedError


def pack(listing: Listing) -> bytes:
    """It as bytes for `unpack`."""
    raise NotImplementedError


def unpack(packed: bytes) -> Listing:
    """It again, with everything checked as from an enemy; problems: bad-name, link-refused, too-many."""
    raise NotImplementedError


def content_id(listing: Listing, chunk_size: int) -> str:
    """Names the content, whatever it is called: two transfers of the same id can take each other's chunks. Hexadecimal."""
    raise NotImplementedError
