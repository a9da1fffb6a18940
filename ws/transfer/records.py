"""A transfer as the history tells it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

LIVING = ("running", "paused")
RESUMABLE = ("interrupted", "failed", "cancelled")


@dataclass(frozen=True)
class RecipientRecord:
    """`state`: waiting, running, done, failed or cancelled; `name`: Ray's name of the node, empty where unknown."""

    node: str
    name: str
    state: str
    done_bytes: int
    plane: str
    path: tuple[str, ...]
    retries: int
    problem: dict[str, Any] | None
    receipt: dict[str, Any] | None
    seconds: float | None

    @classmethod
    def of(cls, row: sqlite3.Row) -> RecipientRecord:
        return cls(
            row["node"],
            row["name"],
            row["state"],
            row["done_bytes"],
            row["plane"],
            tuple(json.loads(row["path"])),
            row["retries"],
            _loaded(row["problem"]),
            _loaded(row["receipt"]),
            row["seconds"],
        )


@dataclass(frozen=True)
class TransferRecord:
    """One transfer, times in seconds since 1970, sizes in bytes.

    Attributes:
        state: running, paused, interrupted (its process has gone without an end), done, failed or cancelled.
        algorithm: of its hashes: sha256 or blake3; empty where none was agreed on.
        options: what it was started with, all that it takes to run it again.
        problem: what ended it before any recipient could be asked.
        wanted: what was asked of its process: none, cancel or pause.
        resumed_by: the id of the transfer that resumed this one.
    """

    id: str
    created: float
    finished: float | None
    source: str
    dest: str | None
    plane: str
    options: dict[str, Any]
    size: int
    files: int
    chunks: int
    state: str
    root_hash: str
    algorithm: str
    problem: dict[str, Any] | None
    wanted: str
    resumed_by: str | None
    recipients: tuple[RecipientRecord, ...]

    @classmethod
    def of(cls, row: sqlite3.Row, recipients: list[sqlite3.Row], *, lives: bool) -> TransferRecord:
        state = row["state"] if lives or row["state"] not in LIVING else "interrupted"
        return cls(
            row["id"],
            row["created"],
            row["finished"],
            row["source"],
            row["dest"],
            row["plane"],
            json.loads(row["options"]),
            row["size"],
            row["files"],
            row["chunks"],
            state,
            row["root_hash"],
            row["algorithm"],
            _loaded(row["problem"]),
            row["wanted"],
            row["resumed_by"],
            tuple(RecipientRecord.of(recipient) for recipient in recipients),
        )

    @property
    def short(self) -> str:
        return self.id[:8]

    @property
    def is_resumable(self) -> bool:
        return self.state in RESUMABLE and self.resumed_by is None

    @property
    def unserved(self) -> tuple[RecipientRecord, ...]:
        """The recipients that do not have it."""
        return tuple(recipient for recipient in self.recipients if recipient.state != "done")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _loaded(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text))
