"""Which peer to ask next, and when to give up: decisions without I/O, told what happened and when.

Peers stand in order of preference: the predecessor in the chain first, then those who stand in for it. A peer that failed
rests, twice as long each time, and is then tried by one stream alone until it gives a chunk. One that only says WAIT is
bypassed for a while if another may have more. Times are seconds of one monotonic clock, which the caller reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ws.transfer.onnode.problems import BAD_CHUNK, STALLED, UNREACHABLE, WRONG_SECRET, TransferProblem

_MOST_BAD = 3  # chunks whose bytes are not those of their digest, after which a peer is asked no more
_FROZEN = 1.0  # a longer step between two looks at the clock says that this process itself was stopped


class Timing(NamedTuple):
    """Seconds. `stall`: silence, or nothing but WAIT, until another peer is asked. `patience`: without any progress until
    it is over. `first_pause`, `longest_pause`: a peer's rest after failures. `eager_pause`: where nobody else is left.
    """

    stall: float = 5.0
    patience: float = 30.0
    first_pause: float = 0.25
    longest_pause: float = 16.0
    eager_pause: float = 1.0


@dataclass
class _Peer:
    name: str
    origin: bool
    slots: float  # connections that there may be at once
    users: int = 0
    failures: int = 0
    bad: int = 0
    taken_at: float = -math.inf
    rest_from: float = -math.inf
    rest_until: float = -math.inf
    bypassed_until: float = -math.inf
    banned: bool = False
    code: str = ""
    said: str = ""

    def is_open(self) -> bool:
        """Whether a stream may use it at all; after a failure one stream alone tries it."""
        return not self.banned and self.users < (1 if self.failures else self.slots)


class Choice:
    """The peers of one recipient. Not for several threads at once: whoever drives it brings the lock."""

    def __init__(self, timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self._peers: dict[str, _Peer] = {}
        self._seen_at: float | None = None
        self._waited = 0.0

    # The peers

    def add(self, name: str, *, origin: bool = False, slots: float = math.inf) -> None:
        """A peer, less preferred than those before; `slots`: how many connections it can have, for one that dials us."""
        self._peers.setdefault(name, _Peer(name, origin, slots))

    def allow(self, name: str, slots: float) -> None:
        """So many connections to it from now on."""
        self._peers[name].slots = slots

    def is_banned(self, name: str) -> bool:
        return self._peers[name].banned

    # Which one

    def take(self, now: float) -> str | None:
        """The peer that a stream should ask now, to be given back by `release`; None: none before `wake_at`."""
        peer = self._best(now)
        if peer:
            peer.users += 1
            peer.taken_at = now
            return peer.name
        return None

    def release(self, name: str) -> None:
        self._peers[name].users -= 1

    def has_better(self, name: str, now: float) -> bool:
        """Whether `take` would give a more preferred peer than that one."""
        for peer in self._peers.values():
            if peer.name == name:
                return False
            if peer.is_open() and _is_rested(peer, now):
                return True
        return False

    def wake_at(self) -> float:
        """When `take` may give one, if nothing else happens; infinity: not by the passing of time."""
        return min((self._asked_again_at(peer) for peer in self._peers.values() if peer.is_open()), default=math.inf)

    def _best(self, now: float) -> _Peer | None:
        usable = [peer for peer in self._peers.values() if peer.is_open()]
        for peer in usable:
            if _is_rested(peer, now):
                return peer
        eager = [peer for peer in usable if self._asked_again_at(peer) <= now]
        return min(eager, key=lambda peer: peer.rest_from, default=None)

    def _asked_again_at(self, peer: _Peer) -> float:
        """When it may be asked if nobody else can be: sooner than when it is preferred again."""
        return min(peer.rest_until, peer.rest_from + self.timing.eager_pause)

    # What happened

    def got(self, name: str, now: float) -> None:
        """A chunk came from it, and was right."""
        peer = self._peers[name]
        peer.failures = 0
        peer.rest_from = peer.rest_until = peer.bypassed_until = -math.inf
        self.alive(now)

    def alive(self, now: float) -> None:
        """Something moves."""
        self._seen_at, self._waited = now, 0.0

    def moving(self, name: str, now: float) -> None:
        """Bytes come from it: a chunk may take longer than our patience. After a failure only a whole chunk counts, or one
        that breaks off each time, or never sends what it should, would keep us for ever."""
        if not self._peers[name].failures:
            self.alive(now)

    def failed(self, name: str, now: float, problem: TransferProblem) -> None:
        """It refused, died or was silent."""
        peer = self._peers[name]
        peer.code, peer.said = problem.code, str(problem)
        if problem.code == WRONG_SECRET:
            peer.banned = True
        if peer.rest_from >= peer.taken_at:
            return  # the other streams' connections to it break with the first one
        peer.failures += 1
        timing = self.timing
        pause = min(timing.longest_pause, timing.first_pause * 2 ** min(peer.failures - 1, 30))
        peer.rest_from, peer.rest_until = now, now + pause

    def bad(self, name: str, now: float, problem: TransferProblem) -> None:
        """A chunk from it was not what its digest says. The origin is never given up for that: nobody else may have it."""
        peer = self._peers[name]
        peer.bad += 1
        self.failed(name, now, problem)
        if peer.bad >= _MOST_BAD and not peer.origin:
            peer.banned = True

    def waiting(self, name: str, now: float) -> bool:
        """It has said nothing but WAIT for `stall` seconds. True: leave it, another may have more."""
        peer = self._peers[name]
        others = [other for other in self._peers.values() if other is not peer and other.is_open()]
        if not any(_is_rested(other, now) for other in others):
            return False
        peer.bypassed_until = now + 2 * self.timing.stall
        peer.code, peer.said = STALLED, f"{name} waits for the chunk itself"
        return True

    def reject(self, name: str) -> bool:
        """It gave wrong data under a right digest; False for the origin, whose word is the measure."""
        peer = self._peers[name]
        if peer.origin:
            return False
        peer.banned, peer.code, peer.said = True, BAD_CHUNK, f"{name} gave data that is not the sender's"
        return True

    # Whether it is over

    def tick(self, now: float) -> TransferProblem | None:
        """Time has passed; a problem where it is over: nobody is left to ask, or nothing came for `patience` seconds."""
        if self._seen_at is not None:
            self._waited += max(0.0, min(_FROZEN, now - self._seen_at))
        self._seen_at = now
        peers = self._peers.values()
        hopeless = bool(peers) and all(peer.banned for peer in peers)
        if self._waited >= self.timing.patience or hopeless:
            return self._verdict(hopeless)
        return None

    def rest(self) -> None:
        """It is paused: the time until the next `tick` does not count."""
        self._seen_at = None

    def _verdict(self, hopeless: bool) -> TransferProblem:
        codes = {peer.code or STALLED for peer in self._peers.values()} or {UNREACHABLE}
        code = codes.pop() if len(codes) == 1 else STALLED
        what = "nobody is left to get the data from" if hopeless else f"nothing came for {self.timing.patience:g} s"
        why = "; ".join(f"{peer.name}: {peer.said or 'no answer'}" for peer in self._peers.values())
        return TransferProblem(code, what, why or "no peer is known", "send it again: it goes on where it was")


def _is_rested(peer: _Peer, now: float) -> bool:
    return peer.rest_until <= now and peer.bypassed_until <= now
