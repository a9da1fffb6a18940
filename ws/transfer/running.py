"""One transfer while it runs: offer, accept, probe, then each recipient for itself, and an outcome for all of them."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from dataclasses import replace

from ws.transfer import planning
from ws.transfer.ending import Ending
from ws.transfer.events import (
    Cancelled,
    Event,
    Paused,
    Planned,
    RecipientDone,
    RecipientFailed,
    Resumed,
    Retry,
    Route,
    Stream,
)
from ws.transfer.meeting import agreed, meet
from ws.transfer.onnode.names import name_of
from ws.transfer.onnode.problems import BAD_CHUNK, TransferProblem
from ws.transfer.onnode.problems import CANCELLED as CANCELLED_CODE
from ws.transfer.outcome import CANCELLED, DONE, Outcome, Settings
from ws.transfer.recipient import DONE as HAS_IT
from ws.transfer.recipient import FAILED as HAS_FAILED
from ws.transfer.recipient import RUNNING, Recipient, is_worth_a_retry
from ws.transfer.remote import Remote, ask
from ws.transfer.routing import Router
from ws.transfer.sender import Connect, Sender
from ws.transfer.telling import concluded, finished, started
from ws.transfer.ticker import Ticker

ATTEMPTS = 8
"""In a row, without anything new at the recipient."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_PATIENCE = 20.0
_TOGETHER = 3.0
"""Seconds for the recipients to get ready and be laid out as one chain; who has more to hash first joins it later."""


