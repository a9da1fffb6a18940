"""Runs an `Election` in real time, over HTTP; and finds the leader for those that are no candidates."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ws.node.clock import steady
from ws.node.election import Election
from ws.node.fields import BadRequest, Body
from ws.node.http_client import HttpFailure, call
from ws.node.http_service import App
from ws.node.messages import HEAD, HEALTH, UNDECIDED, WORKER, Claim, HealthAnswer, PeerAnswer, Send, View
from ws.node.secret import Secret, Token

__all__ = ["Elector", "ElectorSettings", "Elsewhere", "View", "leader_of"]

RESIGN_LIMIT = 1.0


class Reachable(Protocol):
    """A candidate and the URL of its agent's own port."""

    @property
    def name(self) -> str: ...
    @property
    def agent_url(self) -> str: ...


@dataclass(frozen=True)
class Elsewhere:
    """A candidate of the whitelist that nobody here knows how to ask. It counts, and never gives its word."""

    name: str
    agent_url: str = ""


@dataclass(frozen=True)
class ElectorSettings:
    """What one candidate's election needs; times in seconds.

    Attributes:
        me: this candidate's name; it is among `candidates`.
        candidates: the whole whitelist in its order, with `Elsewhere` for a name without a known address.
        instance: tells this process from every other one.
        address: where this candidate's head would listen, host:port.
        health_url: without a path; "": there is no health server.
        health_timeout: for one request.
        max_retries: how many requests in a row the health server leaves unanswered when it is down.
        retry_interval: from one of them to the next; never more than a fifth of the ttl.
        token: empty where authentication is off.
        patience: how long a health server may be away at the start before the first candidate leads without it.
    """

    me: str
    instance: str
    candidates: Sequence[Reachable]
    address: str
    ttl: float
    health_url: str
    health_timeout: float = 1.0
    token: Token = Secret()  # noqa: RUF009  (it does not change)
    patience: float = 3.0
    max_retries: int = 3
    retry_interval: float = 1.0


class Elector:
    """One candidate, live: `view` says what it is now, from any thread."""

    def __init__(self, settings: ElectorSettings, on_log: Callable[[str], None]) -> None:
        self._on_log = on_log
        self._election = Election(
            me=settings.me,
            instance=settings.instance,
            candidates=[candidate.name for candidate in settings.candidates],
            address=settings.address,
            ttl=settings.ttl,
            rng=random.Random(),  # noqa: S311  (spreads requests in time, nothing more)
            patience=settings.patience if settings.health_url else 0.0,
            timeout=settings.health_timeout,
            max_retries=settings.max_retries if settings.health_url else 1,
            retry_interval=settings.retry_interval,
            unreachable={candidate.name for candidate in settings.candidates if not candidate.agent_url},
        )
        urls = {candidate.name: candidate.agent_url for candidate in settings.candidates}
        urls[HEALTH] = settings.health_url
        self._lanes = {
            target: _Lane(target, url, settings.token, self._took) for target, url in urls.items() if target != settings.me
        }
        self._changed = threading.Condition()
        self._due = False
        self._told = self._election.view
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="elector", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def view(self) -> View:
        """What this candidate is at this moment: a right that has just ended is not in it any more."""
        with self._changed:
            self._election.settle(steady())
            return self._election.view

    def wait_change(self, known: View, timeout: float) -> View:
        """The view as soon as it is another than `known`, or after `timeout` seconds."""
        deadline = steady() + timeout
        with self._changed:
            while self.view == known and not self._stopped and steady() < deadline:
                self._changed.wait(deadline - steady())
            return self.view

    def lost(self) -> None:
        """The head that this node ran has died: give the lease back, and let the others go first."""
        with self._changed:
            self._election.lost(steady())
            self._wake()

    def resign(self) -> None:
        """Never lead again. Returns when the lease is given back, at the latest after a second."""
        deadline = steady() + RESIGN_LIMIT
        with self._changed:
            self._election.resign(steady())
            self._wake()
            while not self._election.is_done and not self._stopped and steady() < deadline:
                self._changed.wait(deadline - steady())

    def stop(self) -> None:
        """End the threads; the lease, where one is held, is left to run out."""
        with self._changed:
            self._stopped = True
            self._wake()
        for lane in self._lanes.values():
            lane.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def app_routes(self) -> App:
        """What other candidates ask (`POST /claim`), and everyone may (`GET /status`)."""

        def claim(body: Body) -> tuple[int, dict[str, Any]]:
            asked = Claim.read(body)
            with self._changed:
                answer = self._election.asked(steady(), asked)
                self._wake()
            return 200, answer.as_dict()

        def status(body: Body) -> tuple[int, dict[str, Any]]:
            with self._changed:
                self._election.settle(steady())
                return 200, self._election.status().as_dict()

        return {("POST", "/claim"): claim, ("GET", "/status"): status}

    def _wake(self) -> None:
        self._due = True
        self._changed.notify_all()

    def _took(self, question_id: int, reply: dict[str, Any] | None, failure: HttpFailure | None) -> None:
        with self._changed:
            text, refused = (failure.text, failure.is_refusal) if failure else ("", False)
            self._election.receive(steady(), question_id, reply, text, refused)
            self._wake()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                self._due = False
                for send in self._election.step(steady()):
                    self._lanes[send.target].put(send)
                self._tell()
                wait = self._election.next_wake(steady()) - steady()
                if not self._due and wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))

    def _tell(self) -> None:
        view = self._election.view
        if view != self._told:
            if self._told.role == HEAD and view.role != HEAD:
                self._on_log(f"election: this node leads no more: {self._election.why_stepped_down}")
            self._told = view
            self._on_log(_in_words(view))
            self._changed.notify_all()


