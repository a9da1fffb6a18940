"""One candidate by hand, and a few of them with scripted faults; `test_simulation.py` has the unscripted ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

import pytest

from tests.node.simulation import World
from ws.node.election import Election
from ws.node.messages import HEAD, HEALTH, UNDECIDED, WORKER, Claim, Send

TTL = 10.0
SPAN = 9.0
"""What a confirmation carries: the ttl without the margin of a second."""


class Hand:
    """Holds one election: collects what it sends, and answers in place of the others."""

    def __init__(self, me: str = "a", candidates: str = "abc", patience: float = 0.0, **more: Any) -> None:
        self.now = 1000.0
        rng = random.Random(1)
        self.election = Election(
            me, f"{me}/1", list(candidates), address=f"{me}:6379", ttl=TTL, rng=rng, patience=patience, **more
        )
        self.sent: list[Send] = []
        self.step()

    def step(self, seconds: float = 0.0) -> Hand:
        self.now += seconds
        self.sent += self.election.step(self.now)
        return self

    def take(self, target: str) -> Send:
        """The oldest request to `target` that was not taken yet; time goes on until there is one."""
        for _ in range(200):
            for send in self.sent:
                if send.target == target:
                    self.sent.remove(send)
                    return send
            self.now = max(self.now + 0.001, self.election.next_wake(self.now))
            self.step()
        raise AssertionError(f"nothing was sent to {target}")

    def health(self, reply: dict[str, Any] | None, path: str | None = None) -> Send:
        send = self.take(HEALTH)
        assert path in (None, send.path)
        self.election.receive(self.now, send.id, reply, "refused")
        self.step()
        return send

    def peer(self, name: str, reply: dict[str, Any] | None) -> Send:
        send = self.take(name)
        self.election.receive(self.now, send.id, reply)
        self.step()
        return send

    def become_head(self, epoch: int = 1) -> Hand:
        self.health(FREE, "/lease")
        for name in ("b", "c"):
            self.peer(name, says(name))
        self.health({"ok": True, **lease("a", epoch)}, "/lease/acquire")
        assert self.election.view.role == HEAD
        return self

    @property
    def role(self) -> str:
        return self.election.view.role


FREE: dict[str, Any] = {"lease": None, "released": True}


def lease(name: str, epoch: int, left: float = TTL, instance: str = "1") -> dict[str, Any]:
    held = {"holder": name, "instance": f"{name}/{instance}", "address": f"{name}:6379", "epoch": epoch}
    return {"lease": {**held, "expires_in": left}, "released": False}


def says(name: str, role: str = UNDECIDED, **more: Any) -> dict[str, Any]:
    leads = {"leader": name, "leader_instance": f"{name}/1", "address": f"{name}:6379"} if role == HEAD else {}
    plain = {"name": name, "instance": f"{name}/1", "role": role, "epoch": 0, "leader": None, "address": None}
    return {**plain, "health_up": False, "consent": False, "reason": "", **leads, **more}


def claim(name: str, role: str = HEAD, epoch: int = 1, consent: bool = True, candidates: str = "abc") -> Claim:
    return Claim(name, f"{name}/1", role, epoch, f"{name}:6379", TTL, consent, tuple(candidates))


# With a health server


def test_it_looks_asks_the_others_and_then_asks_for_the_lease() -> None:
    hand = Hand().become_head(epoch=3)
    view = hand.election.view
    assert (view.leader, view.address, view.epoch, view.health_up) == ("a", "a:6379", 3, True)
    assert hand.take(HEALTH).message["epoch"] == 3


def test_it_follows_who_holds_the_lease() -> None:
    hand = Hand()
    hand.health(lease("b", 4))
    view = hand.election.view
    assert (view.role, view.leader, view.address, view.epoch) == (WORKER, "b", "b:6379", 4)


def test_it_does_not_follow_its_own_former_run() -> None:
    hand = Hand()
    hand.health(lease("a", 4, instance="0"))
    assert hand.role == UNDECIDED and "former run of a" in hand.election.view.reason


def test_the_first_waits_a_moment_only_for_those_that_are_silent() -> None:
    hand = Hand()
    began = hand.now
    hand.health(FREE)
    assert hand.take(HEALTH).path == "/lease/acquire"
    assert hand.now - began < 0.3


def test_another_waits_one_ttl_for_a_silent_first_that_may_lead_without_a_lease() -> None:
    hand = Hand(me="b")
    began = hand.now
    while (send := hand.take(HEALTH)).path == "/lease":
        hand.election.receive(hand.now, send.id, FREE)
        hand.peer("c", says("c"))
    assert send.path == "/lease/acquire" and TTL <= hand.now - began < 1.5 * TTL


def test_it_does_not_ask_for_the_lease_while_another_says_that_it_leads() -> None:
    hand = Hand(me="b")
    hand.health(FREE)
    hand.peer("a", says("a", HEAD))
    hand.peer("c", says("c"))
    assert hand.election.view.leader == "a"
    assert hand.take(HEALTH).path == "/lease"


def test_a_young_one_that_has_not_heard_from_all_says_so() -> None:
    hand = Hand(me="b")
    hand.health({"lease": None, "released": False})
    hand.peer("a", says("a"))
    hand.take("c")
    send = hand.take(HEALTH)
    while send.path == "/lease":
        hand.election.receive(hand.now, send.id, {"lease": None, "released": False})
        hand.peer("a", says("a"))
        send = hand.take(HEALTH)
    assert send.message["young"] is True


def test_when_everyone_answered_it_is_not_young() -> None:
    hand = Hand(me="b")
    hand.health({"lease": None, "released": False})
    hand.peer("a", says("a"))
    hand.peer("c", says("c"))
    assert hand.take(HEALTH).message["young"] is False


def test_a_refused_renewal_ends_it_at_once() -> None:
    hand = Hand().become_head()
    hand.health({"ok": False, "reason": "epoch 1 is over", **lease("b", 2)}, "/lease/renew")
    assert (hand.role, hand.election.view.leader) == (WORKER, "b")


def test_late_double_and_senseless_answers_change_nothing() -> None:
    hand = Hand()
    send = hand.take(HEALTH)
    hand.election.receive(hand.now, send.id + 50, lease("b", 2))
    hand.election.receive(hand.now, send.id, {"lease": {"holder": 5}})
    assert (hand.role, hand.election.view.health_up) == (UNDECIDED, False)
    hand.election.receive(hand.now, send.id, lease("b", 2))
    assert hand.role == UNDECIDED
    late = hand.take(HEALTH)
    hand.step(2.0)
    hand.election.receive(hand.now, late.id, lease("b", 2))
    assert hand.role == UNDECIDED


# Without one


def sent_while_down(hand: Hand, seconds: float, answers: Mapping[str, dict[str, Any] | str | None]) -> None:
    """Let time pass with the health server down and the peers answering as given; a text is a refusal."""
    end = hand.now + seconds
    while hand.now < end:
        for send in list(hand.sent):
            hand.sent.remove(send)
            answer = answers.get(send.target)
            if isinstance(answer, str):
                hand.election.receive(hand.now, send.id, None, answer, refused=True)
            else:
                hand.election.receive(hand.now, send.id, answer)
        hand.now = min(end, max(hand.now + 0.001, hand.election.next_wake(hand.now)))
        hand.step()


def test_the_right_counts_from_when_the_renewal_was_sent() -> None:
    hand = Hand().become_head()
    renewal = hand.take(HEALTH)
    sent_at = hand.now
    hand.step(0.9)
    hand.election.receive(hand.now, renewal.id, {"ok": True, **lease("a", 1)})
    sent_while_down(hand, sent_at + SPAN - 0.01 - hand.now, {})
    assert hand.role == HEAD
    sent_while_down(hand, 0.02, {})
    assert hand.role == UNDECIDED


def test_with_everyones_word_it_stays_for_as_long_as_they_give_it() -> None:
    hand = Hand().become_head()
    willing = {name: says(name, consent=True) for name in "bc"}
    sent_while_down(hand, 10 * TTL, willing)
    assert hand.role == HEAD
    sent_while_down(hand, 2 * TTL, {"b": willing["b"]})
    assert hand.role == UNDECIDED


@pytest.mark.parametrize("other", [None, says("c", health_up=True), says("x", consent=True), {"name": "c"}])
def test_without_the_word_of_one_it_steps_down_in_time(other: dict[str, Any] | None) -> None:
    hand = Hand().become_head()
    sent_while_down(hand, SPAN + 0.1, {"b": says("b", consent=True), "c": other})
    assert hand.role == UNDECIDED


def test_after_a_pause_it_is_no_head_before_it_does_anything() -> None:
    hand = Hand().become_head()
    renewal = hand.take(HEALTH)
    hand.now += 60
    hand.election.receive(hand.now, renewal.id, {"ok": True, **lease("a", 1)})
    assert hand.role == UNDECIDED
    hand = Hand().become_head()
    hand.now += 60
    assert hand.election.asked(hand.now, claim("b", UNDECIDED)).role == UNDECIDED


def test_having_stepped_down_it_gives_the_lease_back() -> None:
    hand = Hand().become_head(epoch=5)
    sent_while_down(hand, TTL, {})
    hand.sent.clear()
    send = hand.health({"ok": True, **FREE})
    assert (send.path, send.message["epoch"]) == ("/lease/release", 5)


def test_it_gives_its_word_only_when_it_can_keep_it() -> None:
    hand = Hand(me="b")
    waiting = hand.election.asked(hand.now, claim("a"))
    assert not waiting.consent and "waits for an answer" in waiting.reason
    hand.health(None)
    assert hand.election.asked(hand.now, claim("a")).consent
    assert "whitelists differ" in hand.election.asked(hand.now, claim("a", candidates="ab")).reason
    assert "not another candidate" in hand.election.asked(hand.now, claim("x")).reason
    assert "follows a" in hand.election.asked(hand.now, claim("c", UNDECIDED)).reason
    assert not hand.election.asked(hand.now, claim("a", consent=False)).consent
    hand.health(lease("a", 1))
    up = hand.election.asked(hand.now, claim("a"))
    assert not up.consent and up.health_up


def test_its_word_keeps_it_from_asking_for_the_lease_for_one_ttl() -> None:
    hand = Hand(me="b")
    hand.health(None)
    given = hand.now
    assert hand.election.asked(given, claim("a")).consent
    while (send := hand.take(HEALTH)).path == "/lease":
        hand.election.receive(hand.now, send.id, FREE)
        for name in "ac":
            if any(question.target == name for question in hand.step().sent):
                hand.peer(name, says(name))
    assert send.path == "/lease/acquire" and hand.now >= given + TTL


def test_it_gives_no_word_while_its_own_request_is_under_way() -> None:
    hand = Hand(me="b")
    hand.health(FREE)
    for name in "ac":
        hand.peer(name, says(name))
    assert hand.take(HEALTH).path == "/lease/acquire"
    assert not hand.election.asked(hand.now, claim("a")).consent


def test_the_first_leads_at_once_with_everyones_word_and_the_second_never() -> None:
    hand = Hand()
    sent_while_down(hand, 2.5, {name: says(name, consent=True) for name in "bc"})
    assert (hand.role, hand.election.view.epoch) == (HEAD, 0)
    second = Hand(me="b")
    sent_while_down(second, 5 * TTL, {name: says(name, consent=True) for name in "ac"})
    assert second.role == UNDECIDED


def test_the_first_has_patience_with_a_health_server_that_starts_later() -> None:
    hand = Hand(patience=5.0)
    sent_while_down(hand, 4.9, {name: says(name, consent=True) for name in "bc"})
    assert hand.role == UNDECIDED
    sent_while_down(hand, 1.5, {name: says(name, consent=True) for name in "bc"})
    assert hand.role == HEAD


def test_the_first_waits_one_ttl_for_those_that_cannot_be_asked() -> None:
    hand = Hand()
    sent_while_down(hand, TTL - 0.1, {})
    assert hand.role == UNDECIDED
    sent_while_down(hand, 2.0, {})
    assert hand.role == HEAD and hand.election.leads_without_lease


def test_a_head_that_asks_counts_as_heard() -> None:
    hand = Hand()
    sent_while_down(hand, TTL / 2, {})
    hand.election.asked(hand.now, claim("b", epoch=3))
    assert hand.election.view.leader == "b"
    sent_while_down(hand, TTL / 2 + 2, {})
    assert hand.election.view.leader == "b"
    sent_while_down(hand, 5 * TTL, {})
    assert hand.role == UNDECIDED, "one that knows of a lease does not start a head alone"


@pytest.mark.parametrize("reply", [says("b", health_up=True), says("b", HEAD)])
def test_the_first_does_not_lead_alone_when_another_knows_better(reply: dict[str, Any]) -> None:
    hand = Hand()
    sent_while_down(hand, 3 * TTL, {"b": reply, "c": says("c")})
    assert hand.role != HEAD


def lone_head() -> Hand:
    hand = Hand()
    sent_while_down(hand, 2.5, {name: says(name, consent=True) for name in "bc"})
    hand.sent.clear()
    assert hand.role == HEAD
    return hand


def test_a_lone_head_gets_the_lease_when_the_server_is_back() -> None:
    hand = lone_head()
    hand.health({"ok": True, **lease("a", 1)}, "/lease/acquire")
    assert (hand.role, hand.election.view.epoch, hand.election.leads_without_lease) == (HEAD, 1, False)


def test_a_lone_head_that_was_paused_is_head_no_more() -> None:
    hand = lone_head()
    hand.step(SPAN - 1)
    assert hand.role == HEAD
    hand.step(SPAN + 1)
    assert hand.role == UNDECIDED and "paused" in hand.election.why_stepped_down


def test_a_lone_head_yields_to_a_holder_that_lives_and_not_to_one_that_says_no() -> None:
    hand = lone_head()
    hand.health({"ok": False, **lease("b", 7)}, "/lease/acquire")
    assert hand.role == HEAD, "b was asked before and said that it is no head"
    hand.peer("b", says("b", HEAD, epoch=7))
    assert (hand.role, hand.election.view.leader) == (WORKER, "b")


def test_a_lone_head_yields_to_a_lease_that_somebody_keeps_renewing() -> None:
    hand = lone_head()
    for _ in range(12):
        hand.health({"ok": False, **lease("a", 7, instance="twin")})
    assert hand.role == UNDECIDED


def test_a_head_yields_to_a_higher_epoch_and_not_to_a_lower_one() -> None:
    hand = Hand().become_head(epoch=5)
    assert hand.election.asked(hand.now, claim("b", epoch=4)).role == HEAD
    answer = hand.election.asked(hand.now, claim("b", epoch=6))
    assert (answer.role, answer.leader) == (WORKER, "b")


# With a health server, or others, that refuse

REFUSAL = "health:8080 answers 401: the token is not the one that this cluster uses"
WILLING = {name: says(name, consent=True) for name in "bc"}


def test_who_is_refused_by_the_health_server_never_leads_and_says_why() -> None:
    hand = Hand()
    sent_while_down(hand, 5 * TTL, {HEALTH: REFUSAL, **WILLING})
    assert hand.role == UNDECIDED and "is up, and refuses us" in hand.election.view.reason
    assert REFUSAL in hand.election.view.reason and hand.election.view.health_up


def test_who_was_refused_once_does_not_lead_alone_after_an_outage_either() -> None:
    hand = Hand()
    sent_while_down(hand, 1.0, {HEALTH: REFUSAL})
    sent_while_down(hand, 5 * TTL, {})
    assert hand.role == UNDECIDED


def test_a_head_whose_renewals_are_refused_steps_down_in_time_whatever_the_others_say() -> None:
    hand = Hand().become_head()
    sent_while_down(hand, SPAN + 0.1, {HEALTH: REFUSAL, **WILLING})
    assert hand.role == UNDECIDED and REFUSAL in hand.election.why_stepped_down


def test_a_single_candidate_that_is_refused_does_not_stay_for_ever() -> None:
    hand = Hand(candidates="a")
    hand.health(FREE, "/lease")
    hand.health({"ok": True, **lease("a", 1)}, "/lease/acquire")
    sent_while_down(hand, SPAN - 0.1, {HEALTH: REFUSAL})
    assert hand.role == HEAD
    sent_while_down(hand, 0.2, {HEALTH: REFUSAL})
    assert hand.role == UNDECIDED


def test_a_lone_head_that_is_refused_is_head_no_more() -> None:
    hand = lone_head()
    sent_while_down(hand, 1.5, {HEALTH: REFUSAL, **WILLING})
    assert hand.role == UNDECIDED and REFUSAL in hand.election.why_stepped_down


def test_who_is_refused_gives_no_word() -> None:
    hand = Hand(me="b")
    sent_while_down(hand, 0.1, {HEALTH: REFUSAL})
    answer = hand.election.asked(hand.now, claim("a"))
    assert not answer.consent and answer.health_up and "refuses b" in answer.reason


def test_a_refusal_by_another_candidate_is_no_consent_and_is_told() -> None:
    hand = Hand().become_head()
    sent_while_down(hand, SPAN + 0.1, {"b": WILLING["b"], "c": "c:31007 answers 401: a token is needed"})
    assert hand.role == UNDECIDED
    assert "c refuses us: c:31007 answers 401" in hand.election.view.reason


# With candidates elsewhere, which nobody here knows how to ask


def test_the_second_does_not_lead_alone_because_it_cannot_ask_the_first() -> None:
    hand = Hand(me="b", candidates="ab", unreachable={"a"})
    sent_while_down(hand, 10 * TTL, {})
    assert hand.role == UNDECIDED


def test_one_elsewhere_never_gives_its_word() -> None:
    hand = Hand(candidates="ab", unreachable={"b"})
    hand.health(FREE, "/lease")
    hand.health({"ok": True, **lease("a", 1)}, "/lease/acquire")
    sent_while_down(hand, SPAN + 0.1, {})
    assert hand.role == UNDECIDED


def test_with_a_health_server_nobody_waits_for_one_elsewhere() -> None:
    hand = Hand(me="b", unreachable={"a"})
    began = hand.now
    hand.health(FREE)
    hand.peer("c", says("c"))
    assert hand.take(HEALTH).path == "/lease/acquire" and hand.now == began
    assert not any(send.target == "a" for send in hand.sent)


# How soon the health server counts as down


def test_the_health_server_is_down_after_so_many_requests_in_a_row() -> None:
    hand = Hand(max_retries=3, retry_interval=1.5)
    hand.health(lease("b", 1))
    moments = []
    while hand.election.view.health_up:
        hand.health(None)
        moments.append(hand.now)
    assert [later - sooner for sooner, later in itertools.pairwise(moments)] == [1.5, 1.5]


def test_one_answer_between_failures_starts_the_count_anew() -> None:
    hand = Hand(max_retries=2, retry_interval=1)
    hand.health(lease("b", 1))
    for _ in range(3):
        hand.health(None)
        assert hand.election.view.health_up
        hand.health(lease("b", 1))


def test_the_first_does_not_lead_before_the_server_counts_as_down() -> None:
    hand = Hand(max_retries=3, retry_interval=2)
    sent_while_down(hand, 3.9, WILLING)
    assert hand.role == UNDECIDED and not [send for send in hand.sent if send.target != HEALTH]
    sent_while_down(hand, 2.5, WILLING)
    assert hand.role == HEAD


def test_a_head_asks_for_the_others_word_at_the_first_failure_and_they_give_it() -> None:
    hand = Hand(max_retries=3, retry_interval=1).become_head()
    hand.health(None, "/lease/renew")
    assert hand.election.view.health_up and {"b", "c"} <= {send.target for send in hand.sent}
    other = Hand(me="b", max_retries=3, retry_interval=1)
    other.health(None)
    assert other.election.asked(other.now, claim("a")).consent


def test_a_long_interval_does_not_cost_a_head_its_lease() -> None:
    hand = Hand(max_retries=3, retry_interval=8).become_head()
    hand.health(None, "/lease/renew")
    failed = hand.now
    hand.take(HEALTH)
    assert hand.now - failed <= TTL / 5


def test_a_head_goes_by_the_shorter_time_that_the_server_grants() -> None:
    hand = Hand()
    hand.health(FREE, "/lease")
    for name in ("b", "c"):
        hand.peer(name, says(name))
    granted = lease("a", 1)
    granted["lease"]["ttl"] = 4.0
    hand.health({"ok": True, **granted}, "/lease/acquire")
    began = hand.now
    assert hand.take(HEALTH).path == "/lease/renew" and hand.now - began <= 0.8
    sent_while_down(hand, began + 3.1 - hand.now, {})
    assert hand.role == UNDECIDED


# The head's process, and the end


def test_lost_releases_and_pauses_so_that_another_gets_its_chance() -> None:
    hand = Hand().become_head()
    renewal = hand.take(HEALTH)
    hand.election.lost(hand.now)
    lost_at = hand.now
    hand.step()
    assert hand.health({"ok": True, **FREE}).path == "/lease/release"
    hand.election.receive(hand.now, renewal.id, {"ok": True, **lease("a", 1)})
    assert hand.role == UNDECIDED
    while (send := hand.take(HEALTH)).path == "/lease":
        hand.election.receive(hand.now, send.id, FREE)
        for name in "bc":
            if any(question.target == name for question in hand.step().sent):
                hand.peer(name, says(name))
    assert 0.4 * TTL <= hand.now - lost_at <= 0.9 * TTL


def test_lost_without_being_head_is_nothing() -> None:
    hand = Hand()
    hand.health(lease("b", 1))
    hand.election.lost(hand.now)
    assert hand.election.view.leader == "b"


def test_resign_gives_the_lease_back_and_is_done() -> None:
    hand = Hand().become_head()
    hand.election.resign(hand.now)
    hand.step()
    assert hand.role == UNDECIDED and not hand.election.is_done
    assert hand.health({"ok": True, **FREE}).path == "/lease/release"
    assert hand.election.is_done and hand.election.next_wake(hand.now) == float("inf")


def test_who_is_not_in_the_whitelist_is_no_candidate() -> None:
    with pytest.raises(ValueError, match="'x' is not a candidate"):
        Election("x", "x/1", ["a"], address="x:1", ttl=TTL, rng=random.Random(1))


# Several of them, with faults in order


def world(candidates: int = 3, server: bool = True) -> World:
    world = World(seed=1, candidates=candidates)
    if server:
        world.at(0, world.server.start)
    for candidate in world.candidates.values():
        world.at(0, candidate.start)
    return world


def head_of(world: World) -> str:
    assert len(world.heads) == 1, world.heads
    return next(iter(world.heads))


def test_an_outage_of_the_health_server_alone_stops_nothing() -> None:
    w = world()
    w.run_until(5)
    head, since = head_of(w), w.unsteady
    w.server.stop()
    w.run_until(200)
    w.server.start()
    w.run_until(300)
    assert head_of(w) == head and w.unsteady == since and w.server.kept and w.server.kept.epoch == 1
    w.check_followers()
    assert w.violations == []


def test_a_restart_of_the_health_server_changes_nothing() -> None:
    w = world()
    for moment in range(5, 100, 7):
        w.run_until(moment)
        w.server.stop()
        w.run_until(moment + 1)
        w.server.start()
    assert w.server.kept and w.server.kept.epoch == 1 and w.unsteady < 2


def test_a_head_that_is_killed_is_replaced_and_everyone_knows_by_whom() -> None:
    w = world()
    w.run_until(5)
    first = head_of(w)
    w.candidates[first].crash()
    w.run_until(8)
    w.candidates[first].start()
    w.run_until(25)
    assert head_of(w) and w.server.kept and w.server.kept.epoch == 2
    w.check_followers()
    assert w.violations == []


def test_a_head_whose_process_died_makes_room_within_a_third_of_a_lease_time() -> None:
    w = world()
    w.run_until(5)
    first = head_of(w)
    w.candidates[first].lose_head()
    w.run_until(5 + w.ttl / 3)
    assert head_of(w) != first


def test_without_a_server_the_first_leads_and_keeps_its_head_when_the_server_comes() -> None:
    w = world(server=False)
    w.run_until(20)
    assert w.heads == {"n0": 0}
    since = w.unsteady
    w.server.start()
    w.run_until(60)
    assert w.heads == {"n0": 1} and w.unsteady == since
    w.check_followers()


def test_without_a_server_and_without_the_first_nobody_leads() -> None:
    w = world(server=False)
    w.candidates["n0"].start = lambda: None  # type: ignore[method-assign]
    w.run_until(0)
    w.candidates["n0"].crash()
    w.run_until(100)
    assert w.heads == {}


def test_a_head_cut_off_from_everyone_has_stepped_down_before_the_next_one_leads() -> None:
    w = world()
    w.run_until(5)
    first = head_of(w)
    w.network.group[first] = 1
    w.network.cut_from_health.add(first)
    w.run_until(30)
    assert head_of(w) != first and w.violations == []


def test_a_paused_head_is_a_worker_when_it_wakes_up() -> None:
    w = world()
    w.run_until(5)
    first = head_of(w)
    w.candidates[first].pause()
    w.run_until(30)
    w.candidates[first].resume()
    assert head_of(w) != first
    w.run_until(35)
    w.check_followers()
    assert w.violations == []


def test_a_single_candidate_stays_whatever_becomes_of_the_server() -> None:
    w = world(candidates=1)
    w.run_until(5)
    w.server.stop()
    w.run_until(500)
    assert w.heads == {"n0": 1}
