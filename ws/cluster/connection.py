"""Whether we are connected to a cluster: a state machine without I/O, told what happened and when.

    disconnected ──connect──► connecting ──seen──► connected ──missed──► degraded ──silence──► reconnecting
                                  │                    ▲                    │                      │
                                  └─ gives up ─► failed └───────seen─────────┴─────────seen─────────┘

`failed` is also where trying again is vain (a wrong token). It is left by `connect` and `reconnect` alone. Every time
is in seconds of one monotonic clock, which the caller reads.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from dataclasses import dataclass


class State(enum.StrEnum):
    disconnected = "disconnected"
    connecting = "connecting"
    connected = "connected"
    degraded = "degraded"
    reconnecting = "reconnecting"
    failed = "failed"


LOOKING = frozenset({State.connecting, State.connected, State.degraded, State.reconnecting})


@dataclass(frozen=True)
class Timing:
    """Seconds.

    Attributes:
        beat: from one look at a healthy cluster to the next.
        hurry: from a look that failed to the next, while the cluster is not given up.
        patience: silence until the connection counts as lost.
        first_pause, longest_pause: between attempts to reconnect; each pause is up to twice the one before.
        first_patience: how long a cluster that was never seen is tried; math.inf: for ever.
    """

    beat: float = 1.0
    hurry: float = 0.5
    patience: float = 5.0
    first_pause: float = 0.5
    longest_pause: float = 4.0
    first_patience: float = 15.0


@dataclass(frozen=True)
class Transition:
    """One change of state, at a time of the machine's clock."""

    at: float
    before: State
    state: State
    why: str


class Connection:
    """One connection's state. Not for several threads at once: whoever drives it brings the lock.

    Attributes:
        state: where it stands.
        due: when the next look at the cluster is to begin; None: none is wanted, or one is under way.
        attempts: looks that failed since the last that did not.
        why: what the last failure was; empty where there is none.
    """

    def __init__(self, timing: Timing | None = None, chance: Callable[[], float] = random.random) -> None:
        self.timing = timing or Timing()
        self.state = State.disconnected
        self.due: float | None = None
        self.attempts = 0
        self.why = ""
        self._chance = chance
        self._look = 0
        self._seen_at = -math.inf
        self._trying_since = -math.inf
        self._transitions: list[Transition] = []

    # What the user wants

    def connect(self, now: float) -> None:
        """Start connecting; does nothing where that was done already."""
        if self.state not in LOOKING:
            self._start(now, State.connecting, "asked to connect")

    def reconnect(self, now: float) -> None:
        """Look at once, whatever the state: a look under way counts no more, and pauses begin small again."""
        seen_before = self.state in {State.connected, State.degraded, State.reconnecting}
        self._start(now, State.reconnecting if seen_before else State.connecting, "asked to reconnect")

    def disconnect(self, now: float) -> None:
        """End it; a look under way counts no more."""
        self._drop_look()
        self.due = None
        self._enter(now, State.disconnected, "asked to disconnect")

    # What happened

    def begin(self, now: float) -> int | None:
        """Begin a look if one is due; returns its number, which `seen` or `missed` must bring back, else None."""
        if self.due is None or now < self.due:
            return None
        self.due = None
        self._look += 1
        return self._look

    def seen(self, now: float, look: int) -> bool:
        """The cluster answered that look; False where the look counts no more."""
        if not self._is_current(look):
            return False
        self._seen_at, self.attempts, self.why = now, 0, ""
        self.due = now + self.timing.beat
        self._enter(now, State.connected, "the cluster answers")
        return True

    def missed(self, now: float, look: int, why: str, *, hopeless: bool = False, starting: bool = False) -> bool:
        """That look failed; False where it counts no more.

        `hopeless`: another would fail as well; `starting`: it was our own side that was not ready, which is no failure.
        """
        if not self._is_current(look):
            return False
        if starting and self.state in {State.connecting, State.reconnecting}:
            self.due = now + self.timing.hurry
            return True
        self.attempts += 1
        self.why = why
        if hopeless or self._is_given_up(now):
            self.due = None
            self._enter(now, State.failed, why)
        elif self.state in {State.connected, State.degraded}:
            self._enter(now, State.degraded, why)
            self.due = now + self.timing.hurry
            self.advance(now)
        elif self.state is State.connecting and now < self._given_up_at:  # the last attempt is when patience ends, not later
            self.due = min(now + self._pause(), self._given_up_at)
        else:
            self.due = now + self._pause()
        return True

    def _is_given_up(self, now: float) -> bool:
        """A cluster that was never seen; one failure alone, however late it came, is not enough."""
        return self.state is State.connecting and self.attempts > 1 and now >= self._given_up_at

    def advance(self, now: float) -> None:
        """Time has passed: too long a silence is noticed even while a look hangs."""
        if self.state in {State.connected, State.degraded} and now >= self._patient_until:
            self.attempts = max(1, self.attempts)
            self._enter(now, State.reconnecting, self.why or "the cluster is silent")
            if self.due is not None:
                self.due = min(self.due, now + self._pause())

    def wake_at(self) -> float:
        """When `begin` or `advance` has something to do next; infinity: only when asked."""
        times = [math.inf] if self.due is None else [self.due]
        if self.state in {State.connected, State.degraded}:
            times.append(self._patient_until)
        return min(times)

    @property
    def _given_up_at(self) -> float:
        return self._trying_since + self.timing.first_patience

    @property
    def _patient_until(self) -> float:
        """One sum for both who sleeps until then and who asks whether it is over: rounded apart, they may never agree."""
        return self._seen_at + self.timing.patience

    @property
    def has_transitions(self) -> bool:
        return bool(self._transitions)

    def take_transitions(self) -> list[Transition]:
        """What changed since this was asked last, oldest first."""
        taken, self._transitions = self._transitions, []
        return taken

    def _start(self, now: float, state: State, why: str) -> None:
        self._drop_look()
        self.attempts, self.due, self._trying_since = 0, now, now
        self._enter(now, state, why)

    def _drop_look(self) -> None:
        self._look += 1

    def _is_current(self, look: int) -> bool:
        return look == self._look and self.due is None and self.state in LOOKING

    def _pause(self) -> float:
        """Twice as long each time, and by chance somewhere in its upper half: not all watchers come at once."""
        timing = self.timing
        whole = min(timing.longest_pause, timing.first_pause * 2 ** min(self.attempts - 1, 30))
        return float(whole * (0.5 + 0.5 * self._chance()))

    def _enter(self, now: float, state: State, why: str) -> None:
        if state is not self.state:
            self._transitions.append(Transition(now, self.state, state, why))
            self.state = state
