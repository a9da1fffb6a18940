"""The lease: the right to be the head, granted by compare-and-set with an epoch.

`LeaseBook` is the state alone. Its clock is injected, and every change goes through `save` before it takes effect,
so that an answer never leaves before what it says is on the disk. `lease_store.py` is that disk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ws.node.clock import steady

KEPT_CHANGES = 50
LARGEST_EPOCH = (1 << 53) - 1
"""What every JSON reader still tells from its neighbours."""
LONGEST_JUMP = 1000
"""How far above its own epoch a book follows what others say that they have seen."""


@dataclass(frozen=True)
class Lease:
    """One grant.

    Attributes:
        holder: the candidate's name.
        instance: which process of that name; a restarted agent is another one.
        address: where the head listens, "ray-cpu:6379".
        epoch: grows with each grant and is never given twice.
        granted_at: seconds since 1970, for people; nothing is decided by it.
        ttl: seconds that it lasts from the last renewal.
    """

    holder: str
    instance: str
    address: str
    epoch: int
    granted_at: float
    ttl: float

    def belongs_to(self, candidate: str, instance: str) -> bool:
        return self.holder == candidate and self.instance == instance


@dataclass(frozen=True)
class Change:
    """One line of the lease's history; `at` in seconds since 1970."""

    at: float
    what: str
    holder: str
    epoch: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class BookState:
    """What outlives the health server: the highest epoch ever granted, and the lease (none: never granted, or released).

    When a lease runs out is not part of it: that would cost a write for each renewal. The stored holder gets one full
    ttl from the restart instead.
    """

    epoch: int = 0
    lease: Lease | None = None
    history: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The answer to a request: `lease` is the one in force afterwards, whoever holds it."""

    ok: bool
    lease: Lease | None
    reason: str


def _no_save(state: BookState) -> None:
    """A book without a disk."""


def _no_listener(change: Change) -> None:
    """A book that nobody listens to."""


class LeaseBook:
    """Who may be the head. Not thread-safe; the caller holds a lock.

    Args:
        clock: seconds that never go back.
        wall: seconds since 1970, shown to people.
        save: keeps a state; what it raises leaves the book as it was, and reaches the caller.
        state: what was kept by an earlier run.
        recovering: the kept state was unreadable. Somebody may hold a lease that this book knows nothing of, so
            for one ttl nothing is granted. Its holder needs no grant: it renews, and the book takes its word for
            it. No request is believed instead, whatever epoch it has seen: having seen a high epoch does not
            prove that its holder is gone. Epochs go on from the wall clock, above all that were given before.
    """

    def __init__(
        self,
        clock: Callable[[], float] = steady,
        wall: Callable[[], float] = time.time,
        *,
        save: Callable[[BookState], None] = _no_save,
        state: BookState | None = None,
        recovering: bool = False,
        on_change: Callable[[Change], None] = _no_listener,
    ) -> None:
        kept = state or BookState()
        self._clock, self._wall, self._save, self._on_change = clock, wall, save, on_change
        self._epoch = max(kept.epoch, int(wall())) if recovering else kept.epoch
        self._lease = kept.lease
        self._history: deque[Change] = deque(kept.history, maxlen=KEPT_CHANGES)
        self._recovering = recovering
        self._has_no_past = state is None
        self._began = clock()
        self._expires = self._began + (kept.lease.ttl if kept.lease else 0.0)
        self._expiry_told = kept.lease is None
        if kept.lease:
            self._tell("kept", kept.lease, "the health server has restarted: one full lease time of grace")

    def acquire(
        self,
        candidate: str,
        instance: str,
        address: str,
        ttl: float,
        seen_epoch: int = 0,
        young: bool = False,
    ) -> Outcome:
        """Grant the lease where nobody has it.

        Args:
            seen_epoch: the highest epoch that the candidate knows of. Where it is that of the candidate's own live
                lease, this is no repeated request but a fresh start, and gets a new epoch: a release of the old
                one may still be on its way and must not hit the new one.
            young: the candidate has run for less than one ttl, and may have given its word to stay quiet in a
                former life. It gets a lease that was released, never one that ran out: its holder may have been
                confirmed by that word.
        """
        now = self._clock()
        live = self._live(now)
        if live and live.belongs_to(candidate, instance) and seen_epoch < live.epoch:
            self._expires = now + live.ttl
            return Outcome(True, live, "already yours")
        if live and not live.belongs_to(candidate, instance):
            return Outcome(False, live, f"{live.holder} holds it for {self._expires - now:.1f} s more")
        if self._recovering and now < self._began + ttl:
            wait = self._began + ttl - now
            return Outcome(False, None, f"the kept state was unreadable: nothing is granted for {wait:.1f} s")
        if young and not self.released:
            return Outcome(False, None, "the last holder did not release it, and you have not run for one ttl")
        return self._grant(candidate, instance, address, ttl, seen_epoch)

    def renew(self, candidate: str, instance: str, epoch: int, address: str = "", ttl: float = 0.0) -> Outcome:
        """Prolong a lease by its ttl, also one that ran out when nobody else has got it since.

        `address` and `ttl` are used where the book has lost its memory and takes the holder's word for its lease.
        """
        now = self._clock()
        live = self._live(now)
        held = self._lease
        if held and held.belongs_to(candidate, instance) and held.epoch == epoch:
            self._expires, self._expiry_told = now + held.ttl, False
            return Outcome(True, held, "renewed")
        if self._has_forgotten(epoch, live) and address and ttl > 0:
            if epoch > self._highest_believed:
                return Outcome(False, live, f"epoch {epoch} is beyond anything that was granted here")
            return self._adopt(Lease(candidate, instance, address, epoch, self._wall(), ttl))
        self._epoch = max(self._epoch, min(epoch, self._highest_believed))
        return Outcome(False, live, f"epoch {epoch} is over")

    def release(self, candidate: str, instance: str, epoch: int, why: str = "released by its holder") -> Outcome:
        """Give a lease back, also one that ran out: afterwards it is free for everyone."""
        live = self._live(self._clock())
        held = self._lease
        if not (held and held.belongs_to(candidate, instance) and held.epoch == epoch):
            return Outcome(False, live, f"you do not hold epoch {epoch}")
        self._commit(self._epoch, None, Change(self._wall(), "released", candidate, epoch, why))
        return Outcome(True, None, "released")

    @property
    def current(self) -> Lease | None:
        """The lease in force now."""
        return self._live(self._clock())

    @property
    def expires_in(self) -> float:
        """Seconds that the lease in force lasts without a renewal; 0 where there is none."""
        return max(0.0, self._expires - self._clock()) if self.current else 0.0

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def released(self) -> bool:
        """Nobody can believe to hold a lease: it was never granted, or its holder gave it back."""
        return self._lease is None and not self._recovering

    @property
    def history(self) -> tuple[Change, ...]:
        return tuple(self._history)

    def _live(self, now: float) -> Lease | None:
        if self._lease is None or now < self._expires:
            return self._lease
        if not self._expiry_told:
            self._expiry_told = True
            self._tell("expired", self._lease, "not renewed in time")
        return None

    @property
    def _highest_believed(self) -> int:
        """The highest epoch that a candidate may claim to have seen: one request must not use up those to come.

        A book without a past may have lost one, in which the epochs went on from the wall clock.
        """
        own = max(self._epoch, int(self._wall())) if self._has_no_past else self._epoch
        return min(own + LONGEST_JUMP, LARGEST_EPOCH)

    def _has_forgotten(self, epoch: int, live: Lease | None) -> bool:
        """Whether a claim to `epoch` shows that this book has lost its memory.

        A book that remembers knows of every epoch, for it keeps each before it grants it.
        """
        if self._recovering:
            return live is None or epoch > live.epoch
        return live is None and epoch > self._epoch

    def _grant(self, candidate: str, instance: str, address: str, ttl: float, seen_epoch: int) -> Outcome:
        epoch = max(self._epoch, min(seen_epoch, self._highest_believed)) + 1
        if epoch > LARGEST_EPOCH:
            return Outcome(False, None, "every epoch has been given: empty the health server's state folder")
        lease = Lease(candidate, instance, address, epoch, self._wall(), ttl)
        why = "nobody held it" if self._lease is None else f"epoch {self._lease.epoch} is over"
        self._commit(epoch, lease, Change(lease.granted_at, "granted", candidate, epoch, why))
        self._recovering = False
        return Outcome(True, lease, "granted")

    def _adopt(self, lease: Lease) -> Outcome:
        why = "the kept state was lost; its holder still renews"
        change = Change(lease.granted_at, "taken over", lease.holder, lease.epoch, why)
        self._commit(max(self._epoch, lease.epoch), lease, change)
        return Outcome(True, lease, "renewed")

    def _commit(self, epoch: int, lease: Lease | None, change: Change) -> None:
        history = (*self._history, change)[-KEPT_CHANGES:]
        self._save(BookState(epoch, lease, history))
        self._epoch, self._lease, self._has_no_past = epoch, lease, False
        # Counted from after the write: a slow disk must not shorten what the holder counts from its request.
        self._expires = self._clock() + (lease.ttl if lease else 0.0)
        self._expiry_told = lease is None
        self._history.append(change)
        self._on_change(change)

    def _tell(self, what: str, lease: Lease, why: str) -> None:
        change = Change(self._wall(), what, lease.holder, lease.epoch, why)
        self._history.append(change)
        self._on_change(change)
