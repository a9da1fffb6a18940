"""The state machine on a fake clock and a fake network; nothing here takes real time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.cluster.connection import LOOKING, Connection, State, Timing, Transition

TIMING = Timing()
LOOK_LIMIT = 5.0


@dataclass
class World:
    """A cluster that is there or not, and a connection to it, driven as the watcher drives it."""

    machine: Connection
    now: float = 0.0
    there: bool = True
    slow: float = 0.05
    hangs: float = 2.0
    log: list[Transition] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """Let so much time pass; a look takes time, and sees the cluster as it is when the look ends."""
        end = self.now + seconds
        while True:
            self.machine.advance(self.now)
            look = self.machine.begin(self.now)
            if look is not None:
                self.looks.append(self.now)
                self.now += self.slow if self.there else self.hangs
                if self.there:
                    self.machine.seen(self.now, look)
                else:
                    self.machine.missed(self.now, look, "no answer")
            self.log += self.machine.take_transitions()
            if look is None:
                wake = self.machine.wake_at()
                if wake > end:
                    self.now = max(self.now, end)
                    self.machine.advance(self.now)
                    self.log += self.machine.take_transitions()
                    return
                self.now = max(self.now, wake)

    def states(self) -> list[State]:
        return [transition.state for transition in self.log]


def world(chance: float = 1.0, timing: Timing = TIMING, hangs: float = 2.0) -> World:
    made = World(Connection(timing, lambda: chance), hangs=hangs)
    made.machine.connect(0.0)
    return made


def test_it_connects_and_stays_connected() -> None:
    here = world()
    here.run(100)
    assert here.states() == [State.connecting, State.connected]
    assert here.machine.attempts == 0
    assert 90 < len(here.looks) < 101


def test_nothing_is_looked_at_before_somebody_asks() -> None:
    machine = Connection()
    assert machine.begin(1e9) is None
    assert machine.wake_at() == math.inf
    assert machine.take_transitions() == []


@pytest.mark.parametrize("hangs", [0.0, 0.5, 2.0, LOOK_LIMIT])
def test_a_dead_cluster_is_noticed_within_ten_seconds_and_a_returned_one_as_well(hangs: float) -> None:
    here = world(hangs=hangs)
    here.run(5.5)
    here.there, died = False, here.now
    here.run(60)
    noticed = next(each for each in here.log if each.state is State.reconnecting)
    assert noticed.at - died <= 10
    here.there, returned = True, here.now
    here.run(10)
    back = here.log[-1]
    assert back.state is State.connected
    assert back.at - returned <= 10


def test_at_the_moment_of_waking_the_silence_is_noticed_however_numbers_are_rounded() -> None:
    seen_at = 12.089
    assert seen_at + 5.0 - seen_at < 5.0
    machine = Connection(Timing(beat=60))
    machine.connect(0.0)
    look = machine.begin(0.0)
    assert look is not None
    machine.seen(seen_at, look)
    machine.advance(machine.wake_at())
    assert machine.state is State.reconnecting


def test_one_lost_answer_is_not_a_lost_cluster() -> None:
    here = world(hangs=0.3)
    here.run(5)
    here.there = False
    here.run(1.2)
    here.there = True
    here.run(5)
    assert here.states() == [State.connecting, State.connected, State.degraded, State.connected]


def test_pauses_grow_and_stay_below_their_bound() -> None:
    here = world(hangs=0.0, timing=Timing(first_patience=math.inf))
    here.there = False
    here.run(60)
    pauses = [b - a for a, b in zip(here.looks, here.looks[1:], strict=False)]
    assert pauses[:4] == pytest.approx([0.5, 1.0, 2.0, 4.0])
    assert max(pauses) <= TIMING.longest_pause
    assert here.machine.state is State.connecting


def test_a_cluster_that_was_never_there_is_given_up_until_somebody_asks_again() -> None:
    here = world()
    here.there = False
    here.run(60)
    assert here.states()[-1] is State.failed
    assert here.machine.why == "no answer"
    assert here.machine.wake_at() == math.inf
    here.there = True
    here.run(60)
    assert here.states()[-1] is State.failed
    here.machine.reconnect(here.now)
    here.run(1)
    assert here.states()[-2:] == [State.connecting, State.connected]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_it_is_given_up_when_patience_ends_and_not_a_pause_later(chance: float) -> None:
    here = world(chance, Timing(first_patience=3.0), hangs=0.0)
    here.there = False
    here.run(60)
    assert here.states() == [State.connecting, State.failed]
    assert here.log[-1].at == pytest.approx(3.0)


def test_where_trying_again_is_vain_it_is_not_tried() -> None:
    here = world()
    here.run(3)
    here.now = here.machine.due or 0.0
    look = here.machine.begin(here.now)
    assert look is not None
    here.machine.missed(here.now, look, "wrong token", hopeless=True)
    assert (here.machine.state, here.machine.why, here.machine.due) == (State.failed, "wrong token", None)


def test_our_own_slowness_is_no_failure_of_the_cluster() -> None:
    machine = Connection(Timing(first_patience=1))
    machine.connect(0.0)
    for now in range(1, 30):
        look = machine.begin(now)
        assert look is not None
        machine.missed(now, look, "the helper process is starting", starting=True)
    assert machine.state is State.connecting


def test_what_a_look_brings_after_the_connection_was_ended_counts_no_more() -> None:
    machine = Connection()
    machine.connect(0.0)
    look = machine.begin(0.0)
    assert look is not None
    machine.disconnect(0.1)
    assert not machine.seen(0.2, look)
    assert machine.state is State.disconnected
    machine.connect(1.0)
    assert not machine.missed(1.0, look, "old news", hopeless=True)
    assert machine.state is State.connecting


def test_a_manual_reconnect_looks_at_once() -> None:
    here = world(hangs=0.0)
    here.run(3)
    here.there = False
    here.run(60)
    here.there = True
    here.machine.reconnect(here.now)
    here.run(0.1)
    assert here.machine.state is State.connected


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.floats(0.01, 40)),
        st.sampled_from([("die", 0.0), ("live", 0.0), ("connect", 0.0), ("reconnect", 0.0), ("disconnect", 0.0)]),
    ),
    max_size=30,
)


@given(EVENTS, st.floats(0, 1), st.floats(0, LOOK_LIMIT))
@settings(max_examples=300, deadline=None)
def test_whatever_happens_a_wanted_connection_follows_the_cluster(
    events: list[tuple[str, float]], chance: float, hangs: float
) -> None:
    here = World(Connection(Timing(first_patience=math.inf), lambda: chance), hangs=hangs)
    wanted = False
    for event, seconds in events:
        if event == "run":
            here.run(seconds)
        elif event in {"die", "live"}:
            here.there = event == "live"
        else:
            getattr(here.machine, event)(here.now)
            wanted = event != "disconnect"
        assert (here.machine.state in LOOKING) == wanted
        assert here.machine.wake_at() < math.inf or not wanted
    here.log += here.machine.take_transitions()
    assert all(each.before is before.state for before, each in zip(here.log, here.log[1:], strict=False))
    assert all(each.before is not each.state for each in here.log)
    here.run(12)  # a look that began before the last event may still hang, and a pause may follow it
    expected = {True: {State.connected}, False: {State.connecting, State.reconnecting}}[here.there]
    assert here.machine.state in (expected if wanted else {State.disconnected})
