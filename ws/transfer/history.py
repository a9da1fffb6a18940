"""What was transferred, kept in SQLite: transfers.sqlite in `$WS_STATE`, `$XDG_STATE_HOME/ws` or `~/.local/state/ws`.

For the coordinator:

    with history.own(id):             # others see by it that the process lives
        stream = Stream(history.record, on_event)
        stream.emit(Started(...)); ...; stream.emit(Finished(...))
        history.wanted(id)            # "none", "cancel" or "pause": what another process asked for
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ws.errors import EnvironmentProblem, UsageError
from ws.transfer import events, history_write
from ws.transfer.events import Event
from ws.transfer.history_db import open_database, state_folder
from ws.transfer.owner import Owned, Owners
from ws.transfer.records import TransferRecord

_PROGRESS_PAUSE = 1.0
"""Seconds from one stored progress of a recipient to the next."""


class History:
    """The history of one user. For several threads and processes at once, also after a fork.

    Raises EnvironmentProblem where there can be none; unless it is `required`, it records nothing then, and says why.

    Attributes:
        trouble: why events could not be kept, empty where they all were; a transfer goes on without its history.
    """

    def __init__(
        self, folder: Path | None = None, clock: Callable[[], float] = time.monotonic, *, required: bool = True
    ) -> None:
        self.trouble = ""
        self._folder = folder or state_folder(os.environ)
        self._owners = Owners(self._folder / "locks")
        self._clock = clock
        self._cancelled: set[str] = set()
        self._stored: dict[tuple[str, str], float] = {}
        self._inherited: list[sqlite3.Connection] = []
        self._connection: sqlite3.Connection | None = None
        self._unusable: EnvironmentProblem | None = None
        self._begin_process()
        try:
            with self._db():
                pass
        except EnvironmentProblem as problem:
            if required:
                raise
            self._unusable, self.trouble = problem, _in_one_line(problem)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    # For who runs a transfer

    @contextmanager
    def own(self, transfer: str) -> Iterator[None]:
        """This process runs the transfer; one that runs without an owner shows as interrupted.

        Raises Owned where another process does.
        """
        with ExitStack() as held:
            if self._unusable is None:
                with self._telling_trouble():
                    held.enter_context(self._owners.own(transfer))
            yield

    def record(self, event: Event) -> None:
        """Keep an event and what follows from it; a subscriber of a Stream. Trouble is told by `trouble`, not raised."""
        if isinstance(event, events.Progress) and not self._is_due(event):
            return
        with self._telling_trouble(), self._transaction() as db:
            history_write.apply(db, event)
            history_write.keep(db, event)
            if isinstance(event, events.Started):
                history_write.prune(db)
        if isinstance(event, events.Started):
            with self._telling_trouble():
                self._owners.sweep()

    def wanted(self, transfer: str) -> str:
        """none, cancel or pause: what was asked of the transfer's owner. Cheap: may be asked every 0.2 s."""
        if transfer in self._cancelled:
            return "cancel"
        row = None
        with self._telling_trouble(), self._db() as db:
            row = db.execute("SELECT wanted FROM transfers WHERE id = ?", (transfer,)).fetchone()
        return "none" if row is None else str(row["wanted"])

    def add_options(self, transfer: str, options: Mapping[str, Any]) -> None:
        """What else it takes to run it again (the cluster's address, say)."""
        with self._telling_trouble(), self._transaction() as db:
            row = db.execute("SELECT options FROM transfers WHERE id = ?", (transfer,)).fetchone()
            if row is not None:
                both = {**json.loads(row["options"]), **options}
                db.execute("UPDATE transfers SET options = ? WHERE id = ?", (json.dumps(both), transfer))

    # For who looks

    def transfers(self, limit: int = history_write.MOST_TRANSFERS) -> list[TransferRecord]:
        """The newest first."""
        with self._db() as db:
            rows = db.execute("SELECT * FROM transfers ORDER BY created DESC, rowid DESC LIMIT ?", (limit,)).fetchall()
            return [self._record_of(db, row) for row in rows]

    def find(self, prefix: str) -> TransferRecord:
        """The transfer whose id begins so; raises UsageError where there is none, or more than one."""
        text = prefix.strip().lower()
        with self._db() as db:
            found = db.execute(
                "SELECT * FROM transfers WHERE substr(id, 1, ?) = ? ORDER BY created DESC LIMIT 5", (len(text), text)
            ).fetchall()
            if len(found) == 1 and text:
                return self._record_of(db, found[0])
        if not found or not text:
            raise UsageError(f"there is no transfer {prefix!r}", mend="`ws transfers` lists them")
        raise UsageError(
            f"more than one transfer begins with {prefix!r}",
            "\n".join(f"{row['id'][:12]}  {row['source']}" for row in found),
            "give more digits",
        )

    def events_of(self, transfer: str) -> list[dict[str, Any]]:
        """What was kept of the transfer's events, in order, as Event.as_json."""
        with self._db() as db:
            rows = db.execute("SELECT data FROM events WHERE transfer = ? ORDER BY number", (transfer,)).fetchall()
        return [json.loads(row["data"]) for row in rows]

    def want(self, transfer: str, wanted: str) -> None:
        """Ask the transfer's owner to cancel or to pause; `none` lets a paused one go on."""
        if wanted == "cancel":
            self._cancelled.add(transfer)  # the owner's own wish must hold where the database fails
        with self._telling_trouble(), self._transaction() as db:
            db.execute("UPDATE transfers SET wanted = ? WHERE id = ?", (wanted, transfer))

    def resumed(self, transfer: str, by: str) -> None:
        """Note that another transfer has taken this one's place."""
        with self._telling_trouble(), self._transaction() as db:
            db.execute("UPDATE transfers SET resumed_by = ? WHERE id = ?", (by, transfer))

    def _is_due(self, event: events.Progress) -> bool:
        key, now = (event.transfer, event.recipient), self._clock()
        if now - self._stored.get(key, -math.inf) < _PROGRESS_PAUSE:
            return False
        self._stored[key] = now
        return True

    def _record_of(self, db: sqlite3.Connection, row: sqlite3.Row) -> TransferRecord:
        recipients = db.execute("SELECT * FROM recipients WHERE transfer = ? ORDER BY rowid", (row["id"],)).fetchall()
        return TransferRecord.of(row, recipients, lives=self._owners.lives(row["id"]))

    # The connection

    def _begin_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection = None

    @contextmanager
    def _telling_trouble(self) -> Iterator[None]:
        """A transfer goes on without its history."""
        try:
            yield
        except Owned:
            raise
        except (sqlite3.Error, OSError, EnvironmentProblem) as error:
            self.trouble = _in_one_line(error)

    @contextmanager
    def _db(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone. A forked process must not use its parent's, nor close it."""
        if self._pid != os.getpid():
            if self._connection is not None:
                self._inherited.append(self._connection)
            self._begin_process()
        if self._unusable is not None:
            raise self._unusable
        with self._lock:
            if self._connection is None:
                self._connection = open_database(self._folder)
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._db() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _in_one_line(error: Exception) -> str:
    return "; ".join(str(error).splitlines())
