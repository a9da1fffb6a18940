"""Every Ray node is a node of ours: `ray_node_1`, `ray_node_2`, … stable over a connection's life.

A node keeps its number by its Ray node id. A node that comes back has a new id: it takes the number of the node that
listened on the same address and port, else that of a dead or suspect one of the same name and address.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

CASTING_NODE = "CastingNode"
_MOST_DEAD = 1000  # as many as the GCS itself remembers


class NodeState(enum.StrEnum):
    """`suspect`: the GCS takes it for alive, and it does not answer here any more."""

    alive = "alive"
    suspect = "suspect"
    dead = "dead"


@dataclass(frozen=True, slots=True)
class SeenNode:
    """One node in a look at the cluster. `port` is its raylet's; resources by Ray's names, memory in bytes.

    `free` is None where nobody could be asked for it.
    """

    node_id: str
    name: str
    address: str
    alive: bool
    head: bool
    total: Mapping[str, float]
    free: Mapping[str, float] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    hostname: str | None = None
    port: int | None = None

    @property
    def place(self) -> tuple[str, str]:
        return self.name, self.address

    @property
    def endpoint(self) -> tuple[str, int] | None:
        return (self.address, self.port) if self.port else None


@dataclass(frozen=True, slots=True)
class Actor:
    """A living actor; `name` is empty where it has none."""

    actor_id: str
    class_name: str
    name: str
    namespace: str
    node_id: str

    @property
    def is_casting_node(self) -> bool:
        return self.class_name.rpartition(".")[2] == CASTING_NODE


@dataclass(frozen=True, slots=True)
class Node:
    """A node of ours: its number, what was last seen of it, and the actors on it, None where nobody could be asked."""

    number: int
    state: NodeState
    seen: SeenNode
    actors: tuple[Actor, ...] | None = ()
    suspicion: str | None = None

    @property
    def id(self) -> str:
        return f"ray_node_{self.number}"

    @property
    def casting_nodes(self) -> list[str]:
        """The CastingNode actors on it, by name, or by id where they have none."""
        return [actor.name or actor.actor_id for actor in self.actors or () if actor.is_casting_node]

    def as_json(self) -> dict[str, Any]:
        """Plain data: what was seen of it, under the attributes' names."""
        seen = self.seen
        return {
            "id": self.id,
            "node_id": seen.node_id,
            "name": seen.name,
            "hostname": seen.hostname,
            "address": seen.address,
            "state": self.state.value,
            "suspicion": self.suspicion,
            "head": seen.head,
            "total": dict(seen.total),
            "free": None if seen.free is None else dict(seen.free),
            "labels": dict(seen.labels),
            "actors": None if self.actors is None else [asdict(actor) for actor in self.actors],
            "casting_nodes": self.casting_nodes,
        }


@dataclass(frozen=True, slots=True)
class NodeChange:
    """How one node differs from what it was; `before` is None for a new one, `after` for a forgotten one."""

    before: Node | None
    after: Node | None

    @property
    def kind(self) -> str:
        """joined, returned, dead, suspect, alive (a suspicion was wrong), forgotten, or changed (all else)."""
        if self.before is None:
            return "joined"
        if self.after is None:
            return "forgotten"
        if self.before.seen.node_id != self.after.seen.node_id:
            return "returned"
        if self.before.state is not self.after.state:
            back = self.before.state is NodeState.dead
            return "returned" if back else self.after.state.value
        return "changed"


