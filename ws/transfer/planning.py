"""Who gets a transfer's chunks from whom, and how; decided from what was probed, without doing anything.

The recipients stand in a chain behind the sender; each takes from the nearest one before it that it can reach:

    sender ──► ray_node_2 ──► ray_node_3 ──► ray_node_4

A node that can dial takes by dialling; one that nobody before it lets in, or that listens nowhere, is dialled by who serves
it. Where no connection works in either direction, blocks go through Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AUTO, STREAM, RAY = "auto", "stream", "ray"
PLANES = (AUTO, STREAM, RAY)
CHUNK = 8 << 20
SMALL_CHUNK = 2 << 20
"""For a chain: its last member waits for one chunk for each one before it until anything arrives."""
_LONG_CHAIN = 2
_LOOK_BACK = 3
"""How many before it, beside the sender, each recipient probes."""
_FALLBACKS = 4


@dataclass(frozen=True)
class Reached:
    """What came of trying one way; `ms` to the end of the greeting, `why` not."""

    ok: bool
    ms: float = 0.0
    why: str = ""


Ways = Mapping[tuple[str, str], Reached]
"""(who dials, who is dialled) → what came of it; pairs that were not tried are missing."""


@dataclass(frozen=True)
class Leg:
    """How one recipient gets its chunks.

    Attributes:
        source: who it takes from first.
        plane: "stream" or "ray".
        dialled: the source dials it, not the other way round.
        fallbacks: whom else it asks, in this order, by dialling.
        path: from the sender to it, both included.
        why: the choice of the plane, in words.
    """

    recipient: str
    source: str
    plane: str
    dialled: bool = False
    fallbacks: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    why: str = ""


Question = list[tuple[str, str]]
"""What is to be probed: (who dials, who is dialled)."""


def chunk_size(recipients: int) -> int:
    """Bytes per chunk for a chain of so many recipients."""
    return SMALL_CHUNK if recipients > _LONG_CHAIN else CHUNK


def streams(recipients: int) -> int:
    """Connections that each of so many recipients makes.

    In a chain one: of two chunks side by side, neither can be passed on until both are nearly there.
    """
    return 1 if recipients > _LONG_CHAIN else 2


def first_question(sender: str, recipients: Sequence[str], listening: frozenset[str]) -> Question:
    """The ways that the chain wants to go: each recipient to the sender, and to those before it.

    Of one that listens nowhere as sender, its own ways to the recipients.
    """
    ways: Question = []
    for at, recipient in enumerate(recipients):
        before = [sender, *recipients[max(0, at - _LOOK_BACK) : at]]
        ways += [(recipient, other) for other in before if other in listening]
    if sender not in listening:
        ways += [(sender, recipient) for recipient in recipients if recipient in listening]
    return ways


def second_question(sender: str, recipients: Sequence[str], listening: frozenset[str], ways: Ways) -> Question:
    """For each recipient that reaches nobody: whether the sender, or those before it, reach it."""
    asked: Question = []
    for at, recipient in enumerate(recipients):
        if recipient in listening and not any(way.ok for (who, _), way in ways.items() if who == recipient):
            before = [sender, *recipients[max(0, at - _LOOK_BACK) : at]]
            asked += [(other, recipient) for other in before if (other, recipient) not in ways]
    return asked


def order(sender: str, recipients: Sequence[str], ways: Ways) -> list[str]:
    """The chain: first those that can take from others and pass on, then those that only take, then the unreachable."""

    def rank(recipient: str) -> int:
        takes = any(way.ok for pair, way in ways.items() if recipient in pair)
        refused = [way for (_, dialled), way in ways.items() if dialled == recipient]
        passes = any(way.ok for way in refused) or not refused
        return 2 if not takes else 0 if passes else 1

    direct = {r for r in recipients if _ok(ways, r, sender) or _ok(ways, sender, r)}
    return sorted(recipients, key=lambda recipient: (rank(recipient), recipient not in direct))


def plan(sender: str, recipients: Sequence[str], ways: Ways, plane: str = AUTO) -> list[Leg]:
    """A leg for each recipient, those before it in the chain first."""
    legs: dict[str, Leg] = {}
    for recipient in recipients if plane == RAY else order(sender, recipients, ways):
        legs[recipient] = join(sender, recipient, legs, ways, plane)
    return list(legs.values())


def join(sender: str, recipient: str, legs: Mapping[str, Leg], ways: Ways, plane: str = AUTO) -> Leg:
    """A leg for one recipient behind those that have theirs already; none that takes from it may be among them."""
    if plane == RAY:
        return _through_ray(sender, recipient, legs, "--plane ray")
    return _leg(sender, recipient, [*reversed(list(legs)), sender], legs, ways, plane)


def _leg(sender: str, recipient: str, before: Sequence[str], legs: Mapping[str, Leg], ways: Ways, plane: str) -> Leg:
    takers = {source: sum(leg.source == source for leg in legs.values()) for source in before}
    can_dial = [source for source in before if _ok(ways, recipient, source)]
    dialled_by = [source for source in before if _ok(ways, source, recipient) and source not in can_dial]
    for dialled, sources in ((False, can_dial), (True, dialled_by)):
        if sources:
            source = min(sources, key=lambda each: takers[each])  # of equals the first: the nearest in the chain
            fallbacks = [each for each in (*reversed(can_dial), *reversed(before)) if each != source]
            return Leg(
                recipient,
                source,
                STREAM,
                dialled,
                tuple(dict.fromkeys(fallbacks))[:_FALLBACKS],
                (*_path(source, legs), recipient),
                _stream_words(recipient, source, dialled, ways, plane),
            )
    why = _why_not(recipient, before, ways)
    if plane == STREAM:
        return Leg(recipient, sender, STREAM, False, (), (sender, recipient), f"--plane stream; {why}")
    return _through_ray(sender, recipient, legs, f"no connection: {why}")


def _through_ray(sender: str, recipient: str, legs: Mapping[str, Leg], why: str) -> Leg:
    """A chain as well: the one before it, where there is one, has the blocks in its own node's memory already."""
    source = next(reversed(list(legs)), sender)
    fallbacks = tuple(dict.fromkeys(each for each in (sender, *reversed(list(legs))) if each != source))[:_FALLBACKS]
    return Leg(recipient, source, RAY, False, fallbacks, (*_path(source, legs), recipient), why)


def _path(source: str, legs: Mapping[str, Leg]) -> tuple[str, ...]:
    return legs[source].path if source in legs else (source,)


def _ok(ways: Ways, dialler: str, dialled: str) -> bool:
    return ways.get((dialler, dialled), Reached(False)).ok


def _stream_words(recipient: str, source: str, dialled: bool, ways: Ways, plane: str) -> str:
    given = f"--plane {plane}; " if plane != AUTO else ""
    way = ways[(source, recipient) if dialled else (recipient, source)]
    words = f"{source} reaches {recipient}" if dialled else f"{recipient} reaches {source}"
    return f"{given}{words} directly ({way.ms:.1f} ms){', not the other way round' if dialled else ''}"


def _why_not(recipient: str, before: Sequence[str], ways: Ways) -> str:
    """What the ways to the sender, the last of `before`, came to."""
    for pair in ((recipient, before[-1]), (before[-1], recipient)):
        if pair in ways and ways[pair].why:
            return f"{pair[0]} does not reach {pair[1]}: {ways[pair].why}"
    return f"neither {recipient} nor {before[-1]} can be dialled"
