"""Staying connected to one cluster: looks, transitions and node changes in a thread of its own.

Nothing here blocks the caller, and a look that hangs is given up, not waited for. Several watchers know nothing of each
other, so several clusters can be watched, in turn or at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ws.cluster.bounded import Bounded, Stuck
from ws.cluster.connection import Connection, State, Timing, Transition
from ws.cluster.dashboard import TokenRefused
from ws.cluster.look import Identity, Look, Source, Starting
from ws.cluster.nodes import Node, NodeChange, NodeTracker
from ws.cluster.reach import Reach
from ws.cluster.versions import Mismatch
from ws.errors import EnvironmentProblem

_log = logging.getLogger(__name__)
_LOOK = 5.0
"""Seconds that one look may take in all; single questions have shorter deadlines of their own."""
_LONGEST_WAIT = 3600.0
_HOPELESS = (TokenRefused, Mismatch)

Event = Transition | NodeChange
Subscriber = Callable[[Event], None]


@dataclass(frozen=True)
class View:
    """What is known at one moment: the connection's state and why, which cluster, its nodes by number.

    `seen_at` is the time (seconds since 1970) of the look that this is from; None where there was none.
    """

    state: State
    why: str
    cluster: Identity | None
    nodes: tuple[Node, ...]
    seen_at: float | None


class Watcher:
    """One connection. `connect` starts it, `close` ends it for good; every method may be called from any thread.

    `open_source` is called for every new session of looks: after `connect`, `reconnect`, and once a look hung.
    """

    def __init__(self, open_source: Callable[[], Source], timing: Timing | None = None) -> None:
        self._open_source = open_source
        self._machine = Connection(timing)
        self._tracker = NodeTracker()
        self._source: Source | None = None
        self._opening = 0
        self._cluster: Identity | None = None
        self._seen_at: float | None = None
        self._problem: EnvironmentProblem | None = None
        self._subscribers: list[Subscriber] = []
        self._changed = threading.Condition(threading.RLock())
        self._news: list[Event] = []
        self._closed = False
        self._looks: Bounded[Look] = Bounded("look")
        self._reach = Reach(self._on_reach)
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._thread.start()

    # For the user

    def connect(self) -> None:
        """Start connecting; does nothing where that was done already."""
        with self._changed:
            self._machine.connect(time.monotonic())
            self._changed.notify_all()

    def reconnect(self) -> None:
        """Look again at once, whatever the state, by a source opened anew."""
        self._start_over(self._machine.reconnect)

    def disconnect(self) -> None:
        """End the connection; `connect` begins it again, and nodes keep their numbers."""
        self._start_over(self._machine.disconnect)
        self._reach.follow({})

    def close(self) -> None:
        """End the connection and its threads."""
        with self._changed:
            self._closed = True
            self._looks.give_up()
            self._changed.notify_all()
        self._thread.join()
        self._reach.close()
        self._drop_source()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Have every event told, in the watcher's own thread; returns what ends it.

        `subscriber` should return quickly, and may call everything but `close`, which waits for that thread.
        """
        with self._changed:
            self._subscribers.append(subscriber)

        def end() -> None:
            with self._changed:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)

        return end

    def view(self) -> View:
        """What is known now."""
        with self._changed:
            machine = self._machine
            return View(machine.state, machine.why, self._cluster, tuple(self._tracker.nodes()), self._seen_at)

    @property
    def problem(self) -> EnvironmentProblem | None:
        """The last look's problem; None where it brought what it should."""
        with self._changed:
            return self._problem

    def wait(self, condition: Callable[[View], bool], timeout: float) -> View | None:
        """Wait until the view fulfils a condition; None where it does not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not condition(view := self.view()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            return view

    # The thread

    def _run(self) -> None:
        while True:
            self._publish()
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                self._machine.advance(now)
                number = self._machine.begin(now)
                if number is None and not self._has_news():
                    self._changed.wait(min(_LONGEST_WAIT, max(0.0, self._machine.wake_at() - now)))
            if number is not None:
                self._attempt(number)

    def _attempt(self, number: int) -> None:
        try:
            seen = self._looks.call(self._look, _LOOK)
        except EnvironmentProblem as problem:
            self._miss(number, problem)
        except Exception as error:  # a bug of ours must not end the watch
            _log.exception("a look failed")
            self._miss(number, EnvironmentProblem("the look failed", f"{type(error).__name__}: {error}"))
        else:
            self._take(number, seen)

    def _look(self) -> Look:
        """In a thread that may be left behind: what it opens then is of no use to anybody."""
        with self._changed:
            source, opening = self._source, self._opening
        if source is None:
            source = self._open_source()
            with self._changed:
                wanted = opening == self._opening and self._source is None and not self._closed
                if wanted:
                    self._source = source
            if not wanted:
                source.close()
                raise EnvironmentProblem("the connection was ended meanwhile")
        return source.look()

    def _take(self, number: int, seen: Look) -> None:
        with self._changed:
            if self._machine.seen(time.monotonic(), number):
                self._problem = None
                self._cluster, self._seen_at = seen.cluster, time.time()
                self._news += self._tracker.update(seen.nodes, seen.actors)
                self._reach.follow(
                    {node.node_id: node.endpoint for node in seen.nodes if node.alive and node.endpoint is not None}
                )
            self._changed.notify_all()

    def _miss(self, number: int, problem: EnvironmentProblem) -> None:
        hopeless, starting = isinstance(problem, _HOPELESS), isinstance(problem, Starting)
        with self._changed:
            if self._machine.missed(time.monotonic(), number, _in_words(problem), hopeless=hopeless, starting=starting):
                self._problem = problem
            lost = self._machine.state not in {State.connected, State.degraded}
            self._changed.notify_all()
        if isinstance(problem, Stuck) or (lost and not starting):
            self._drop_source()

    def _on_reach(self, node_id: str, why: str | None) -> None:
        with self._changed:
            self._news += self._tracker.suspect(node_id, why) if why else self._tracker.trust(node_id)
            self._changed.notify_all()

    def _start_over(self, wish: Callable[[float], None]) -> None:
        """What a look under way brings counts no more, so it is not waited for."""
        with self._changed:
            wish(time.monotonic())
            self._looks.give_up()
            self._changed.notify_all()
        self._drop_source()

    def _drop_source(self) -> None:
        """The next look opens another: the address may lead elsewhere by then."""
        with self._changed:
            source, self._source = self._source, None
            self._opening += 1
        if source:
            source.close()

    def _has_news(self) -> bool:
        return bool(self._news) or self._machine.has_transitions

    def _publish(self) -> None:
        with self._changed:
            events: list[Event] = [*self._machine.take_transitions(), *self._news]
            self._news = []
            subscribers = list(self._subscribers)
        for event in events:
            for subscriber in subscribers:
                try:
                    subscriber(event)
                except Exception:  # one subscriber's bug is not the others' loss
                    _log.exception("a subscriber failed")


def _in_words(problem: EnvironmentProblem) -> str:
    return f"{problem.what}{f' ({problem.why})' if problem.why else ''}"
