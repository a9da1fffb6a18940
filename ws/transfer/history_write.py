"""What each event changes in the history's tables. The caller brings the transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from functools import singledispatch

from ws.transfer import events
from ws.transfer.events import Event

MOST_TRANSFERS = 1000
"""Transfers that are kept, the newest."""
MOST_EVENTS = 500
"""Events of progress and retries that are kept of one transfer, the newest."""
_SLACK = 100
_MANY = ("progress", "retry")
"""Kinds of events without a bound of their own."""


def apply(db: sqlite3.Connection, event: Event) -> None:
    """Bring the rows of the transfer and its recipients up to date."""
    _apply(event, db)


def keep(db: sqlite3.Connection, event: Event) -> None:
    """Store the event itself; of those that may be many, old ones go."""
    recipient = getattr(event, "recipient", None)
    db.execute(
        "INSERT INTO events (transfer, at, kind, recipient, data) VALUES (?, ?, ?, ?, ?)",
        (event.transfer, event.at, event.kind, recipient, json.dumps(event.as_json())),
    )
    if event.kind in _MANY:
        _bound(db, event.transfer)


def _bound(db: sqlite3.Connection, transfer: str) -> None:
    many = (transfer, *_MANY)
    count = db.execute("SELECT count(*) FROM events WHERE transfer = ? AND kind IN (?, ?)", many).fetchone()[0]
    if count >= MOST_EVENTS + _SLACK:
        db.execute(
            "DELETE FROM events WHERE transfer = ? AND kind IN (?, ?) AND number NOT IN"
            " (SELECT number FROM events WHERE transfer = ? AND kind IN (?, ?) ORDER BY number DESC LIMIT ?)",
            (*many, *many, MOST_EVENTS),
        )


def prune(db: sqlite3.Connection) -> None:
    """Forget the oldest transfers beyond MOST_TRANSFERS."""
    db.execute(
        "DELETE FROM transfers WHERE id NOT IN (SELECT id FROM transfers ORDER BY created DESC, rowid DESC LIMIT ?)",
        (MOST_TRANSFERS,),
    )


@singledispatch
def _apply(event: Event, db: sqlite3.Connection) -> None:
    raise TypeError(f"no event of ours: {event!r}")


@_apply.register
def _(event: events.Started, db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT INTO transfers (id, created, source, dest, plane, options, size, chunks, files, algorithm, state)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running')",
        (
            event.transfer,
            event.at,
            _shown(event.source),
            None if event.dest is None else _shown(event.dest),
            event.plane,
            json.dumps(dict(event.options)),
            event.size,
            event.chunks,
            event.files,
            event.algorithm,
        ),
    )
    db.executemany(
        "INSERT INTO recipients (transfer, node, state) VALUES (?, ?, 'waiting')",
        [(event.transfer, recipient) for recipient in event.recipients],
    )


@_apply.register
def _(event: events.Planned, db: sqlite3.Connection) -> None:
    db.executemany(
        "UPDATE recipients SET plane = ?, name = ?, path = ?, state = 'running'"
        " WHERE transfer = ? AND node = ? AND state IN ('waiting', 'running')",
        [(way.plane, way.name, json.dumps(way.path), event.transfer, way.recipient) for way in event.routes],
    )


@_apply.register
def _(event: events.Progress, db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE recipients SET done_bytes = ? WHERE transfer = ? AND node = ?", (event.done, event.transfer, event.recipient)
    )


@_apply.register
def _(event: events.Retry, db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE recipients SET retries = retries + 1 WHERE transfer = ? AND node = ?", (event.transfer, event.recipient)
    )


@_apply.register
def _(event: events.RecipientDone, db: sqlite3.Connection) -> None:
    receipt = event.receipt
    db.execute(
        "UPDATE recipients SET state = 'done', done_bytes = ?, plane = ?, path = ?, retries = ?, receipt = ?, seconds = ?"
        " WHERE transfer = ? AND node = ?",
        (
            receipt.bytes,
            receipt.plane,
            json.dumps(receipt.path),
            receipt.retries,
            json.dumps(asdict(receipt)),
            receipt.seconds,
            event.transfer,
            event.recipient,
        ),
    )


@_apply.register
def _(event: events.RecipientFailed, db: sqlite3.Connection) -> None:
    problem = json.dumps(dict(event.problem))
    db.execute(
        "UPDATE recipients SET state = 'failed', problem = ?, seconds = ? - (SELECT created FROM transfers WHERE id = ?)"
        " WHERE transfer = ? AND node = ?",
        (problem, event.at, event.transfer, event.transfer, event.recipient),
    )


@_apply.register
def _(event: events.Paused, db: sqlite3.Connection) -> None:
    db.execute("UPDATE transfers SET state = 'paused' WHERE id = ?", (event.transfer,))


@_apply.register
def _(event: events.Resumed, db: sqlite3.Connection) -> None:
    db.execute("UPDATE transfers SET state = 'running' WHERE id = ?", (event.transfer,))


@_apply.register
def _(event: events.Finished, db: sqlite3.Connection) -> None:
    problem = None if event.problem is None else json.dumps(dict(event.problem))
    db.execute(
        "UPDATE transfers SET state = ?, root_hash = ?, problem = ?, finished = ?, wanted = 'none' WHERE id = ?",
        (event.state, event.root_hash, problem, event.at, event.transfer),
    )
    _end_recipients(db, event, "failed")


@_apply.register
def _(event: events.Cancelled, db: sqlite3.Connection) -> None:
    db.execute(
        "UPDATE transfers SET state = 'cancelled', finished = ?, wanted = 'none' WHERE id = ?", (event.at, event.transfer)
    )
    _end_recipients(db, event, "cancelled")


def _end_recipients(db: sqlite3.Connection, event: Event, state: str) -> None:
    """Nobody waits any more."""
    db.execute(
        "UPDATE recipients SET state = ? WHERE transfer = ? AND state IN ('waiting', 'running')", (state, event.transfer)
    )


def _shown(text: str) -> str:
    """For people, as SQLite keeps no bytes that are no UTF-8; the exact names are in the options."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
