"""One live line for each recipient of a transfer, on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ws.cli import transfer_words as words
from ws.cli import units
from ws.transfer import events
from ws.transfer.events import Event

_RANK = {"running": 0, "waiting": 1, "failed": 2, "done": 3}
_WIDTH = 24


@dataclass
class _Row:
    recipient: str
    total: int
    state: str = "waiting"
    done: int = 0
    rate: float = 0.0
    eta: float | None = None
    note: str = ""


class Live:
    """The lines, redrawn ten times a second; what is printed meanwhile comes above them."""

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        self._console = console or Console(file=stream, highlight=False)
        self._rows: dict[str, _Row] = {}
        self._lock = threading.Lock()
        self._live = RichLive(
            get_renderable=self.table,
            console=self._console,
            refresh_per_second=10,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Take over what an event says of a recipient."""
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case events.Started():
                self._rows = {recipient: _Row(recipient, event.size) for recipient in event.recipients}
            case events.Planned():
                for route in event.routes:
                    self._change(route.recipient, lambda row: setattr(row, "state", "running"))
            case events.Progress():
                self._change(event.recipient, lambda row: _move(row, event))
            case events.Retry():
                self._change(event.recipient, lambda row: setattr(row, "note", f"attempt {event.attempt}"))
            case events.RecipientDone():
                self._change(event.recipient, lambda row: _end(row, "done", ""))
            case events.RecipientFailed():
                self._change(event.recipient, lambda row: _end(row, "failed", words.plain(event.problem.get("what", ""))))
            case events.Paused():
                for row in self._rows.values():
                    row.rate, row.eta, row.note = 0.0, None, "paused"
            case events.Resumed():
                for row in self._rows.values():
                    row.note = ""

    def _change(self, recipient: str, change: Callable[[_Row], None]) -> None:
        if recipient in self._rows:
            change(self._rows[recipient])

    def table(self) -> Table:
        """As many rows as the terminal is high, those that move first, and a count of the rest."""
        with self._lock:
            rows = list(self._rows.values())
            room = max(1, self._console.height - 3)
            if len(rows) > room:
                rows = sorted(rows, key=lambda row: _RANK[row.state])
            table = Table.grid(padding=(0, 2))
            for row in rows[:room]:
                table.add_row(*_cells(row))
        if len(rows) > room:
            states = [row.state for row in rows[room:]]
            counts = ", ".join(f"{states.count(state)} {state}" for state in _RANK if state in states)
            table.add_row(Text(""), Text(f"and {len(rows) - room} more: {counts}", style="dim"))
        return table


def _move(row: _Row, event: events.Progress) -> None:
    row.state = "running"
    row.done, row.total, row.rate, row.eta = event.done + event.coming, event.total, event.rate, event.eta
    row.note = ""


def _end(row: _Row, state: str, note: str) -> None:
    row.state, row.note, row.rate, row.eta = state, note, 0.0, None
    if state == "done":
        row.done = row.total


def _cells(row: _Row) -> list[Text | ProgressBar]:
    mark = {"done": Text("✓", style="green"), "failed": Text("✗", style="red")}.get(row.state, Text(" "))
    name = Text(words.plain(row.recipient), no_wrap=True)
    if row.state == "failed":
        return [mark, name, Text(row.note, no_wrap=True, overflow="ellipsis")]
    return [
        mark,
        name,
        ProgressBar(total=max(1, row.total), completed=row.done if row.total else 1, width=_WIDTH),
        Text(words.percent(row.done, row.total), justify="right", no_wrap=True),
        Text(f"{units.size(row.done)} of {units.size(row.total)}", no_wrap=True),
        Text(units.rate(row.rate) if row.rate else "", no_wrap=True),
        Text(row.note or units.left(row.eta), no_wrap=True),
    ]
