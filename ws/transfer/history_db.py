"""The history's database file: opening it, and bringing it to the current version."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from ws.errors import EnvironmentProblem

FILE = "transfers.sqlite"
_BUSY = 10.0
"""Seconds to wait for another process that writes."""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        """CREATE TABLE transfers (
            id TEXT PRIMARY KEY, created REAL NOT NULL, source TEXT NOT NULL, dest TEXT, plane TEXT NOT NULL,
            options TEXT NOT NULL, size INTEGER NOT NULL, chunks INTEGER NOT NULL, files INTEGER NOT NULL,
            state TEXT NOT NULL, root_hash TEXT NOT NULL DEFAULT '', finished REAL, problem TEXT,
            wanted TEXT NOT NULL DEFAULT 'none', resumed_by TEXT
        )""",
        "CREATE INDEX transfers_created ON transfers (created)",
        """CREATE TABLE recipients (
            transfer TEXT NOT NULL REFERENCES transfers ON DELETE CASCADE, node TEXT NOT NULL, name TEXT NOT NULL DEFAULT '',
            state TEXT NOT NULL, done_bytes INTEGER NOT NULL DEFAULT 0, plane TEXT NOT NULL DEFAULT '',
            path TEXT NOT NULL DEFAULT '[]', retries INTEGER NOT NULL DEFAULT 0, problem TEXT, receipt TEXT, seconds REAL,
            PRIMARY KEY (transfer, node)
        )""",
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY, transfer TEXT NOT NULL REFERENCES transfers ON DELETE CASCADE, at REAL NOT NULL,
            kind TEXT NOT NULL, recipient TEXT, data TEXT NOT NULL
        )""",
        "CREATE INDEX events_transfer ON events (transfer, kind)",
    ),
    ("ALTER TABLE transfers ADD COLUMN algorithm TEXT NOT NULL DEFAULT 'sha256'",),
)
"""The statements that lead from each version to the next; one that was released is never changed."""


def state_folder(environ: Mapping[str, str]) -> Path:
    """`WS_STATE`, else `ws` in the user's folder for what must outlive a process (XDG base directories)."""
    if given := environ.get("WS_STATE"):
        return Path(given).expanduser()
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path("~/.local/state").expanduser()) / "ws"


def open_database(folder: Path) -> sqlite3.Connection:
    """A connection that any thread may use, one at a time; raises EnvironmentProblem where there can be none."""
    file = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        db = sqlite3.connect(file, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA foreign_keys = ON")
            migrate(db, MIGRATIONS)
        except BaseException:
            db.close()
            raise
    except (OSError, sqlite3.Error) as error:
        mend = "make it writable, or move it away if it is damaged; WS_STATE names another folder"
        raise EnvironmentProblem(f"the history of transfers in {file} can't be used", str(error), mend) from error
    return db


def migrate(db: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """Bring the tables to the last version, whole or not at all; one process at a time."""
    version = _version(db)
    if version == len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db)  # another process may have been quicker
        if version > len(migrations):
            mend = "update this ws, or name another folder in WS_STATE"
            raise EnvironmentProblem(
                "the history of transfers was written by a newer ws", f"version {version}, known: {len(migrations)}", mend
            )
        for statements in migrations[version:]:
            for statement in statements:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(migrations)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