def _in_words(view: View) -> str:
    health = "" if view.health_up else "; the health server is down"
    if view.role == HEAD:
        return f"election: this node leads, epoch {view.epoch} ({view.reason})"
    if view.role == WORKER:
        return f"election: {view.leader} leads at {view.address}, epoch {view.epoch}{health}"
    return f"election: nobody leads ({view.reason})"


Took = Callable[[int, "dict[str, Any] | None", "HttpFailure | None"], None]


class _Lane:
    """Sends to one target, one after the other, in a thread of its own: one that hangs delays no other."""

    def __init__(self, target: str, url: str, token: Token, took: Took) -> None:
        self._target, self._url, self._token, self._took = target, url.rstrip("/"), token, took
        self._queue: queue.SimpleQueue[Send | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, send: Send) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"to {self._target}", daemon=True)
            self._thread.start()
        self._queue.put(send)

    def stop(self) -> None:
        self._queue.put(None)

    def _run(self) -> None:
        while True:
            send = self._queue.get()
            if send is None:
                return
            if not self._url:
                self._took(send.id, None, HttpFailure("refused", "none is given"))
                continue
            method = "POST" if send.message else "GET"
            url = self._url + send.path
            try:
                self._took(send.id, call(url, method, send.message or None, self._token, send.timeout), None)
            except HttpFailure as failure:
                self._took(send.id, None, failure)


def leader_of(
    health_url: str,
    token: Token,
    candidates: Sequence[Reachable],
    timeout: float,
    tried: list[str] | None = None,
) -> View | None:
    """Who leads now, as a worker's view; None where nobody is known to.

    The health server is asked first; where it is down or grants nobody, the candidates in their order, and one that
    says that it leads is believed before one that follows. `timeout` is for each request; what failed is added to
    `tried`, a line each.
    """
    failures = tried if tried is not None else []
    found = _leader_by_health(health_url, token, timeout, failures) if health_url else None
    if found:
        return found
    followed = None
    for candidate in candidates:
        answer = _status_of(candidate, token, timeout, failures)
        if answer and answer.head:
            view = View(WORKER, answer.head.name, answer.head.address, answer.head.epoch, answer.health_up)
            if answer.role == HEAD:
                return view
            followed = followed or view
    return followed


def _leader_by_health(url: str, token: Token, timeout: float, failures: list[str]) -> View | None:
    try:
        lease = HealthAnswer.read(call(f"{url.rstrip('/')}/lease", "GET", None, token, timeout), False).lease
    except (HttpFailure, BadRequest) as failure:
        failures.append(f"health server: {failure}")
        return None
    if lease is None:
        failures.append("health server: nobody holds the lease")
        return None
    return View(WORKER, lease.name, lease.address, lease.epoch, True)


def _status_of(candidate: Reachable, token: Token, timeout: float, failures: list[str]) -> PeerAnswer | None:
    try:
        url = f"{candidate.agent_url.rstrip('/')}/status"
        answer = PeerAnswer.read(call(url, "GET", None, token, timeout))
    except (HttpFailure, BadRequest) as failure:
        failures.append(f"{candidate.name}: {failure}")
        return None
    if answer.role == UNDECIDED:
        failures.append(f"{candidate.name}: knows of no head ({answer.reason})")
    return answer
