"""Looks at a running transfer a few times a second: progress of every recipient, and what its owner was asked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ws.transfer.events import Event, Progress
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.recipient import RUNNING, Recipient
from ws.transfer.remote import ask, result
from ws.transfer.sender import Sender

EVERY = 0.2
_SENDER_EVERY = 1.0
_RATE_OVER = 3.0
"""Seconds over which a rate is the mean."""


class Rate:
    """Bytes per second over the last seconds, or over the last step where steps (whole chunks) are rarer than that."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()

    def add(self, now: float, done: int) -> float:
        if not self._steps or done != self._steps[-1][1]:
            self._steps.append((now, done))
        while len(self._steps) > 2 and now - self._steps[1][0] > _RATE_OVER:
            self._steps.popleft()
        (first, before), (last, after) = self._steps[0], self._steps[-1]
        overdue = now - last > last - first  # the next step is late by a whole one: it has become slower
        seconds = (now if overdue else last) - first
        return (after - before) / seconds if seconds > 0 else 0.0


class Ticker:
    """Runs in a thread of its own from `start` to `stop`. `wanted` is asked each time, and told to `obey`.

    `on_lost` is called, in that thread, when the sender does not answer any more.
    """

    def __init__(
        self,
        tid: str,
        sender: Sender,
        recipients: Sequence[Recipient],
        emit: Callable[[Event], None],
        wanted: Callable[[], str],
        obey: Callable[[str], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._tid, self._sender, self._recipients = tid, sender, recipients
        self._emit, self._wanted, self._obey, self._on_lost = emit, wanted, obey, on_lost
        self._asked: dict[str, Future[Any]] = {}
        self._rates = {recipient.id: Rate() for recipient in recipients}
        self._told: dict[str, int] = {}
        self._touched = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="transfer progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY):
            self._obey(self._wanted())
            now = time.monotonic()
            for recipient in self._recipients:
                if recipient.remote is not None and not recipient.ended:
                    self._look_at(recipient, now)
            if now - self._touched > _SENDER_EVERY:
                self._touched = now
                self._look_at_sender()

    def _look_at_sender(self) -> None:
        """It also learns by it that somebody still wants it."""
        asked = self._asked.get(self._sender.id)
        if asked is not None and not asked.done():
            return
        if asked is not None:
            try:
                result(asked, self._sender.id)
            except TransferProblem as problem:
                if problem.code == LOST:
                    self._on_lost()
        self._asked[self._sender.id] = ask(self._sender.remote, "progress", self._tid)

    def _look_at(self, recipient: Recipient, now: float) -> None:
        """One question at a time: one that is not answered yet is not asked again."""
        asked = self._asked.get(recipient.id)
        if asked is not None:
            if not asked.done():
                return
            with contextlib.suppress(TransferProblem):  # it may not have begun; whoever waits for it notices the rest
                self._take(recipient, result(asked, recipient.id), now)
        self._asked[recipient.id] = ask(recipient.party, "progress", self._tid)

    def _take(self, recipient: Recipient, progress: dict[str, Any], now: float) -> None:
        recipient.note(progress)
        done, total = recipient.done_bytes, int(progress["total"])
        rate = self._rates[recipient.id].add(now, done)
        if recipient.state == RUNNING and done != self._told.get(recipient.id):
            self._told[recipient.id] = done
            eta = (total - done) / rate if rate > 0 else None
            self._emit(Progress(transfer=self._tid, recipient=recipient.id, done=done, total=total, rate=rate, eta=eta))
