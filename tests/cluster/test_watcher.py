"""The watcher's threads, over sources that do what they are told; real clusters are in test_real.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.node.stage import soon
from ws.cluster.connection import State, Timing, Transition
from ws.cluster.dashboard import TokenRefused
from ws.cluster.look import Identity, Look, Starting
from ws.cluster.nodes import NodeChange, NodeState, SeenNode
from ws.cluster.versions import Mismatch
from ws.cluster.watcher import Event, Watcher
from ws.errors import EnvironmentProblem

QUICK = Timing(beat=0.02, hurry=0.02, patience=0.2, first_pause=0.02, longest_pause=0.05, first_patience=0.3)


def seen(node_id: str, *, alive: bool = True) -> SeenNode:
    return SeenNode(node_id, node_id, "10.0.0.1", alive, node_id == "head", {"CPU": 1.0})


class Scripted:
    """A source, and what opens it: `answer` is called for each look."""

    where = "a script"

    def __init__(self) -> None:
        self.nodes = ("head", "a")
        self.answer: Callable[[], Look] = self.looks
        self.opened = self.closed = 0

    def __call__(self) -> Scripted:
        self.opened += 1
        return self

    def look(self) -> Look:
        return self.answer()

    def looks(self) -> Look:
        return Look(Identity("session"), tuple(seen(name) for name in self.nodes))

    def fails(self) -> Look:
        raise EnvironmentProblem("the dashboard does not answer")

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def script() -> Scripted:
    return Scripted()


@pytest.fixture
def watcher(script: Scripted) -> Iterator[Watcher]:
    with ExitStack() as ends:
        made = Watcher(script, QUICK)
        ends.callback(made.close)
        yield made


def reaches(watcher: Watcher, state: State) -> None:
    assert watcher.wait(lambda view: view.state is state, 20), f"{watcher.view()} is not {state}"


def test_it_connects_tells_events_and_shows_the_nodes(watcher: Watcher) -> None:
    events: list[Event] = []
    watcher.subscribe(events.append)
    assert watcher.view().state is State.disconnected
    watcher.connect()
    reaches(watcher, State.connected)
    view = watcher.view()
    assert [(node.id, node.seen.name, node.state) for node in view.nodes] == [
        ("ray_node_1", "head", NodeState.alive),
        ("ray_node_2", "a", NodeState.alive),
    ]
    assert view.cluster == Identity("session")
    assert view.seen_at is not None
    soon("events", lambda: len(events) == 4)
    assert [each.state for each in events if isinstance(each, Transition)] == [State.connecting, State.connected]
    assert [each.kind for each in events if isinstance(each, NodeChange)] == ["joined", "joined"]


def test_a_dead_cluster_is_left_and_one_that_returns_is_taken_up_by_a_new_source(watcher: Watcher, script: Scripted) -> None:
    watcher.connect()
    reaches(watcher, State.connected)
    script.answer = script.fails
    reaches(watcher, State.reconnecting)
    assert "does not answer" in watcher.view().why
    assert [node.id for node in watcher.view().nodes] == ["ray_node_1", "ray_node_2"]
    script.answer = script.looks
    reaches(watcher, State.connected)
    assert script.opened > 1
    assert script.closed >= script.opened - 1
    assert watcher.problem is None


@pytest.mark.parametrize("problem", [TokenRefused("the cluster refuses this token"), Mismatch("Ray 2.9.0 there")])
def test_where_it_is_vain_it_fails_at_once_and_a_manual_reconnect_tries_again(
    watcher: Watcher, script: Scripted, problem: EnvironmentProblem
) -> None:
    def refuses() -> Look:
        raise problem

    script.answer = refuses
    watcher.connect()
    reaches(watcher, State.failed)
    assert watcher.problem is problem
    script.answer = script.looks
    watcher.reconnect()
    reaches(watcher, State.connected)


def test_a_look_that_hangs_blocks_nobody_and_is_given_up(
    watcher: Watcher, script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ws.cluster.watcher._LOOK", 0.3)
    watcher.connect()
    reaches(watcher, State.connected)
    release, hanging = threading.Event(), threading.Event()

    def hangs() -> Look:
        hanging.set()
        release.wait(60)
        return script.looks()

    script.answer = hangs
    assert hanging.wait(20)
    began = time.monotonic()
    assert watcher.view().nodes
    watcher.reconnect()
    assert time.monotonic() - began < 5
    reaches(watcher, State.reconnecting)
    script.answer = script.looks
    reaches(watcher, State.connected)
    release.set()


def test_a_manual_reconnect_and_the_end_wait_for_no_look_that_hangs(
    watcher: Watcher, script: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ws.cluster.watcher._LOOK", 3600.0)
    release, hanging = threading.Event(), threading.Event()

    def hangs() -> Look:
        hanging.set()
        release.wait(60)
        return script.looks()

    script.answer = hangs
    watcher.connect()
    assert hanging.wait(20)
    script.answer = script.looks
    watcher.reconnect()
    reaches(watcher, State.connected)
    hanging.clear()
    script.answer = hangs
    assert hanging.wait(20)
    watcher.close()
    release.set()


def test_a_source_that_is_starting_is_kept(watcher: Watcher, script: Scripted) -> None:
    looks: list[int] = []

    def starts() -> Look:
        looks.append(1)
        if len(looks) < 40:
            raise Starting("the helper process is starting")
        return script.looks()

    script.answer = starts
    watcher.connect()
    reaches(watcher, State.connected)
    assert (script.opened, script.closed) == (1, 0)


def test_neither_a_bug_in_a_look_nor_one_in_a_subscriber_ends_the_watch(watcher: Watcher, script: Scripted) -> None:
    told: list[Event] = []

    def bug(event: Event) -> None:
        raise ValueError("a bug")

    watcher.subscribe(bug)
    watcher.subscribe(told.append)
    watcher.connect()
    reaches(watcher, State.connected)
    script.answer = lambda: 1 // 0  # type: ignore[return-value]
    reaches(watcher, State.degraded)
    assert "ZeroDivisionError" in watcher.view().why
    script.answer = script.looks
    reaches(watcher, State.connected)
    assert told


def test_who_has_ended_the_subscription_is_told_nothing(watcher: Watcher) -> None:
    told: list[Event] = []
    end = watcher.subscribe(told.append)
    end()
    end()
    watcher.connect()
    reaches(watcher, State.connected)
    assert told == []


def test_nodes_keep_their_numbers_over_a_disconnect(watcher: Watcher, script: Scripted) -> None:
    watcher.connect()
    reaches(watcher, State.connected)
    watcher.disconnect()
    assert watcher.view().state is State.disconnected
    soon("the source's end", lambda: script.closed >= 1)
    script.nodes = ("b", "a", "head")
    watcher.connect()
    assert watcher.wait(lambda view: len(view.nodes) == 3, 20)
    assert {node.seen.name: node.number for node in watcher.view().nodes} == {"head": 1, "a": 2, "b": 3}


def test_what_is_opened_after_the_end_is_closed_again(script: Scripted) -> None:
    opening, go_on = threading.Event(), threading.Event()

    def slowly() -> Scripted:
        opening.set()
        go_on.wait(60)
        return script()

    watcher = Watcher(slowly, QUICK)
    watcher.connect()
    assert opening.wait(20)
    watcher.disconnect()
    go_on.set()
    soon("the end of what came too late", lambda: script.opened == script.closed == 1)
    watcher.close()
    watcher.close()


def test_two_watchers_know_nothing_of_each_other(watcher: Watcher, script: Scripted) -> None:
    other_script = Scripted()
    other_script.answer = other_script.fails
    other = Watcher(other_script, QUICK)
    try:
        watcher.connect()
        other.connect()
        reaches(other, State.failed)
        reaches(watcher, State.connected)
    finally:
        other.close()
    assert watcher.wait(lambda view: view.state is State.connected, 20)
