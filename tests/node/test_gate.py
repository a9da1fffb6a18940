from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ws.node.fields import BadRequest
from ws.node.gate import Gate, Turn, gate_routes


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def enter(gate: Gate, name: str, priority: bool = False) -> Turn:
    return gate.enter(name, f"{name}/1", priority)


def leave(gate: Gate, name: str) -> bool:
    return gate.leave(name, f"{name}/1")


def test_as_many_as_there_are_slots(clock: FakeClock) -> None:
    gate = Gate(2, clock)
    assert [enter(gate, name) for name in "abcd"] == [Turn(True), Turn(True), Turn(False, 1, 2), Turn(False, 2, 3)]


def test_the_first_who_waits_is_the_next(clock: FakeClock) -> None:
    gate = Gate(1, clock)
    for name in "abc":
        enter(gate, name)
    assert leave(gate, "a")
    assert not enter(gate, "c").granted
    assert enter(gate, "b").granted


def test_asking_again_is_the_same_place(clock: FakeClock) -> None:
    gate = Gate(1, clock)
    assert enter(gate, "a").granted and enter(gate, "a").granted
    assert enter(gate, "b") == enter(gate, "b") == Turn(False, 1, 1)
    assert gate.look() == {"slots": 1, "starting": ["a"], "waiting": ["b"]}


def test_a_head_passes_at_once_and_takes_no_slot(clock: FakeClock) -> None:
    gate = Gate(1, clock)
    enter(gate, "a"), enter(gate, "b")
    assert enter(gate, "head", priority=True).granted
    assert not enter(gate, "b").granted
    leave(gate, "a")
    assert enter(gate, "b").granted


def test_a_slot_that_is_not_left_is_free_after_a_minute(clock: FakeClock) -> None:
    gate = Gate(1, clock)
    enter(gate, "a")
    for _ in range(12):
        assert not enter(gate, "b").granted
        clock.now += 5
    assert enter(gate, "b").granted
    assert not leave(gate, "a")


def test_one_that_no_longer_asks_loses_its_place(clock: FakeClock) -> None:
    gate = Gate(1, clock)
    for name in "abc":
        enter(gate, name)
    clock.now += 6
    enter(gate, "c")
    clock.now += 6
    leave(gate, "a")
    assert enter(gate, "c").granted
    assert enter(gate, "b") == Turn(False, 1, 1)


def test_two_processes_of_one_name_are_two(clock: FakeClock) -> None:
    gate = Gate(1, clock)
    assert gate.enter("a", "1").granted
    assert not gate.enter("a", "2").granted


def test_the_queue_is_bounded(clock: FakeClock) -> None:
    gate = Gate(1, clock, room=2)
    assert [enter(gate, name).full for name in "abcd"] == [False, False, False, True]
    assert gate.look()["waiting"] == ["b", "c"]


def test_a_gate_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Gate(0)


def test_routes_name_the_field_that_is_wrong() -> None:
    routes = gate_routes(Gate(1))
    assert routes["POST", "/gate/enter"]({"name": "a", "instance": "1"}) == (
        200,
        {"granted": True, "position": 0, "ahead": 0, "full": False},
    )
    assert routes["GET", "/gate"]({})[1]["starting"] == ["a"]
    assert routes["POST", "/gate/leave"]({"name": "a", "instance": "1"}) == (200, {"left": True})
    with pytest.raises(BadRequest, match="'instance' is missing"):
        routes["POST", "/gate/enter"]({"name": "a"})
    with pytest.raises(BadRequest, match="'priority' must be true or false"):
        routes["POST", "/gate/enter"]({"name": "a", "instance": "1", "priority": 1})


class GateMachine(RuleBasedStateMachine):
    """Never more starts than slots (but for heads), and nobody is overtaken who keeps asking."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.gate = Gate(2, self.clock, hold=60, patience=10, room=4)

    @rule(name=st.sampled_from("abcdefg"))
    def enter(self, name: str) -> None:
        waiting = self.gate.look()["waiting"]
        if enter(self.gate, name).granted and name in waiting:
            assert waiting.index(name) < 2

    @rule(name=st.sampled_from("abcdefg"))
    def leave(self, name: str) -> None:
        leave(self.gate, name)
        look = self.gate.look()
        assert name not in look["starting"] + look["waiting"]

    @rule(seconds=st.floats(0.1, 70))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def within_bounds(self) -> None:
        look = self.gate.look()
        assert len(look["starting"]) <= 2 and len(look["waiting"]) <= 4
        assert not set(look["starting"]) & set(look["waiting"])


GateMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestGate = GateMachine.TestCase
