from __future__ import annotations

import random

import pytest

from tests.node.faults import LEASE_TIMES_TO_RECOVER, Report, chaos
from tests.node.simulation import World
from ws.node.candidacy import Candidacy
from ws.node.lease import BookState, LeaseBook
from ws.node.right import Timing

RUNS = 150
BLOCK = 10


def run(seed: int) -> Report:
    """Few candidates mostly: with few, everyone's word is given more often, and most of what can go wrong needs that."""
    return chaos(seed, candidates=round(2 * 25 ** random.Random(seed).random() ** 2))


@pytest.mark.parametrize("first", range(0, RUNS, BLOCK))
def test_one_head_for_each_epoch_and_soon_one_head_again(first: int) -> None:
    for seed in range(first, first + BLOCK):
        report = run(seed)
        assert report.violations == (), f"chaos({seed}, {report.candidates})"
        assert report.recovery <= LEASE_TIMES_TO_RECOVER


def test_the_same_seed_is_the_same_run() -> None:
    assert run(7) == run(7)


def test_fifty_candidates_without_faults_find_a_head_at_once() -> None:
    world = World(seed=3, candidates=50)
    world.at(0, world.server.start)
    for candidate in world.candidates.values():
        world.at(0, candidate.start)
    world.run_until(2 * world.ttl)
    assert world.unsteady < 0.2 * world.ttl
    world.check_followers()
    assert world.violations == []


# Each rule is needed: without it the simulation finds what it was made against. That shows that it looks.


def seeds_until_violated(most: int) -> int | None:
    return next((seed for seed in range(most) if chaos(seed, 2 + seed % 3).violations), None)


def test_it_sees_a_head_that_acts_longer_than_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Timing, "span", property(lambda self: 1.6 * self.ttl))
    assert seeds_until_violated(300) is not None


def test_it_sees_a_word_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Candidacy, "_blocked_until", property(lambda self: self._eligible_at))
    assert seeds_until_violated(300) is not None


def test_it_sees_candidates_that_may_all_lead_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def could(self: Candidacy) -> bool:
        return self._health_up is False and not (self._is_head or self._resigned or self._leader)

    monkeypatch.setattr(Candidacy, "_could_lead_alone", property(could))
    assert seeds_until_violated(300) is not None


def test_it_sees_two_heads_without_a_lease() -> None:
    world = World(seed=1, candidates=2)
    for candidate in world.candidates.values():
        candidate.start()
        assert candidate.election
        candidate.election._lead(0, "whatever it says")
        candidate.election._right.alone = True
        world.observe(candidate)
    assert len(world.violations) == 2 and "not the first" in world.violations[0] and "2 heads" in world.violations[1]


def test_it_sees_a_server_that_forgets_what_it_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = LeaseBook.__init__

    def forgetful(self: LeaseBook, *args: object, state: BookState | None = None, **more: object) -> None:
        genuine(self, *args, state=None, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(LeaseBook, "__init__", forgetful)
    assert seeds_until_violated(300) is not None