class Transfer:
    """One transfer, run once by `run`; `cancel`, `pause` and `resume` may be called from other threads meanwhile."""

    def __init__(
        self,
        connect: Connect,
        source: tuple[str, str],
        recipients: Sequence[str],
        settings: Settings,
        stream: Stream,
        wanted: Callable[[], str] = lambda: "none",
        tid: str | None = None,
        retry_pause: float = _FIRST_PAUSE,
    ) -> None:
        self.id = tid or uuid.uuid4().hex
        self._connect = connect
        self._source = source
        self._settings = settings
        self._stream = stream
        self._secret = secrets.token_bytes(32)
        self._chunk_size = settings.chunk_size or planning.chunk_size(len(recipients))
        self._streams = planning.streams(len(recipients))
        self._cancelled = threading.Event()
        about = (source[0], source[1], self.id, self._secret, self._chunk_size, settings.limit)
        self._sender = Sender(connect, *about, ending=self._cancelled)
        self._recipients = [Recipient(recipient, self.id, self._cancelled) for recipient in recipients]
        self._ticker = Ticker(self.id, self._sender, self._recipients, self._emit, wanted, self._obey, self._on_lost)
        self._router = Router(self.id, self._secret, self._sender, self._recipients, settings.plane)
        self._ending = Ending(self.id)
        self._lock = threading.RLock()
        self._may_go = threading.Event()  # cleared while it is paused
        self._may_go.set()
        self._retry_pause = retry_pause
        self._began = time.monotonic()

    def run(self) -> Outcome:
        """All of it; failures are in the outcome. An interrupt (Ctrl-C) cancels it, and is raised again."""
        self._began = time.monotonic()
        problem: TransferProblem | None = None
        try:
            try:
                self._begin()
            except TransferProblem as failed:
                problem = failed
            self._emit(started(self.id, self._source, self._sender, self._recipients, self._settings))
            if problem is None:
                self._ticker.start()
                try:
                    self._serve_all()
                finally:
                    self._ticker.stop()
        except BaseException:
            self.cancel()
            with contextlib.suppress(Exception):  # of the subscriber, perhaps, that is the reason
                self._tell_cancelled()
            raise
        return self._concluded(problem)

    def cancel(self) -> None:
        """End it everywhere; what has arrived is removed unless it is to be kept."""
        with self._lock:
            if self._cancelled.is_set():
                return
            self._cancelled.set()
        self._may_go.set()
        self._ending.cancel(self._remotes(), keep_partial=self._settings.keep_partial)

    def pause(self, paused: bool = True) -> None:
        """Let it rest, the sender too, who may be pushing; who has not begun to receive waits for `pause(False)`."""
        with self._lock:
            if self._cancelled.is_set() or self._may_go.is_set() != paused:
                return
            self._may_go.clear() if paused else self._may_go.set()
        for remote in self._remotes():
            ask(remote, "pause" if paused else "resume", self.id)
        self._emit((Paused if paused else Resumed)(transfer=self.id))

    def _obey(self, wanted: str) -> None:
        if wanted == "cancel":
            self.cancel()
        else:
            self.pause(wanted == "pause")

    def _on_lost(self) -> None:
        """The sender is gone: it is started anew, and who waits for the old one is told to ask again."""
        try:
            if self._cancelled.is_set() or not self._sender.revive():
                return
        except TransferProblem:
            return  # it cannot be; each recipient goes on with what the others have, and then says so
        if self._cancelled.is_set():
            ask(self._sender.remote, "finish", self.id)
        for recipient in self._recipients:
            if recipient.state == RUNNING and recipient.remote is not None:
                recipient.is_interrupted = True
                ask(recipient.remote, "interrupt", self.id)

    # The course of it

    def _begin(self) -> None:
        """All parties are started at once, so that it is known which hash they have in common."""
        settings = self._settings
        meet(self._connect, self._sender, self._recipients)
        parties = [(self._sender.id, self._sender.remote), *((each.id, each.remote) for each in self._recipients)]
        known = {name: remote.algorithms if remote else None for name, remote in parties}
        self._sender.offer(agreed(settings.hash, settings.algorithm, known))

    def _serve_all(self) -> None:
        with ThreadPoolExecutor(len(self._recipients), thread_name_prefix="transfer leg") as pool:
            try:
                starting = {pool.submit(self._first_accept, each): each for each in self._recipients}
                in_time = wait(starting, _TOGETHER).done
                first = [recipient for start, recipient in starting.items() if start in in_time]
                self._plan([recipient for recipient in first if recipient.accepted])
                legs = [pool.submit(self._run_leg, recipient) for recipient in first]
                legs += [pool.submit(self._run_leg, starting[start]) for start in as_completed(starting.keys() - in_time)]
                for done in (*starting, *legs):
                    done.result()
            except BaseException:
                self.cancel()
                raise

    def _first_accept(self, recipient: Recipient) -> None:
        if recipient.remote is None:
            return  # it did not come; its leg tries again
        try:
            self._accept(recipient)
        except TransferProblem as problem:
            if not is_worth_a_retry(problem):
                self._fail(recipient, problem)

    def _accept(self, recipient: Recipient) -> None:
        if recipient.remote is None:
            recipient.remote = self._connect(recipient.id, False)
        settings = self._settings
        spec = {
            "listing": self._sender.about["listing"],
            "secret": self._secret,
            "chunk_size": self._chunk_size,
            "algorithm": self._sender.algorithm,
            "dest": settings.dest,
            "overwrite": settings.overwrite,
            "fsync": settings.fsync,
            "keep_partial": settings.keep_partial,
            "limit": settings.limit,
            "name": recipient.id,
            "called": name_of(self._source[1]),
        }
        recipient.accept(spec, self._sender.about["chunks"], self._sender.hashes)

    def _run_leg(self, recipient: Recipient) -> None:
        problem: TransferProblem | None = None
        attempt, most = 0, recipient.done_bytes
        while not recipient.ended:
            try:
                self._attempt(recipient, problem)
                return
            except TransferProblem as failed:
                problem = failed
            came_further = recipient.done_bytes > most
            attempt, most = 1 if came_further else attempt + 1, max(most, recipient.done_bytes)
            if self._cancelled.is_set() or attempt == ATTEMPTS or not is_worth_a_retry(problem):
                self._fail(recipient, problem)
                return
            self._pause_before_retry(recipient, attempt, problem)

    def _attempt(self, recipient: Recipient, last: TransferProblem | None) -> None:
        if self._cancelled.is_set():
            raise TransferProblem(CANCELLED_CODE, "the transfer was cancelled")
        if last is not None or recipient.leg is None:
            self._mend(recipient, last)
        recipient.state = RUNNING
        self._receive(recipient)
        bad = recipient.settle(self._sender.hashes())
        if bad:
            raise TransferProblem(BAD_CHUNK, f"{bad} chunks that {recipient.id} got are not the source's")
        recipient.state = HAS_IT
        assert recipient.receipt
        recipient.done_bytes = recipient.receipt.bytes
        self._emit(RecipientDone(transfer=self.id, recipient=recipient.id, receipt=recipient.receipt))

    def _pause_before_retry(self, recipient: Recipient, attempt: int, problem: TransferProblem) -> None:
        recipient.retries += 1
        pause = 0.0 if problem.code == BAD_CHUNK else min(_LONGEST_PAUSE, self._retry_pause * 2 ** (attempt - 1))
        self._emit(Retry(transfer=self.id, recipient=recipient.id, attempt=attempt + 1, why=str(problem), pause=pause))
        self._cancelled.wait(pause)

    def _receive(self, recipient: Recipient) -> None:
        leg = recipient.leg
        assert leg
        self._may_go.wait()
        source = self._router.remote(leg.source)
        if leg.plane == planning.RAY and source is not None and source.actor is None:
            recipient.wait(ask(source, "push", self.id, recipient.party.actor))
        elif self._router.have_dialled(recipient, self._streams):
            recipient.pull(self._router.peers(leg), {"streams": self._streams, "patience": _PATIENCE})
        else:
            self._plan([recipient])
            self._receive(recipient)

    def _mend(self, recipient: Recipient, problem: TransferProblem | None) -> None:
        """Before it is tried again: whoever is gone is started anew, and its way is looked for again."""
        self._sender.revive()
        self._router.judge(recipient, problem)
        if recipient.is_lost or recipient.remote is None:
            recipient.accepted = False
            recipient.remote = self._connect(recipient.id, True)
        if not recipient.accepted:
            self._accept(recipient)
        self._plan([recipient])

    def _fail(self, recipient: Recipient, problem: TransferProblem) -> None:
        recipient.state, recipient.problem = HAS_FAILED, problem
        if recipient.remote is not None and not self._cancelled.is_set():
            ask(recipient.remote, "finish", self.id, True)  # kept: sent again, it goes on where it was
        if not self._cancelled.is_set():
            self._emit(RecipientFailed(transfer=self.id, recipient=recipient.id, problem=problem.as_dict()))

    def _plan(self, joining: Sequence[Recipient]) -> None:
        names = {each.id: each.party.name for each in joining}
        legs = self._router.route(joining)
        routes = tuple(Route(leg.recipient, leg.plane, leg.why, leg.path, names[leg.recipient]) for leg in legs)
        if routes:
            self._emit(Planned(transfer=self.id, routes=routes))

    # Around it

    def _remotes(self) -> Iterable[Remote]:
        sender = getattr(self._sender, "remote", None)
        return [remote for remote in (sender, *(each.remote for each in self._recipients)) if remote is not None]

    def _tell_cancelled(self) -> None:
        keep = self._settings.keep_partial
        if keep:
            self._ending.say_goodbye(self._remotes())
        left_at = () if keep else self._ending.remove_all(getattr(self._sender, "remote", None), self._recipients)
        self._emit(Cancelled(transfer=self.id, kept_partial=keep, left_at=left_at))

    def _emit(self, event: Event) -> None:
        with self._lock:
            self._stream.emit(event)

    def _concluded(self, problem: TransferProblem | None) -> Outcome:
        outcome = concluded(self.id, self._sender, self._recipients, time.monotonic() - self._began, problem)
        if outcome.state != DONE and self._cancelled.is_set():
            self._tell_cancelled()
            return replace(outcome, state=CANCELLED)
        self._ending.say_goodbye(self._remotes())
        self._emit(finished(outcome))
        return outcome
