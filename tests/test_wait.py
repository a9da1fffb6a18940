"""The wait helper, on a clock of its own."""

from __future__ import annotations

import pytest

from ws.errors import WsError
from ws.wait import NotYet, WaitTimeout, wait_for


class Clock:
    """Time passes by sleeping alone; `sleeps` tells how."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps.append(seconds)
        self.now += seconds


class Condition:
    """Holds from the `after`-th question on, counted from 1."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.asked < self.after:
            raise NotYet(f"asked {self.asked} times")
        return "here"


def test_what_holds_at_once_costs_no_time() -> None:
    clock = Clock()
    assert wait_for("it", Condition(1), timeout=0, clock=clock, sleep=clock.sleep) == "here"
    assert clock.sleeps == []


def test_it_asks_every_interval() -> None:
    clock, condition = Clock(), Condition(4)
    assert wait_for("it", condition, timeout=10, interval=0.5, clock=clock, sleep=clock.sleep) == "here"
    assert clock.sleeps == [0.5, 0.5, 0.5]


def test_what_is_missing_at_the_end_is_told() -> None:
    clock, condition = Clock(), Condition(100)
    with pytest.raises(WaitTimeout) as caught:
        wait_for("the head", condition, timeout=2, interval=0.75, clock=clock, sleep=clock.sleep)
    assert caught.value.what == "the head: not within 2 s"
    assert caught.value.why == f"asked {condition.asked} times"
    assert isinstance(caught.value.__cause__, NotYet)
    assert isinstance(caught.value, WsError)


def test_it_never_sleeps_past_the_deadline_and_asks_once_more_there() -> None:
    clock, condition = Clock(), Condition(100)
    with pytest.raises(WaitTimeout):
        wait_for("it", condition, timeout=2, interval=0.75, clock=clock, sleep=clock.sleep)
    assert clock.sleeps == [0.75, 0.75, 0.5]
    assert condition.asked == 4


def test_a_condition_that_takes_longer_than_the_timeout_is_asked_once() -> None:
    clock = Clock()

    def slow() -> None:
        clock.now += 60
        raise NotYet("still not")

    with pytest.raises(WaitTimeout, match="not within 5 s"):
        wait_for("it", slow, timeout=5, clock=clock, sleep=clock.sleep)
    assert clock.sleeps == []


def test_any_other_error_ends_the_wait_at_once() -> None:
    clock = Clock()

    def died() -> None:
        raise WsError("the node has died")

    with pytest.raises(WsError, match="the node has died"):
        wait_for("it", died, timeout=60, clock=clock, sleep=clock.sleep)
    assert clock.sleeps == []


def test_nothing_to_say_is_no_cause() -> None:
    clock = Clock()

    def silent() -> None:
        raise NotYet

    with pytest.raises(WaitTimeout) as caught:
        wait_for("it", silent, timeout=1, clock=clock, sleep=clock.sleep)
    assert caught.value.why is None
