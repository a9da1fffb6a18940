"""One candidate's part in the election, without a clock, threads or a network of its own.

`step` says what to send now, `receive` takes what came back, `asked` answers another candidate, and `view` is the
outcome. `docs/election.md` tells the rules and why they hold.

Every way in goes through `settle` first: a head whose right has ended while the process was paused is no head any
more before it does, answers or learns anything else.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container, Sequence
from typing import Any

from ws.node.hearing import ACQUIRE, CLAIM, LOOK, RELEASE, RENEW, Hearing, Question
from ws.node.messages import HEAD, HEALTH, Claim, Leader, PeerAnswer, Send
from ws.node.peers import Peer


class Election(Hearing):
    """The state machine of the candidate `me`, process `instance`.

    Args:
        candidates: the whitelist in its order, `me` among them.
        address: where the head of this candidate would listen, host:port.
        ttl: how long a lease lasts without a renewal, seconds.
        patience: how long the health server may be away at the start before the first candidate leads without it.
        timeout: the longest wait for an answer.
        max_retries: how many requests in a row the health server leaves unanswered when it is down.
        retry_interval: seconds from one of them to the next; never more than the usual pause.
        unreachable: candidates that nobody here knows how to ask. They count, and never answer.
    """

    def __init__(
        self,
        me: str,
        instance: str,
        candidates: Sequence[str],
        *,
        address: str,
        ttl: float,
        rng: random.Random,
        patience: float = 0.0,
        timeout: float = 1.0,
        max_retries: int = 1,
        retry_interval: float = math.inf,
        unreachable: Container[str] = (),
    ) -> None:
        super().__init__(
            me,
            instance,
            candidates,
            address=address,
            ttl=ttl,
            rng=rng,
            patience=patience,
            timeout=timeout,
            max_retries=max_retries,
            retry_interval=retry_interval,
            unreachable=unreachable,
        )
        self._pending: dict[int, Question] = {}
        self._last_id = 0

    # What the driver calls

    def step(self, now: float) -> list[Send]:
        """What is due at `now` (seconds, steady)."""
        self.settle(now)
        self._finish_round(now)
        self._consider_leading_alone(now)
        sends = self._ask_health(now)
        if not self._resigned:
            sends += [self._ask(now, peer) for peer in self._whom_to_ask() if now >= self._due_at(peer)]
        return sends

    def receive(
        self, now: float, question_id: int, reply: dict[str, Any] | None, failure: str = "", refused: bool = False
    ) -> None:
        """The answer to a Send; None where none came, `failure` then says why. Late and double ones are ignored.

        `refused`: the target is up, and does not take this request from us. That is neither silence nor consent.
        """
        self.settle(now)
        question = self._pending.pop(question_id, None)
        if question:
            self._take(now, question, None if refused else reply, failure, refused)

    def asked(self, now: float, claim: Claim) -> PeerAnswer:
        """Answer another candidate."""
        self.settle(now)
        if claim.role == HEAD and claim.name in self._peers:
            self._hear_of_head(now, Leader(claim.name, claim.instance, claim.address, claim.epoch))
        objection = self._objection(claim)
        consent = claim.consent and objection is None
        if consent:
            self._give_word(now, claim)
        elif claim.consent:
            # The sender has trouble with the health server: what is known of it here should be fresh.
            self._health_at = min(self._health_at, max(now, self._health_asked_at + self._timing.retry))
        return self._answer(consent, objection or "")

    def status(self) -> PeerAnswer:
        """What it answers to those that only want to know."""
        return self._answer(consent=False, reason=self.view.reason)

    @property
    def leads_without_lease(self) -> bool:
        """It is head, and neither a lease nor the others' word ends that: the exception in `docs/election.md`."""
        return self._is_head and self._right.alone

    def lost(self, now: float) -> None:
        """The head that this candidate ran has died: give the others a chance. Without being head: nothing."""
        self.settle(now)
        if self._is_head:
            self._give_up(now, "its head has died")
            # The others look once in a beat, and then ask each other: the pause must outlast both.
            pause = self._timing.ttl * (0.4 + 0.2 * self._rng.random()) if len(self._peers) else 0.0
            self._eligible_at = now + pause

    def resign(self, now: float) -> None:
        """Never lead again; the next `step` gives the lease back."""
        self.settle(now)
        if self._is_head:
            self._give_up(now, "its node stops")
        self._resigned = True
        self._stop_asking_for_lease()

    def _give_up(self, now: float, why: str) -> None:
        """Step down and release in the next step, without waiting for what is under way to the health server."""
        if self._health_question is not None:
            self._pending.pop(self._health_question, None)
            self._health_question, self._asking_for_lease = None, False
        self._step_down(now, why, release=True)

    def next_wake(self, now: float) -> float:
        """When `step` is due again, if nothing comes in before."""
        times = [self._next_deadline] if self._pending else []
        if self._health_question is None and not self.is_done:
            times.append(self._health_at)
        if self._is_head:
            times.append(self._acts_until)
        if self._leader:
            times.append(self._leader_until)
        if self._peers.in_round:
            times.append(self._round_ends)
        if not self._resigned:
            times += [self._due_at(peer) for peer in self._whom_to_ask()]
        return max(now, min(times, default=math.inf))

    # Time

    def settle(self, now: float) -> None:
        """Let what time alone decides happen: rights that end, answers that are overdue."""
        if self._started == math.inf:
            self._started = self._listening_since = self._health_at = now
        elif now - self._settled_at > self._timing.ttl / 2:
            self._listening_since = now  # the process was paused: that it heard of no head means nothing
            self._end_lone_lead_after(now, now - self._settled_at)
        self._settled_at = now
        if self._is_head and now >= self._acts_until:
            refused = self._health_refusal and f"the health server is up, and refuses us: {self._health_refusal}"
            self._step_down(now, refused or "neither its lease nor everyone's word could be renewed", release=True)
        while self._pending and now >= self._next_deadline:
            overdue = self._pending.pop(next(iter(self._pending)))
            self._take(now, overdue, None, "no answer in time", refused=False)
        if self._leader and now >= self._leader_until:
            self._reason = f"{self._leader.name} has not been heard to lead for one lease time"
            self._leader = None

    @property
    def _acts_until(self) -> float:
        """Without others there is nobody whose word could be missing, but a server that refuses it may serve another."""
        if self._health_refusal and not len(self._peers):
            return self._right.lease_until
        return self._right.until

    def _end_lone_lead_after(self, now: float, gap: float) -> None:
        """No lease ends the lead of a lone head. After a gap in which the others may have come to lead, this does."""
        if self.leads_without_lease and len(self._peers) and gap >= self._timing.span:
            self._step_down(now, f"it was paused for {gap:.0f} s", release=False)

    @property
    def _next_deadline(self) -> float:
        """Every question has the same time-out, so the oldest is the next to be overdue."""
        return next(iter(self._pending.values())).deadline

    # Asking

    def _send(self, now: float, target: str, path: str, message: dict[str, Any]) -> Send:
        self._last_id += 1
        timeout = self._timing.timeout
        self._pending[self._last_id] = Question(target, path, now, now + timeout, self._epoch)
        return Send(target, self._last_id, path, message, timeout)

    @property
    def is_done(self) -> bool:
        """It has resigned, and given back what it had."""
        return self._resigned and self._to_release is None

    def _ask_health(self, now: float) -> list[Send]:
        if self._health_question is not None or now < self._health_at or self.is_done:
            return []
        path, message = self._health_request(now)
        send = self._send(now, HEALTH, path, message)
        self._health_question, self._health_asked_at = send.id, now
        self._asking_for_lease = path == ACQUIRE
        return [send]

    def _health_request(self, now: float) -> tuple[str, dict[str, Any]]:
        who = {"candidate": self.me, "instance": self.instance}
        lease = {"address": self.address, "ttl": self._timing.ttl}
        if self._to_release is not None:
            return RELEASE, {**who, "epoch": self._to_release, "why": self._why_released}
        if self._is_head and self._epoch:
            return RENEW, {**who, **lease, "epoch": self._epoch}
        if self._is_head or (self._may_ask_for_lease and now >= self._blocked_until):
            self._may_ask_for_lease = False
            vouched = self._peers.all_answered() if self._is_head else self._everyone_answered
            young = now < self._started + self._timing.ttl and not vouched
            return ACQUIRE, {**who, **lease, "seen_epoch": self._seen_epoch, "young": young}
        return LOOK, {}

    def _whom_to_ask(self) -> list[Peer]:
        """Those that are to be asked sooner or later, as things are, and of whom no answer is awaited."""
        if self._is_head:
            wanted = list(self._peers) if self._epoch == 0 or self._health_failures else []
        elif self._health_up is False:
            known = self._leader and self._peers.get(self._leader.name)
            wanted = [known] if known else list(self._peers)
        else:
            wanted = self._peers.due_in_round()
        return [peer for peer in wanted if peer.question is None and not peer.unreachable]

    def _due_at(self, peer: Peer) -> float:
        return -math.inf if self._peers.is_due_in_round(peer) else peer.next_at

    def _ask(self, now: float, peer: Peer) -> Send:
        claim = Claim(
            name=self.me,
            instance=self.instance,
            role=self.view.role,
            epoch=self._epoch if self._is_head else self._seen_epoch,
            address=self.address,
            ttl=self._timing.ttl,
            consent=self._is_head or self._could_lead_alone,
            candidates=self._candidates,
        )
        send = self._send(now, peer.name, CLAIM, claim.as_dict())
        peer.question = send.id
        return send

    def _answer(self, consent: bool, reason: str) -> PeerAnswer:
        view = self.view
        leader_instance = self.instance if self._is_head else self._leader.instance if self._leader else None
        return PeerAnswer(
            name=self.me,
            instance=self.instance,
            role=view.role,
            epoch=view.epoch if view.leader else self._seen_epoch,
            leader=view.leader,
            leader_instance=leader_instance,
            address=view.address,
            health_up=bool(self._health_up) and not self._health_failures,
            consent=consent,
            reason=reason,
        )
