"""What a candidate knows of the other candidates, and when it asks them."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from ws.node.messages import HEAD, PeerAnswer


@dataclass
class Peer:
    """One other candidate.

    Attributes:
        question: the id of the question that waits for its answer.
        sent: when the last question was sent of which the outcome is known.
        answer: that outcome; None: no answer came.
        next_at: not to be asked again before.
        unreachable: nobody knows where to ask it: it is on another machine. It counts, and never answers.
        refusal: why its agent takes no questions of ours; "": it does, or is silent.
    """

    name: str
    unreachable: bool = False
    question: int | None = None
    sent: float = -math.inf
    answer: PeerAnswer | None = None
    next_at: float = -math.inf
    refusal: str = ""

    @property
    def claims_to_lead(self) -> bool:
        return self.answer is not None and self.answer.role == HEAD


class Peers:
    """The other candidates. A round asks each of them once, unless its answer is fresh enough."""

    def __init__(self, names: Iterable[str], unreachable: Container[str] = ()) -> None:
        self._peers = {name: Peer(name, name in unreachable) for name in names}
        self._fresh_since: float | None = None

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, name: object) -> bool:
        return name in self._peers

    def __getitem__(self, name: str) -> Peer:
        return self._peers[name]

    def get(self, name: str) -> Peer | None:
        return self._peers.get(name)

    def open_round(self, fresh_since: float) -> None:
        """Outcomes of questions sent before `fresh_since` do not count. A round that is open goes on."""
        if self._fresh_since is None:
            self._fresh_since = fresh_since

    def close_round(self) -> None:
        self._fresh_since = None

    @property
    def in_round(self) -> bool:
        return self._fresh_since is not None

    def is_due_in_round(self, peer: Peer) -> bool:
        return self._fresh_since is not None and peer.sent < self._fresh_since and not peer.unreachable

    def due_in_round(self) -> list[Peer]:
        return [peer for peer in self if self.is_due_in_round(peer)] if self.in_round else []

    def round_complete(self) -> bool:
        return self.in_round and not any(self.is_due_in_round(peer) for peer in self)

    def known_since(self, moment: float) -> bool:
        """Whether the outcome of a question sent at `moment` or later is known of each that can be asked."""
        return all(peer.sent >= moment or peer.unreachable for peer in self)

    def all_answered(self) -> bool:
        return all(peer.answer is not None for peer in self)

    @property
    def refusals(self) -> str:
        """Who refuses our questions, for people; "" where nobody does."""
        return "".join(f"; {peer.name} refuses us: {peer.refusal}" for peer in self if peer.refusal)

    def anyone_leads(self) -> bool:
        return any(peer.claims_to_lead for peer in self)

    def anyone_has_health(self) -> bool:
        return any(peer.answer is not None and peer.answer.health_up for peer in self)
