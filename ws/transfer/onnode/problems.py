"""What can go wrong with a transfer, as one exception that also travels as plain data."""

from __future__ import annotations

import errno
from typing import Any

BAD_NAME = "bad-name"
OUTSIDE_ROOTS = "outside-roots"
NO_SUCH_FILE = "no-such-file"
NOT_READABLE = "not-readable"
LINK_REFUSED = "link-refused"
EXISTS = "exists"
NO_SPACE = "no-space"
READ_ONLY = "read-only"
SOURCE_CHANGED = "source-changed"
UNREACHABLE = "unreachable"
WRONG_SECRET = "wrong-secret"  # noqa: S105 - the name of a problem
BAD_CHUNK = "bad-chunk"
STALLED = "stalled"
CANCELLED = "cancelled"
BUSY = "busy"
NOT_A_FILE = "not-a-file"
TOO_MANY = "too-many"
LOST = "lost"
NO_HASH = "no-hash"
NO_CLUSTER = "no-cluster"


class TransferProblem(Exception):
    """What happened, why, and what mends it; `code` is one of this module's constants."""

    def __init__(self, code: str, what: str, why: str = "", mend: str = "") -> None:
        super().__init__(code, what, why, mend)  # its arguments are what pickle calls it with again
        self.code, self.what, self.why, self.mend = code, what, why, mend

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text} ({self.mend})" if self.mend else text

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "what": self.what, "why": self.why, "mend": self.mend}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> TransferProblem:
        return cls(*(str(fields.get(name, "")) for name in ("code", "what", "why", "mend")))


def reading_problem(error: OSError, path: str) -> TransferProblem:
    """Why `path` of a source can't be read."""
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return TransferProblem(NO_SUCH_FILE, f"there is no {path!r}", "", "look at the name and the folder")
    if error.errno == errno.ELOOP:
        return TransferProblem(
            LINK_REFUSED, f"{path!r} is a symbolic link", "links are not followed", "name what it points to"
        )
    return TransferProblem(
        NOT_READABLE, f"can't read {path!r}", reason(error), "look at its owner and mode, and at the disk"
    )


def writing_problem(error: OSError, path: str) -> TransferProblem:
    """Why `path` at a target can't be written."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        why = "the disk is full" if error.errno == errno.ENOSPC else "the quota is used up"
        return TransferProblem(
            NO_SPACE, f"can't write {path!r}", why, "free space there, then send again: it goes on where it was"
        )
    if error.errno == errno.ELOOP:
        return TransferProblem(LINK_REFUSED, f"{path!r} is a symbolic link", "links are not followed", "remove it")
    if error.errno == errno.ENAMETOOLONG:
        return TransferProblem(BAD_NAME, f"the disk takes no name as long as {path!r}", "", "send it under a shorter name")
    mend = "choose a folder that can be written" if error.errno != errno.EIO else "look at the disk: `dmesg`"
    return TransferProblem(READ_ONLY, f"can't write {path!r}", reason(error), mend)


def reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def size_text(count: int) -> str:
    """Bytes as people read them: 4.0 GiB, 512 B."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
