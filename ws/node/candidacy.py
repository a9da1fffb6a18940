"""What a candidate is and knows, and each way in which that changes. `election.py` decides when."""

from __future__ import annotations

import math
import random
from collections.abc import Container, Sequence

from ws.node.messages import HEAD, UNDECIDED, WORKER, Claim, Leader, View
from ws.node.peers import Peers
from ws.node.right import Right, Timing


class Candidacy:
    """The state of the candidate `me`, process `instance`; see `Election` for the arguments."""

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
        if me not in candidates:
            raise ValueError(f"{me!r} is not a candidate: {', '.join(candidates)}")
        self.me, self.instance, self.address = me, instance, address
        self._candidates = tuple(candidates)
        self._is_first = candidates[0] == me
        self._timing = Timing(ttl, timeout)
        self._max_retries, self._retry_interval = max_retries, retry_interval
        self._patience, self._rng = patience, rng
        self._peers = Peers((name for name in candidates if name != me), unreachable)

        self._is_head, self._epoch = False, 0
        self._right = Right((peer.name for peer in self._peers), self._timing)
        self._leader: Leader | None = None
        self._leader_until = -math.inf
        self._reason = "it has just started"
        self._resigned = False
        self.why_stepped_down = ""

        self._started = math.inf
        self._listening_since = self._settled_at = -math.inf
        self._heard_of_head_at = -math.inf
        self._seen_epoch = self._left_epoch = 0
        self._word_given_until = self._eligible_at = -math.inf
        self._to_release: int | None = None
        self._why_released = ""

        self._health_up: bool | None = None
        self._health_failures = 0
        self._health_refusal = ""
        self._health_ever_up = False
        self._health_at = self._health_asked_at = -math.inf
        self._may_ask_for_lease = self._everyone_answered = False
        self._asking_for_lease = False

    @property
    def view(self) -> View:
        """As of the last call; `step` first where time has passed."""
        up = bool(self._health_up)
        if self._is_head:
            return View(HEAD, self.me, self.address, self._epoch, up, self._reason)
        if self._leader:
            leader = self._leader
            return View(WORKER, leader.name, leader.address, leader.epoch, up, f"{leader.name} leads")
        return View(UNDECIDED, None, None, 0, up, self._reason + self._peers.refusals)

    @property
    def _health_answers(self) -> bool:
        """Its last answer came, and was one: it is up, and takes our requests."""
        return bool(self._health_up) and not self._health_failures and not self._health_refusal

    # Leading

    def _lead(self, epoch: int, reason: str) -> None:
        self._is_head, self._epoch, self._reason = True, epoch, reason
        self._seen_epoch = max(self._seen_epoch, epoch)
        self._leader = None
        self._stop_asking_for_lease()

    def _step_down(self, now: float, why: str, release: bool) -> None:
        """Be head no more. `release`: the lease may still be in the book, and is to be given back."""
        if release and self._epoch:
            self._to_release, self._why_released = self._epoch, why
        self._left_epoch = max(self._left_epoch, self._epoch)
        self._is_head, self._epoch, self._reason = False, 0, f"it stepped down: {why}"
        self.why_stepped_down = why
        self._right.clear()
        self._stop_asking_for_lease()
        self._health_at = now

    def _stop_asking_for_lease(self) -> None:
        self._may_ask_for_lease = False
        self._peers.close_round()

    # Following

    def _follow(self, now: float, leader: Leader) -> None:
        self._seen_epoch = max(self._seen_epoch, leader.epoch)
        if leader.name == self.me:
            self._leader = None
            self._reason = f"the lease is still that of a former run of {self.me}"
        else:
            self._leader, self._leader_until = leader, now + self._timing.ttl

    def _hear_of_head(self, now: float, leader: Leader) -> None:
        """`leader` itself has just said that it is head."""
        self._heard_of_head_at = now
        if self._is_head:
            self._yield_to(now, leader)
        elif self._leader is None or leader.epoch >= self._leader.epoch:
            self._follow(now, leader)
        self._seen_epoch = max(self._seen_epoch, leader.epoch)

    def _yield_to(self, now: float, leader: Leader) -> None:
        """A higher epoch is granted only after the lower one is over."""
        if leader.epoch > self._epoch and leader.instance != self.instance:
            self._step_down(now, f"{leader.name} leads with epoch {leader.epoch}", release=True)
            self._follow(now, leader)

    # Giving one's word

    def _objection(self, claim: Claim) -> str | None:
        """Why this candidate does not give `claim` its word; None: it does."""
        if claim.name not in self._peers:
            return f"{claim.name} is not another candidate of the whitelist of {self.me}"
        if set(claim.candidates) != set(self._candidates):
            return f"the whitelists differ: {self.me} has {', '.join(self._candidates)}"
        if self._is_head:
            return f"{self.me} is head"
        if self._health_refusal:
            return f"the health server is up, and refuses {self.me}"
        if self._health_answers:
            return f"the health server is up for {self.me}"
        if not self._health_failures or self._asking_for_lease:
            return f"{self.me} waits for an answer of the health server"
        follows_sender = self._leader is not None and self._leader.name == claim.name
        if self._leader and not follows_sender:
            return f"{self.me} follows {self._leader.name}"
        if claim.role == HEAD and claim.epoch < self._seen_epoch and not follows_sender:
            return f"{self.me} knows of epoch {self._seen_epoch}"
        if claim.role != HEAD and claim.name != self._candidates[0]:
            return "only the first candidate may start a head without a lease"
        return None

    def _give_word(self, now: float, claim: Claim) -> None:
        """Not to ask for the lease for as long as the claim's sender may rely on it."""
        self._word_given_until = max(self._word_given_until, now + max(self._timing.ttl, claim.ttl))
        self._stop_asking_for_lease()

    @property
    def _blocked_until(self) -> float:
        """Not to ask for the lease before: the word given to a head, the pause after a loss."""
        return math.inf if self._resigned else max(self._word_given_until, self._eligible_at)

    # Leading without the health server

    @property
    def _could_lead_alone(self) -> bool:
        free = not (self._is_head or self._resigned or self._leader)
        return self._is_first and free and self._health_up is False

    def _consider_leading_alone(self, now: float) -> None:
        """With everyone's word nobody else can come to lead. Without it, after a ttl of silence, and only in a
        process that knows of no lease: one that does may just have been cut off from its holder.
        """
        if not self._could_lead_alone or now < max(self._started + self._patience, self._eligible_at):
            return
        if not self._peers.known_since(now - 3 * self._timing.beat):
            self._reason = "the health server is down; it asks the other candidates"
            return
        if self._peers.anyone_leads() or self._peers.anyone_has_health():
            self._reason = "the health server is down for this candidate, not for all"
            return
        knows_of_no_lease = self._seen_epoch == 0 and not self._health_ever_up
        if now < self._right.everyones_word_until:
            self._lead(0, "the health server is down for all candidates, and this is the first of them")
            self._right.alone = knows_of_no_lease
        elif knows_of_no_lease and now >= self._silence_ends and self._silent_or_willing(now):
            self._lead(0, "no health server, and no head has been heard of for one lease time")
            self._right.alone = True
        else:
            self._reason = "the health server is down, and not every candidate can be asked"

    @property
    def _silence_ends(self) -> float:
        return max(self._listening_since, self._heard_of_head_at) + self._timing.ttl

    def _silent_or_willing(self, now: float) -> bool:
        return all(peer.answer is None or self._right.has_word_of(peer.name, now) for peer in self._peers)
