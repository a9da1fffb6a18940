"""What a candidate makes of the answers that it gets, from the health server and from the other candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ws.node.candidacy import Candidacy
from ws.node.fields import BadRequest
from ws.node.messages import HEAD, HEALTH, HealthAnswer, Leader, PeerAnswer
from ws.node.peers import Peer

LOOK, ACQUIRE, RENEW, RELEASE = "/lease", "/lease/acquire", "/lease/renew", "/lease/release"
CLAIM = "/claim"
HURRY = 0.1  # seconds; peers that are there answer within milliseconds


@dataclass(frozen=True)
class Question:
    """A request on its way. `epoch`: the sender's own when it was sent."""

    target: str
    path: str
    sent: float
    deadline: float
    epoch: int


class Hearing(Candidacy):
    """A candidacy that takes answers."""

    _health_question: int | None = None
    _other_holder: tuple[str, int, float] | None = None
    _round_ends = math.inf

    def _take(self, now: float, question: Question, reply: dict[str, Any] | None, failure: str, refused: bool) -> None:
        if question.target != HEALTH:
            peer = self._peers[question.target]
            peer.refusal = failure if refused else ""
            self._take_from_peer(now, peer, question, _read_peer(question, reply))
            return
        self._health_question, self._asking_for_lease = None, False
        answer = _read_health(question, reply)
        self._health_refusal = failure if refused else ""
        if refused:
            self._health_refuses(now, question, failure)
        elif answer is None:
            self._health_is_silent(now, question, failure or "its answer makes no sense")
        else:
            self._health_failures, self._health_up, self._health_ever_up = 0, True, True
            self._take_from_health(now, question, answer)

    # From the health server

    def _health_refuses(self, now: float, question: Question, failure: str) -> None:
        """It is up, and others may hold its lease: whom it refuses has no business leading without one."""
        self._health_failures, self._health_up, self._health_ever_up = 0, True, True
        self._stop_asking_for_lease()
        self._health_at = max(now, question.sent + self._timing.beat)
        why = f"the health server is up, and refuses us: {failure}"
        if self._is_head and self._epoch == 0:
            self._step_down(now, why, release=False)
            self._health_at = now + self._timing.beat
        elif not self._is_head:
            self._reason = why

    def _health_is_silent(self, now: float, question: Question, failure: str) -> None:
        """One request without an answer; several in a row mean that it is down."""
        self._stop_asking_for_lease()
        self._health_failures += 1
        if self._health_failures < self._max_retries:
            self._health_at = now + min(self._retry_interval, self._timing.beat)
            self._reason = f"the health server does not answer: {failure}"
            return
        self._health_up = False
        calm = self._leader is not None and not self._is_head
        self._health_at = max(now, question.sent + (self._timing.beat if calm else self._timing.retry))
        self._reason = f"the health server is down: {failure}"

    def _take_from_health(self, now: float, question: Question, answer: HealthAnswer) -> None:
        if answer.lease and answer.lease.instance != self.instance:
            self._seen_epoch = max(self._seen_epoch, answer.lease.epoch)
        if question.path == RELEASE:
            self._to_release = None
            self._health_at = now
        elif question.path == ACQUIRE and answer.ok and answer.lease:
            self._granted(now, question, answer.lease, answer.ttl)
        elif question.path == RENEW:
            self._renewal(now, question, answer)
        elif self._is_head and self._epoch == 0:
            self._meet_holder(now, question, answer)
        elif not self._is_head:
            self._look_at(now, question, answer)

    def _next_renewal(self, now: float, question: Question, ttl: float | None) -> float:
        return max(now, question.sent + min(self._timing.beat, math.inf if ttl is None else ttl / 5))

    def _granted(self, now: float, question: Question, lease: Leader, ttl: float | None) -> None:
        if lease.instance != self.instance or self._resigned or now >= question.sent + self._timing.span:
            self._to_release, self._why_released = lease.epoch, "granted too late"
            return
        self._right.clear()
        self._right.renewed(question.sent, ttl)
        self._lead(lease.epoch, "it holds the lease")
        self._health_at = self._next_renewal(now, question, ttl)

    def _renewal(self, now: float, question: Question, answer: HealthAnswer) -> None:
        self._health_at = self._next_renewal(now, question, answer.ttl)
        if not self._is_head or question.epoch != self._epoch:
            return
        if answer.ok:
            self._right.renewed(question.sent, answer.ttl)
            self._reason = "it holds the lease"
            return
        self._step_down(now, f"the health server says: {answer.reason}", release=False)
        if answer.lease:
            self._follow(now, answer.lease)

    def _look_at(self, now: float, question: Question, answer: HealthAnswer) -> None:
        """Any answer to a candidate that is no head; a refused request for the lease tells the same as a look."""
        lease = answer.lease
        if lease is None and question.path == ACQUIRE:
            self._reason = answer.reason
            self._health_at = now + self._timing.retry
        elif lease is None:
            self._lease_is_free(now, answer)
        elif lease.instance == self.instance:
            self._lease_is_ours(now, lease)
        else:
            self._stop_asking_for_lease()
            self._follow(now, lease)
            self._look_again(now, answer)

    def _look_again(self, now: float, answer: HealthAnswer) -> None:
        """In a beat, or when the lease runs out; not all at the same moment."""
        soon = self._timing.beat * (0.9 + 0.2 * self._rng.random())
        end = answer.expires_in + self._timing.retry * (0.02 + 0.3 * self._rng.random())
        self._health_at = now + min(soon, end)

    def _lease_is_ours(self, now: float, lease: Leader) -> None:
        """One of a former epoch is given back; one that we do not know of (the answer got lost) is taken."""
        self._stop_asking_for_lease()
        if lease.epoch <= self._left_epoch or self._resigned:
            self._to_release = lease.epoch
            self._why_released = self._why_released or "its holder has stepped down"
            self._health_at = now
        else:
            self._may_ask_for_lease = True
            self._health_at = max(now, min(self._blocked_until, now + self._timing.beat))

    def _lease_is_free(self, now: float, answer: HealthAnswer) -> None:
        """Ask the others before asking for it: one may lead without a lease."""
        self._health_at = now + self._timing.beat
        if now < self._blocked_until:
            self._health_at = min(self._health_at, self._blocked_until)
            return
        if not self._peers.in_round:
            # No lease is out, and only this candidate may lead without one: no need to wait for those that are silent.
            hurried = answer.released and self._is_first
            self._round_ends = now + min(HURRY, self._timing.timeout) if hurried else math.inf
        self._peers.open_round(now - self._timing.retry)
        self._finish_round(now)

    def _finish_round(self, now: float) -> None:
        if not self._peers.in_round or not (self._peers.round_complete() or now >= self._round_ends):
            return
        self._peers.close_round()
        if self._peers.anyone_leads():
            return
        if now < self._wait_for_first:
            self._reason = f"{self._candidates[0]} cannot be asked, and may lead without a lease"
            self._health_at = min(now + self._timing.beat, self._wait_for_first)
            return
        self._may_ask_for_lease, self._everyone_answered = True, self._peers.all_answered()
        self._health_at = now

    @property
    def _wait_for_first(self) -> float:
        """The first candidate is the only one that may lead without a lease. Where it does not answer: until when
        to listen whether it does. One that is elsewhere is not waited for: the start would always take so long.
        """
        first = self._peers.get(self._candidates[0])
        return self._silence_ends if first and first.answer is None and not first.unreachable else 0.0

    def _meet_holder(self, now: float, question: Question, answer: HealthAnswer) -> None:
        """This head has no lease, and somebody else has: yield, unless it is left over from a former run."""
        lease = answer.lease
        if lease is None:
            self._health_at = max(now, question.sent + self._timing.retry)
            return
        if self._other_holder is None or self._other_holder[:2] != (lease.instance, lease.epoch):
            self._other_holder = (lease.instance, lease.epoch, now)
        is_renewed = now > self._other_holder[2] + self._timing.ttl + self._timing.beat
        peer = self._peers.get(lease.name)
        denies = lease.name == self.me or (peer and peer.answer and not peer.claims_to_lead)
        if denies and not is_renewed:
            self._reason = f"the health server is back; {lease.name} still has an old lease"
            self._look_again(now, answer)
        else:
            self._step_down(now, f"{lease.name} holds the lease", release=False)
            self._follow(now, lease)

    # From other candidates

    def _take_from_peer(self, now: float, peer: Peer, question: Question, answer: PeerAnswer | None) -> None:
        peer.question, peer.sent, peer.answer = None, question.sent, answer
        willing = answer is not None and answer.consent
        urgent = self._is_head or self._could_lead_alone
        if urgent:
            peer.next_at = max(now, question.sent + (self._timing.beat if willing else self._timing.retry))
        else:
            crowd = max(1.0, len(self._peers) / 10)
            peer.next_at = max(now, question.sent + self._timing.beat * crowd)
        if answer:
            if willing and urgent and question.epoch == self._epoch:
                self._right.consented(peer.name, question.sent)
            self._learn(now, answer)
        self._finish_round(now)

    def _learn(self, now: float, answer: PeerAnswer) -> None:
        head = answer.head
        if self._leader and answer.name == self._leader.name and answer.role != HEAD:
            self._leader = None
            self._reason = f"{answer.name} no longer leads"
        if head is None:
            self._seen_epoch = max(self._seen_epoch, answer.epoch)
        elif head.name == answer.name:
            self._hear_of_head(now, head)
        elif answer.health_up and head.name != self.me:
            self._hear_second_hand(now, head)

    def _hear_second_hand(self, now: float, head: Leader) -> None:
        """A candidate that reaches the health server tells who holds the lease."""
        self._seen_epoch = max(self._seen_epoch, head.epoch)
        if self._is_head:
            self._yield_to(now, head)
        elif not self._health_up and (self._leader is None or head.epoch > self._leader.epoch):
            self._follow(now, head)


def _read_peer(question: Question, reply: dict[str, Any] | None) -> PeerAnswer | None:
    """None where no answer came, or one that makes no sense, or one of another node."""
    if reply is None:
        return None
    try:
        answer = PeerAnswer.read(reply)
    except BadRequest:
        return None
    return answer if answer.name == question.target else None


def _read_health(question: Question, reply: dict[str, Any] | None) -> HealthAnswer | None:
    if reply is None:
        return None
    try:
        return HealthAnswer.read(reply, with_outcome=question.path != LOOK)
    except BadRequest:
        return None
