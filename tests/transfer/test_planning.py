"""The chain, over every way that nodes may reach each other or not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ws.transfer import planning
from ws.transfer.planning import AUTO, RAY, STREAM, Leg, Reached

NAMES = [f"ray_node_{number}" for number in range(1, 7)]
YES, NO = Reached(True, 0.5), Reached(False, why="connection refused")


@st.composite
def nets(draw: st.DrawFn) -> tuple[str, list[str], frozenset[str], dict[tuple[str, str], Reached]]:
    """A sender, its recipients, who listens, and for every pair whether it can be dialled."""
    names = draw(st.permutations([*NAMES, "here"]))
    recipients = names[1 : draw(st.integers(2, len(names)))]
    listening = frozenset(draw(st.sets(st.sampled_from(names))) - {"here"})
    pairs = [(one, other) for one in names for other in names if one != other and other in listening]
    works = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    return names[0], recipients, listening, {pair: YES if ok else NO for pair, ok in zip(pairs, works, strict=True)}


def probed(
    sender: str, recipients: list[str], listening: frozenset[str], net: dict[tuple[str, str], Reached]
) -> planning.Ways:
    """What the coordinator would know: the answers to both questions."""
    ways = {way: net[way] for way in planning.first_question(sender, recipients, listening)}
    return ways | {way: net[way] for way in planning.second_question(sender, recipients, listening, ways)}


@given(nets(), st.sampled_from([AUTO, STREAM, RAY]))
def test_every_recipient_has_a_leg_that_leads_back_to_the_sender(
    net: tuple[str, list[str], frozenset[str], dict[tuple[str, str], Reached]], plane: str
) -> None:
    sender, recipients, listening, every = net
    legs = planning.plan(sender, recipients, probed(sender, recipients, listening, every), plane)
    assert sorted(leg.recipient for leg in legs) == sorted(recipients)
    before = [sender]
    for leg in legs:
        assert leg.source in before
        assert leg.path[0] == sender
        assert leg.path[-2:] == (leg.source, leg.recipient)
        assert leg.recipient not in leg.fallbacks
        assert leg.source not in leg.fallbacks
        assert leg.why
        before.append(leg.recipient)


@given(nets())
def test_a_connection_is_planned_only_where_it_was_seen_to_work_and_always_where_it_was(
    net: tuple[str, list[str], frozenset[str], dict[tuple[str, str], Reached]],
) -> None:
    sender, recipients, listening, every = net
    ways = probed(sender, recipients, listening, every)
    for leg in planning.plan(sender, recipients, ways):
        if leg.plane == STREAM:
            assert ways[(leg.source, leg.recipient) if leg.dialled else (leg.recipient, leg.source)].ok
        direct = [(leg.recipient, sender), (sender, leg.recipient)]
        if any(ways.get(pair, NO).ok for pair in direct):
            assert leg.plane == STREAM


def plan_of(
    sender: str, recipients: list[str], blocked: set[tuple[str, str]], deaf: set[str], plane: str = AUTO
) -> list[Leg]:
    names = [sender, *recipients]
    listening = frozenset(names) - deaf
    net = {(a, b): NO if (a, b) in blocked else YES for a in names for b in listening if a != b}
    return planning.plan(sender, recipients, probed(sender, recipients, listening, net), plane)


def test_in_one_network_the_recipients_are_a_chain_in_the_order_given() -> None:
    legs = plan_of("a", ["b", "c", "d"], set(), set())
    assert [leg.path for leg in legs] == [("a", "b"), ("a", "b", "c"), ("a", "b", "c", "d")]
    assert legs[2].fallbacks == ("a", "b")
    assert {leg.plane for leg in legs} == {STREAM}


def test_this_machine_dials_the_first_and_the_others_take_from_each_other() -> None:
    legs = plan_of("here", ["b", "c"], set(), {"here"})
    assert [(leg.source, leg.dialled) for leg in legs] == [("here", True), ("b", False)]


def test_who_can_only_dial_comes_last_and_takes_from_the_one_before_it() -> None:
    blocked = {("a", "nat"), ("c", "nat")}
    legs = plan_of("a", ["nat", "c"], blocked, {"nat"})
    nat = next(leg for leg in legs if leg.recipient == "nat")
    assert (nat.plane, nat.dialled) == (STREAM, False)
    other = next(leg for leg in legs if leg.recipient == "c")
    assert other.source == "a"


def test_who_can_only_be_dialled_is_dialled() -> None:
    (leg,) = plan_of("a", ["b"], {("b", "a")}, set())
    assert (leg.plane, leg.dialled, leg.source) == (STREAM, True, "a")
    assert "not the other way round" in leg.why


def test_without_a_connection_blocks_go_through_ray_unless_that_is_excluded() -> None:
    blocked = {("a", "b"), ("b", "a")}
    (leg,) = plan_of("a", ["b"], blocked, set())
    assert (leg.plane, leg.source) == (RAY, "a")
    assert "connection refused" in leg.why
    (leg,) = plan_of("a", ["b"], blocked, set(), STREAM)
    assert leg.plane == STREAM


def test_the_ray_plane_is_a_chain_that_nobody_probes_for() -> None:
    legs = planning.plan("here", ["b", "c"], {}, RAY)
    assert [(leg.source, leg.plane, leg.why) for leg in legs] == [("here", RAY, "--plane ray"), ("b", RAY, "--plane ray")]


def test_of_those_that_can_serve_the_one_with_the_fewest_does_and_of_equals_the_nearest() -> None:
    """c, d and e reach a and b, and not each other; e is planned first, as nobody has asked in vain to reach it."""
    blocked = {(one, other) for one in "cde" for other in "cde"}
    legs = plan_of("a", ["b", "c", "d", "e"], blocked, set())
    assert [(leg.recipient, leg.source) for leg in legs] == [("b", "a"), ("e", "b"), ("c", "b"), ("d", "a")]


def test_a_late_one_joins_behind_the_others() -> None:
    legs = {leg.recipient: leg for leg in plan_of("a", ["b", "c"], set(), set())}
    late = planning.join("a", "d", legs, {("d", "c"): YES, ("d", "a"): YES})
    assert late.path == ("a", "b", "c", "d")
    assert late.fallbacks == ("a", "b")


def test_chains_have_small_chunks() -> None:
    assert [planning.chunk_size(count) for count in (1, 2, 3, 8)] == [8 << 20, 8 << 20, 2 << 20, 2 << 20]


def test_a_chain_takes_one_chunk_after_the_other() -> None:
    assert [planning.streams(count) for count in (1, 2, 3, 8)] == [2, 2, 1, 1]
