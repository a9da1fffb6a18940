"""The hashes that chunks are checked with; a digest is 32 bytes in either.

SHA-256 is in every Python, and any user can check it. BLAKE3 takes a quarter of the time, and the package `blake3`, which a
node may lack. It is imported where it is used alone: what this package holds is pickled by value for nodes without it.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from ws.transfer.onnode.problems import NO_HASH, TransferProblem

SHA256, BLAKE3 = "sha256", "blake3"
DIGEST = 32  # bytes
MEND = "`pip install blake3` in that node's image or environment, or send with --hash sha256"


class Hasher(Protocol):
    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


def available() -> list[str]:
    """Those that can be computed in this process."""
    try:
        new(BLAKE3)
    except TransferProblem:
        return [SHA256]
    return [SHA256, BLAKE3]


def new(algorithm: str) -> Hasher:
    """A hash of nothing yet; problem `no-hash` where there is no such algorithm here."""
    if algorithm == SHA256:
        return hashlib.sha256()
    if algorithm != BLAKE3:
        raise TransferProblem(NO_HASH, f"there is no hash {algorithm!r} here", "", "use the same version at both ends")
    try:
        from blake3 import blake3

        return blake3()
    except Exception as error:  # not there, or of another machine, or another module of that name
        raise TransferProblem(NO_HASH, "there is no BLAKE3 here", f"{type(error).__name__}: {error}", MEND) from error


def digest_of(algorithm: str, data: bytes) -> bytes:
    known = new(algorithm)
    known.update(data)
    return known.digest()
