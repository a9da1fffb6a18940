"""What a transfer's user sees while it runs and at its end.

On a terminal a live line for each recipient, elsewhere a line of progress a second at most, both on stderr; at the
end the results on stdout and what failed on stderr. With --json every event is a line on stdout, and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self, TextIO

from ws import console
from ws.cli import transfer_words as words
from ws.transfer import events
from ws.transfer.events import Event

if TYPE_CHECKING:
    from ws.cli.transfer_live import Live

_PAUSE = 1.0
"""Seconds from one plain line of progress of a recipient to the next."""


class JsonView:
    """A line for each event; ASCII alone, as names may hold bytes that are no UTF-8."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: Event) -> None:
        print(json.dumps(event.as_json()), flush=True)

    def note(self, text: str) -> None:
        """Notes are for people."""


class PeopleView:
    """Progress, then results. Events may come from another thread, one at a time."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._told: dict[str, float] = {}
        self._receipts: list[events.RecipientDone] = []
        self._failures: list[events.RecipientFailed] = []
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from ws.cli.transfer_live import Live

            self._live = Live(self._stream)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """A line on stderr, above the live ones."""
        if self._live is not None:
            self._live.print(text)
        else:
            print(text, file=self._stream, flush=True)

    def show(self, event: Event) -> None:
        if self._live is not None:
            self._live.show(event)
        match event:
            case events.Started():
                self.note(words.started(event))
            case events.Planned():
                for line in words.planned(event):
                    self._detail(line)
            case events.Progress():
                self._progress(event)
            case events.Retry():
                self._detail(f"{words.plain(event.recipient)}: {words.retry(event)}")
            case events.RecipientDone():
                self._receipts.append(event)
            case events.RecipientFailed():
                self._failures.append(event)
                self._detail(f"{words.plain(event.recipient)}: failed: {words.plain(event.problem.get('what', ''))}")
            case events.Paused():
                self.note(f"paused; `ws transfers resume {event.transfer[:8]}` goes on")
            case events.Resumed():
                self.note("goes on")
            case events.Finished():
                self.__exit__()
                self._finish(event)
            case events.Cancelled():
                self.__exit__()
                self._cancel(event)

    def _detail(self, text: str) -> None:
        self.note(f"  {console.paint(text, console.DIM, self._stream)}" if self._live is None else f"  {text}")

    def _progress(self, event: events.Progress) -> None:
        if self._live is not None:
            return
        now = self._clock()
        if now - self._told.setdefault(event.recipient, now) >= _PAUSE:  # a quick transfer needs no lines of progress
            self._told[event.recipient] = now
            self._detail(f"{words.plain(event.recipient)}: {words.progress(event)}")

    def _finish(self, event: events.Finished) -> None:
        self._results()
        if event.problem is not None:
            console.show_error(words.error(event.problem))
        if len(event.done) + len(event.failed) > 1:
            console.result(words.total(event))
        if event.done and event.root_hash:
            console.result(words.hashed(event.algorithm, event.root_hash))
        if event.failed:
            self.note(f"→ `ws transfers resume {event.transfer[:8]}` tries again for who does not have it")

    def _cancel(self, event: events.Cancelled) -> None:
        self._results()
        if event.kept_partial:
            left = f"what came so far stays; `ws transfers resume {event.transfer[:8]}` goes on from it"
        elif event.left_at:
            left = f"{words.names(event.left_at, 5)} did not confirm that nothing is left: look for NAME.part there"
        else:
            left = "nothing unfinished is left at the recipients"
        self.note(f"{console.paint('!', console.YELLOW, self._stream)} cancelled: {left}")

    def _results(self) -> None:
        for done in self._receipts:
            mark = console.paint("✓", console.GREEN, sys.stdout)
            console.result(f"{mark} {words.has_it(done.recipient, done.receipt)}")
            if done.receipt.kept:
                mark = console.paint("!", console.YELLOW, self._stream)
                self.note(f"{mark} {words.keeps(done.recipient, done.receipt)}")
        for failed in self._failures:
            console.show_error(words.error(failed.problem, failed.recipient))