class NodeTracker:
    """The nodes of one connection, kept in step with what looks at the cluster show. Not for several threads at once."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._numbers: dict[str, int] = {}
        self._suspects: dict[str, str] = {}
        self._next = 1

    def nodes(self) -> list[Node]:
        """All of them by number, dead ones included."""
        return [self._nodes[number] for number in sorted(self._nodes)]

    def update(self, seen_nodes: Sequence[SeenNode], actors: Iterable[Actor] | None = ()) -> list[NodeChange]:
        """Take over all that one look showed; returns what changed.

        Nodes that it does not show are dead. Without `actors` (None: nobody could be asked) the known ones stay.
        """
        shown = {seen_node.node_id: seen_node for seen_node in seen_nodes}
        by_node: dict[str, tuple[Actor, ...] | None] = dict.fromkeys(shown, None if actors is None else ())
        by_node |= {node.seen.node_id: node.actors for node in self._nodes.values()} if actors is None else _by_node(actors)
        self._suspects = {key: why for key, why in self._suspects.items() if key in shown and shown[key].alive}
        changes = [*self._admit(shown, by_node)]
        for number, node in self._nodes.items():
            seen = shown.get(node.seen.node_id) or replace(node.seen, alive=False)
            if seen is not node.seen:
                changes += self._put(number, self._known(seen, node.seen), by_node.get(seen.node_id, ()))
        return changes + self._forget()

    def suspect(self, node_id: str, why: str) -> list[NodeChange]:
        """The node does not answer here any more."""
        self._suspects[node_id] = why
        return self._look_again(node_id)

    def trust(self, node_id: str) -> list[NodeChange]:
        """The node answers here."""
        return self._look_again(node_id) if self._suspects.pop(node_id, None) else []

    def _look_again(self, node_id: str) -> list[NodeChange]:
        number = self._numbers.get(node_id)
        if number is None:
            return []
        node = self._nodes[number]
        return [*self._put(number, node.seen, node.actors)]

    def _admit(self, shown: Mapping[str, SeenNode], by_node: Mapping[str, tuple[Actor, ...] | None]) -> Iterator[NodeChange]:
        """Number the nodes that are new: the head first, then by name; at first sight dead ones behind the living."""
        first_sight = not self._nodes
        new = [seen for node_id, seen in shown.items() if seen.alive and node_id not in self._numbers]
        vacant = self._vacant(shown) if new else _Vacant()
        for seen in sorted(new, key=lambda seen: (not seen.head, _natural(seen))):
            number = vacant.take(seen)
            if number is None:
                number = self._new_number()
            else:
                del self._numbers[self._nodes[number].seen.node_id]
            self._numbers[seen.node_id] = number
            yield from self._put(number, seen, by_node.get(seen.node_id, ()))
        if first_sight:
            yield from self._admit_dead(seen for seen in shown.values() if not seen.alive)

    def _admit_dead(self, dead: Iterable[SeenNode]) -> Iterator[NodeChange]:
        """Of those that died before we came, one for each place where no node is known: the GCS remembers many."""
        places = {node.seen.place for node in self._nodes.values()}
        for seen in sorted(dead, key=_natural):
            if seen.place not in places:
                places.add(seen.place)
                number = self._numbers[seen.node_id] = self._new_number()
                yield from self._put(number, seen, ())

    def _vacant(self, shown: Mapping[str, SeenNode]) -> _Vacant:
        vacant = _Vacant()
        for number in sorted(self._nodes):
            node = self._nodes[number]
            current = shown.get(node.seen.node_id)
            gone = current is None or not current.alive or node.seen.node_id in self._suspects
            vacant.add(node.seen, number, gone=gone)
        return vacant

    def _put(self, number: int, seen: SeenNode, actors: tuple[Actor, ...] | None) -> Iterator[NodeChange]:
        before = self._nodes.get(number)
        suspicion = self._suspects.get(seen.node_id) if seen.alive else None
        state = NodeState.dead if not seen.alive else NodeState.suspect if suspicion else NodeState.alive
        after = Node(number, state, seen, actors if seen.alive else (), suspicion)
        if after != before:
            self._nodes[number] = after
            yield NodeChange(before, after)

    def _known(self, seen: SeenNode, before: SeenNode) -> SeenNode:
        """With what an earlier look knew and this one could not tell."""
        if (seen.hostname is None and before.hostname) or (seen.port is None and before.port):
            return replace(seen, hostname=seen.hostname or before.hostname, port=seen.port or before.port)
        return seen

    def _new_number(self) -> int:
        self._next += 1
        return self._next - 1

    def _forget(self) -> list[NodeChange]:
        """Clusters that scale up and down for months leave dead nodes without end: the lowest numbers go first."""
        dead = [number for number, node in self._nodes.items() if node.state is NodeState.dead]
        forgotten = [self._nodes.pop(number) for number in sorted(dead)[: max(0, len(dead) - _MOST_DEAD)]]
        for node in forgotten:
            del self._numbers[node.seen.node_id]
        return [NodeChange(node, None) for node in forgotten]


class _Vacant:
    """Numbers that a node that comes back may take: by endpoint, and of those that are gone by name and address."""

    def __init__(self) -> None:
        self._by_endpoint: dict[tuple[str, int], int] = {}
        self._by_place: dict[tuple[str, str], list[int]] = {}
        self._taken: set[int] = set()

    def add(self, seen: SeenNode, number: int, *, gone: bool) -> None:
        if seen.endpoint:
            self._by_endpoint[seen.endpoint] = number
        if gone:
            self._by_place.setdefault(seen.place, []).append(number)

    def take(self, seen: SeenNode) -> int | None:
        """The number for this node, not given to any other; None: there is none. Two raylets can't share one port."""
        of_place = self._by_place.get(seen.place, [])
        by_endpoint = self._by_endpoint.get(seen.endpoint) if seen.endpoint else None
        for number in [*([] if by_endpoint is None else [by_endpoint]), *of_place]:
            if number not in self._taken:
                self._taken.add(number)
                if number in of_place:
                    of_place.remove(number)
                return number
        return None


def _by_node(actors: Iterable[Actor]) -> dict[str, tuple[Actor, ...]]:
    found: dict[str, list[Actor]] = {}
    for actor in actors:
        found.setdefault(actor.node_id, []).append(actor)
    return {node_id: tuple(sorted(there, key=lambda actor: actor.actor_id)) for node_id, there in found.items()}


def _natural(seen: SeenNode) -> tuple[list[tuple[int, str]], str]:
    """By name with its numbers as numbers (ray-2 before ray-10), then by id."""
    pieces: list[tuple[int, str]] = []
    digits = ""
    for letter in seen.name + " ":
        if letter.isdigit():
            digits += letter
            continue
        if digits:
            pieces.append((int(digits), ""))
            digits = ""
        pieces.append((-1, letter))
    return pieces, seen.node_id
