"""Looks at a running transfer a few times a second: progress of every recipient, and what its owner was asked for."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ws.transfer.events import Event, Progress
from ws.transfer.hearing import Hearing
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.recipient import FAILED, RUNNING, Recipient
from ws.transfer.remote import Remote, ask, result
from ws.transfer.sender import Sender

EVERY = 0.2
_SENDER_EVERY = 1.0
_ASKED_AT_ONCE, _LOOKS_TO_ASK_ALL = 2, 15
"""A question costs its node, the head and this machine some milliseconds of processor each, and a chain of recipients needs
them: at each look the next two are asked, or more where all would not be asked within so many looks (3 s)."""
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

    `on_lost` is called when the sender does not answer any more: in a thread for itself, as it may take a minute in which
    the recipients have to hear that somebody still wants it. Whatever a subscriber of events raises cancels the transfer.
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
        self._asked: dict[str, tuple[Remote, Future[Any]]] = {}
        self._asked_at: dict[str, float] = {}
        self._rates = {recipient.id: Rate() for recipient in recipients}
        self._told: dict[str, tuple[int, int]] = {}
        self._touched = time.monotonic()
        self._stopped = threading.Event()
        self._failed: Exception | None = None
        self._reviving: threading.Thread | None = None
        self._thread = threading.Thread(target=self._run, name="transfer progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Raises what ended it before its time."""
        self._stopped.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            while not self._stopped.wait(EVERY):
                self._obey(self._wanted())
                self._look()
        except Exception as error:  # of a subscriber: without this thread the nodes would hear of nobody
            self._failed = error
            self._obey("cancel")

    def _look(self) -> None:
        """At all, also those that have it already: others take from them, and the lease of what nobody asks for ends."""
        now = time.monotonic()
        looked_at = [each for each in self._recipients if each.remote is not None and each.state != FAILED]
        for recipient in looked_at:
            self._look_at(recipient, now)
        for recipient in self._next_to_ask(looked_at):
            self._asked_at[recipient.id] = now
            self._ask(recipient.party)
        if now - self._touched > _SENDER_EVERY:
            self._touched = now
            self._look_at_sender()

    def _next_to_ask(self, recipients: Sequence[Recipient]) -> list[Recipient]:
        count = max(_ASKED_AT_ONCE, math.ceil(len(recipients) / _LOOKS_TO_ASK_ALL))
        return sorted(recipients, key=lambda recipient: self._asked_at.get(recipient.id, 0.0))[:count]

    def _look_at_sender(self) -> None:
        try:
            self._answer(self._sender.remote, self._sender.hearing)
        except TransferProblem as problem:
            if problem.code == LOST:
                self._revive()
        self._ask(self._sender.remote)

    def _look_at(self, recipient: Recipient, now: float) -> None:
        try:
            progress = self._answer(recipient.party, recipient.hearing)
        except TransferProblem:
            return  # it may not have begun; whoever waits for it notices the rest
        if progress is not None and not recipient.ended:
            self._take(recipient, progress, now)

    def _ask(self, remote: Remote) -> None:
        """Unless it has not answered the last question yet."""
        asked_of, _ = self._asked.get(remote.id, (None, None))
        if asked_of is not remote:
            self._asked[remote.id] = (remote, ask(remote, "progress", self._tid))

    def _answer(self, remote: Remote, hearing: Hearing) -> dict[str, Any] | None:
        """What it answered to the last question; None: nothing yet."""
        asked_of, asked = self._asked.get(remote.id, (None, None))
        if asked_of is not remote or asked is None or not asked.done():
            return None
        del self._asked[remote.id]
        if not asked.cancelled() and asked.exception() is None:
            hearing.heard()
        return result(asked, remote.id)

    def _revive(self) -> None:
        """One at a time."""
        if self._reviving is None or not self._reviving.is_alive():
            self._reviving = threading.Thread(target=self._on_lost, name="transfer revival", daemon=True)
            self._reviving.start()

    def _take(self, recipient: Recipient, progress: dict[str, Any], now: float) -> None:
        recipient.note(progress)
        done, total, coming = recipient.done_bytes, int(progress["total"]), int(progress.get("coming", 0))
        rate = max(0.0, self._rates[recipient.id].add(now, done + coming))
        if recipient.state == RUNNING and (done, coming) != self._told.get(recipient.id):
            self._told[recipient.id] = (done, coming)
            eta = (total - done - coming) / rate if rate > 0 else None
            told: dict[str, Any] = {"done": done, "coming": coming, "total": total, "rate": rate, "eta": eta}
            self._emit(Progress(transfer=self._tid, recipient=recipient.id, **told))
