"""Node numbers that last, over every history of a cluster."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.cluster.nodes import Actor, NodeChange, NodeState, NodeTracker, SeenNode


def seen(
    node_id: str, name: str = "", *, alive: bool = True, head: bool = False, port: int | None = None, free: float = 4.0
) -> SeenNode:
    name = name or node_id
    return SeenNode(node_id, name, f"10.0.0.{name}", alive, head, {"CPU": 4.0}, {"CPU": free}, port=port)


def numbered(tracker: NodeTracker) -> dict[str, int]:
    return {node.seen.node_id: node.number for node in tracker.nodes()}


def kinds(changes: list[NodeChange]) -> list[tuple[str, str]]:
    return [(each.kind, (each.after or each.before).id) for each in changes if each.after or each.before]  # type: ignore[union-attr]


def test_the_head_comes_first_then_names_with_their_numbers_in_order() -> None:
    tracker = NodeTracker()
    names = ["ray-10", "ray-2", "head", "ray-1"]
    changes = tracker.update([seen(f"id-{name}", name, head=name == "head") for name in names])
    assert [node.seen.name for node in tracker.nodes()] == ["head", "ray-1", "ray-2", "ray-10"]
    assert kinds(changes) == [("joined", f"ray_node_{number}") for number in (1, 2, 3, 4)]


def test_a_look_that_shows_the_same_changes_nothing() -> None:
    tracker = NodeTracker()
    tracker.update([seen("a"), seen("b")])
    assert tracker.update([seen("b"), seen("a")]) == []


def test_a_node_that_comes_back_keeps_its_number_under_its_new_id() -> None:
    tracker = NodeTracker()
    tracker.update([seen("h", head=True), seen("a1", "a"), seen("b")])
    assert kinds(tracker.update([seen("h", head=True), seen("a1", "a", alive=False), seen("b")])) == [("dead", "ray_node_2")]
    back = tracker.update([seen("h", head=True), seen("a1", "a", alive=False), seen("a2", "a"), seen("b")])
    assert kinds(back) == [("returned", "ray_node_2")]
    assert numbered(tracker) == {"h": 1, "a2": 2, "b": 3}


def test_a_node_that_is_back_before_its_old_record_is_dead_is_known_by_its_port_or_by_suspicion() -> None:
    tracker = NodeTracker()
    tracker.update([seen("a1", "a", port=7000), seen("b1", "b")])
    tracker.update([seen("a1", "a", port=7000), seen("a2", "a", port=7000), seen("b1", "b")])
    assert numbered(tracker) == {"a2": 1, "b1": 2}
    tracker.suspect("b1", "gone")
    tracker.update([seen("a2", "a", port=7000), seen("b1", "b"), seen("b2", "b")])
    assert numbered(tracker) == {"a2": 1, "b2": 2}


def test_a_second_node_of_one_machine_is_another_node() -> None:
    tracker = NodeTracker()
    tracker.update([seen("a", "host", port=1), seen("b", "host", port=2)])
    tracker.update([seen("a", "host", port=1), seen("b", "host", port=2), seen("c", "host", port=3)])
    assert numbered(tracker) == {"a": 1, "b": 2, "c": 3}
    tracker.update([seen("a", "host", port=1), seen("c", "host", port=3), seen("d", "host", port=4)])
    assert numbered(tracker) == {"a": 1, "d": 2, "c": 3}


def test_a_head_that_starts_anew_with_another_session_keeps_every_number() -> None:
    tracker = NodeTracker()
    tracker.update([seen("h1", "h", head=True), seen("a1", "a")])
    tracker.update([seen("h2", "h", head=True)])
    assert [node.state for node in tracker.nodes()] == [NodeState.alive, NodeState.dead]
    tracker.update([seen("h2", "h", head=True), seen("a2", "a")])
    assert numbered(tracker) == {"h2": 1, "a2": 2}


def test_nodes_that_died_before_we_came_are_shown_once_for_each_place() -> None:
    tracker = NodeTracker()
    old = [seen(f"b{n}", "b", alive=False) for n in range(5)]
    tracker.update([*old, seen("a1", "a", alive=False), seen("a2", "a")])
    assert [(node.seen.name, node.state) for node in tracker.nodes()] == [("a", NodeState.alive), ("b", NodeState.dead)]
    assert tracker.update([*old, seen("a2", "a"), seen("c9", "c", alive=False)]) == []


def test_a_suspicion_shows_until_the_node_answers_or_is_dead() -> None:
    tracker = NodeTracker()
    tracker.update([seen("a"), seen("b")])
    assert kinds(tracker.suspect("a", "refuses")) == [("suspect", "ray_node_1")]
    assert tracker.nodes()[0].suspicion == "refuses"
    assert tracker.update([seen("a"), seen("b")]) == []
    assert kinds(tracker.trust("a")) == [("alive", "ray_node_1")]
    assert tracker.trust("a") == []
    tracker.suspect("b", "refuses")
    assert kinds(tracker.update([seen("a"), seen("b", alive=False)])) == [("dead", "ray_node_2")]
    assert tracker.suspect("nobody", "refuses") == []


def test_actors_are_shown_on_their_nodes_and_casting_nodes_among_them() -> None:
    tracker = NodeTracker()
    actor = Actor("id", "ray_casting.CastingNode", "external_node_1", "castray", "a")
    changes = tracker.update([seen("a"), seen("b")], [actor, Actor("id2", "Counter", "", "", "a")])
    assert len(changes) == 2
    told = tracker.nodes()[0].as_json()
    assert json.loads(json.dumps(told)) == told
    assert told["casting_nodes"] == ["external_node_1"]
    assert [each["class_name"] for each in told["actors"]] == ["ray_casting.CastingNode", "Counter"]
    assert tracker.update([seen("a"), seen("b")], None) == []
    assert kinds(tracker.update([seen("a"), seen("b")], [])) == [("changed", "ray_node_1")]


def test_actors_that_nobody_could_be_asked_for_are_unknown_and_not_none() -> None:
    tracker = NodeTracker()
    tracker.update([seen("a"), seen("b", alive=False)], None)
    assert [node.as_json()["actors"] for node in tracker.nodes()] == [None, []]
    assert kinds(tracker.update([seen("a")], [])) == [("changed", "ray_node_1")]
    tracker.update([seen("a"), seen("c")], None)
    assert [node.as_json()["actors"] for node in tracker.nodes()] == [[], [], None]


def test_what_one_look_could_not_tell_is_kept_from_the_one_before() -> None:
    tracker = NodeTracker()
    tracker.update([replace(seen("a", port=7), hostname="machine")])
    assert tracker.update([seen("a")]) == []
    assert tracker.nodes()[0].seen.endpoint == ("10.0.0.a", 7)


def test_dead_nodes_do_not_pile_up_for_ever() -> None:
    tracker = NodeTracker()
    for n in range(1100):
        tracker.update([seen("h", head=True), seen(f"n{n}")])
    states = [node.state for node in tracker.nodes()]
    assert states.count(NodeState.dead) == 1000
    assert tracker.nodes()[0].seen.node_id == "h"


# A history: in each step a place is up with one of two ports, or not.
STEPS = st.lists(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 2), max_size=5), max_size=25)


@given(STEPS, st.randoms())
@settings(max_examples=300, deadline=None)
def test_over_every_history_each_place_keeps_one_number(steps: list[dict[str, int]], random: object) -> None:
    tracker = NodeTracker()
    born: dict[str, int] = {}
    running: dict[str, str] = {}
    dead: list[SeenNode] = []
    by_place: dict[str, int] = {}
    for step in steps:
        for name in [name for name in running if name not in step]:
            dead.append(seen(running.pop(name), name, alive=False))
        for name in step:
            if name not in running:
                born[name] = born.get(name, 0) + 1
                running[name] = f"{name}{born[name]}"
        shown = [*(seen(node_id, name, port=step[name]) for name, node_id in running.items()), *dead]
        random.shuffle(shown)  # type: ignore[attr-defined]
        tracker.update(shown)
        living = {node.seen.name: node.number for node in tracker.nodes() if node.state is NodeState.alive}
        assert set(living) == set(running)
        assert all(by_place.setdefault(name, number) == number for name, number in living.items())
        assert len({node.number for node in tracker.nodes()}) == len(tracker.nodes()) == len(by_place)


@pytest.mark.parametrize("kind", ["joined", "forgotten"])
def test_a_change_of_nothing_known_has_a_name(kind: str) -> None:
    tracker = NodeTracker()
    (joined,) = tracker.update([seen("a")])
    change = joined if kind == "joined" else NodeChange(joined.after, None)
    assert change.kind == kind
