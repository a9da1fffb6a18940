"""Which peer next, and when it is over: on a fake clock, against a fake network with any faults."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.transfer.onnode.choice import Choice, Timing
from ws.transfer.onnode.problems import TransferProblem

DEAD = TransferProblem("lost", "it is dead")
BAD = TransferProblem("bad-chunk", "it is wrong")
STEP = 0.05


def three() -> Choice:
    choice = Choice()
    choice.add("before")
    choice.add("further")
    choice.add("origin", origin=True)
    return choice


def take_and_fail(choice: Choice, name: str, now: float) -> None:
    assert choice.take(now) == name
    choice.failed(name, now, DEAD)
    choice.release(name)


def test_the_most_preferred_is_for_every_stream() -> None:
    choice = three()
    assert [choice.take(0.0) for _ in range(3)] == ["before"] * 3


def test_one_that_failed_rests_and_is_tried_by_one_stream() -> None:
    choice = three()
    take_and_fail(choice, "before", 0.0)
    assert choice.take(0.0) == "further"
    assert not choice.has_better("further", 0.2)
    assert choice.has_better("further", 0.3)
    assert choice.take(0.3) == "before"
    assert choice.take(0.3) == "further"
    choice.got("before", 0.4)
    assert choice.take(0.4) == "before"


def test_rests_grow_and_streams_that_break_together_count_once() -> None:
    choice = three()
    now, rests = 0.0, []
    for _ in range(8):
        take_and_fail(choice, "before", now)
        choice.failed("before", now, DEAD)
        began = now
        while not choice.has_better("further", now):
            now += STEP
        rests.append(round(now - began, 1))
    assert rests == pytest.approx([0.25, 0.5, 1, 2, 4, 8, 16, 16], abs=0.1)


def test_the_last_one_is_asked_again_soon() -> None:
    choice = Choice()
    choice.add("origin", origin=True)
    for now in range(100, 700, 100):
        take_and_fail(choice, "origin", float(now))
    assert choice.take(600.5) is None
    assert choice.wake_at() == 601.0
    assert choice.take(601.0) == "origin"


def test_three_bad_chunks_are_enough_but_for_the_origin() -> None:
    choice = three()
    for number in range(3):
        choice.bad("before", 100.0 * number, BAD)
        choice.bad("origin", 100.0 * number, BAD)
    assert choice.is_banned("before")
    assert not choice.is_banned("origin")


def test_one_that_waits_is_left_only_for_another_that_may_have_more() -> None:
    choice = three()
    assert choice.waiting("before", 0.0)
    assert choice.take(0.0) == "further"
    assert choice.waiting("further", 0.0)
    assert choice.take(0.0) == "origin"
    assert not choice.waiting("origin", 0.0)
    assert choice.take(10.0) == "before"


def test_one_that_dials_us_has_as_many_as_it_dialled() -> None:
    choice = Choice()
    choice.add("origin", origin=True, slots=0)
    assert choice.take(0.0) is None
    assert choice.wake_at() == math.inf
    choice.allow("origin", 1)
    assert choice.take(0.0) == "origin"
    assert choice.take(0.0) is None


def test_a_rejected_peer_is_not_asked_and_the_origin_can_not_be_rejected() -> None:
    choice = three()
    assert choice.reject("before")
    assert not choice.reject("origin")
    assert choice.take(0.0) == "further"


def test_all_banned_is_hopeless_at_once() -> None:
    choice = Choice()
    choice.add("a")
    choice.failed("a", 0.0, TransferProblem("wrong-secret", "who are you"))
    problem = choice.tick(0.0)
    assert problem is not None
    assert problem.code == "wrong-secret"
    assert "a: who are you" in problem.why


def test_a_process_that_was_stopped_does_not_blame_the_others() -> None:
    choice = three()
    assert choice.tick(0.0) is None
    assert choice.tick(3600.0) is None


def test_the_time_of_a_pause_does_not_count() -> None:
    choice = Choice(Timing(patience=1.0))
    choice.add("a")
    assert choice.tick(0.0) is None
    assert choice.tick(0.75) is None
    choice.rest()
    assert choice.tick(5.0) is None
    assert choice.tick(5.125) is None
    assert choice.tick(5.25) is not None


def test_nobody_known() -> None:
    choice = Choice(Timing(patience=1.0))
    assert choice.tick(0.0) is None
    problem = choice.tick(1.0)
    assert problem is not None
    assert problem.code == "unreachable"


class Network:
    """Peers that are up or down at times; streams that ask them for chunks, one step of the clock after the other."""

    def __init__(self, up: list[list[bool]], streams: int, era: float) -> None:
        self.up, self.era, self.now = up, era, 0.0
        self.timing = Timing(patience=30.0)
        self.choice = Choice(self.timing)
        for number in range(len(up)):
            self.choice.add(str(number), origin=number == len(up) - 1)
        self.streams: list[str | None] = [None] * streams
        self.asked: list[tuple[float, str]] = []
        self.got: list[tuple[float, str]] = []
        self.problem: TransferProblem | None = None

    def is_up(self, name: str) -> bool:
        eras = self.up[int(name)]
        return eras[min(int(self.now / self.era), len(eras) - 1)]

    def step(self) -> None:
        for number, name in enumerate(self.streams):
            if name is not None:
                self.answer(number, name)
            elif (taken := self.choice.take(self.now)) is not None:
                self.asked.append((self.now, taken))
                self.streams[number] = taken
        self.problem = self.problem or self.choice.tick(self.now)
        self.now += STEP

    def answer(self, number: int, name: str) -> None:
        if self.is_up(name):
            self.got.append((self.now, name))
            self.choice.got(name, self.now)
            if not self.choice.has_better(name, self.now):
                return
        else:
            self.choice.failed(name, self.now, DEAD)
        self.choice.release(name)
        self.streams[number] = None


faults = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(faults, st.integers(1, 4))
def test_whoever_is_up_is_found_and_the_preferred_one_returned_to(up: list[list[bool]], streams: int) -> None:
    network = Network(up, streams, era=25.0)
    eras_up = [any(eras[number] for eras in up) for number in range(6)]
    while network.now < 6 * network.era:
        network.step()
        if network.problem:
            break
        into_era = network.now % network.era
        if eras_up[min(5, int(network.now / network.era))] and into_era > 20:
            at, name = network.got[-1]
            assert at > network.now - (5 + 2 * len(up)) * STEP, "something could come, and did not"
            assert name == next(str(n) for n in range(len(up)) if network.is_up(str(n))), "not from the most preferred one"
    if network.problem:
        assert not any(network.is_up(str(n)) for n in range(len(up)))
        assert network.now - (network.got[-1][0] if network.got else 0.0) >= network.timing.patience - 1
    for second in range(int(network.now)):
        asked = [name for at, name in network.asked if second <= at < second + 1 and not network.got]
        assert len(asked) <= 6 * len(up) * streams, "no busy loop"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4))
def test_it_ends_soon_after_its_patience_and_not_before(peers: int, streams: int) -> None:
    network = Network([[False]] * peers, streams, era=1000.0)
    while network.problem is None:
        network.step()
    assert 30.0 <= network.now < 31.0
    assert network.problem.code == "lost"
    assert network.problem.why.count("it is dead") == peers


def test_bytes_count_as_progress_until_a_peer_fails() -> None:
    """A chunk may take longer than patience; one that breaks off again and again may not."""
    choice = Choice(Timing(patience=3.0))
    choice.add("a")
    for second in range(10):
        choice.moving("a", float(second))
        assert choice.tick(float(second)) is None
    choice.failed("a", 10.0, TransferProblem("lost", "it broke off"))
    for second in range(10, 13):
        choice.moving("a", float(second))
    assert [choice.tick(float(second)) is None for second in range(10, 14)] == [True, True, True, False]
    choice.got("a", 14.0)
    choice.moving("a", 20.0)
    assert choice.tick(22.0) is None
