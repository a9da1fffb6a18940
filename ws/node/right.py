"""The times that an election goes by, and until when a head may act."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """All of it follows from the lease's ttl (seconds) and the longest wait for one answer."""

    ttl: float
    longest_wait: float

    @property
    def beat(self) -> float:
        """Between two renewals, looks, questions."""
        return self.ttl / 5

    @property
    def retry(self) -> float:
        """After a request without an answer."""
        return self.ttl / 10

    @property
    def timeout(self) -> float:
        return min(self.longest_wait, self.ttl / 5)

    @property
    def margin(self) -> float:
        """How long before the end of its right a head steps down: room for a slow stop and for clocks that differ.

        One second or a tenth of the ttl; a quarter where the ttl is so short that a second would eat it up.
        """
        return min(max(1.0, self.ttl / 10), self.ttl / 4)

    @property
    def span(self) -> float:
        """How long a confirmation carries, from the moment that it was asked for."""
        return self.ttl - self.margin


class Right:
    """What a head's right rests on: the health server's lease, or the word of all others to stay away from it.

    A head that started without a health server (`alone`) has no lease that could end.
    """

    def __init__(self, others: Iterable[str], timing: Timing) -> None:
        self._timing = timing
        self._others = tuple(others)
        self.clear()

    def clear(self) -> None:
        self.alone = False
        self.lease_until = -math.inf
        self._word_until = dict.fromkeys(self._others, -math.inf)

    def renewed(self, sent: float, ttl: float | None = None) -> None:
        """The health server granted what was asked for at `sent`, for `ttl` seconds where it says so."""
        granted = self._timing if ttl is None or ttl >= self._timing.ttl else Timing(ttl, self._timing.longest_wait)
        self.lease_until = max(self.lease_until, sent + granted.span)

    def consented(self, other: str, sent: float) -> None:
        """`other` gave its word when it was asked at `sent`."""
        self._word_until[other] = max(self._word_until[other], sent + self._timing.span)

    def has_word_of(self, other: str, now: float) -> bool:
        return now < self._word_until[other]

    @property
    def everyones_word_until(self) -> float:
        """Without others: for ever."""
        return min(self._word_until.values(), default=math.inf)

    @property
    def until(self) -> float:
        return math.inf if self.alone else max(self.lease_until, self.everyones_word_until)
