"""One look at a cluster: what it is, its nodes, its actors; from the dashboard, without a driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ws.cluster.dashboard import Dashboard, Place, RayNode
from ws.cluster.gcs_resources import GcsResources, free_of
from ws.cluster.nodes import Actor, SeenNode
from ws.errors import EnvironmentProblem
from ws.node.secret import Token

_TIMEOUT = 2.0


@dataclass(frozen=True)
class Identity:
    """Which cluster answers. A head that starts anew begins a new session. Versions are empty where unknown."""

    session: str
    ray_version: str = ""
    python_version: str = ""


@dataclass(frozen=True)
class Look:
    """All that one look showed; `actors` is None where nobody could be asked."""

    cluster: Identity
    nodes: tuple[SeenNode, ...]
    actors: tuple[Actor, ...] | None = ()
    dashboard: str | None = None
    """host:port of the dashboard as the head itself knows it, from a look that went by another way."""


class Starting(EnvironmentProblem):
    """A source that is not ready yet; looking again later, with the same one, will do."""


class Source(Protocol):
    """Looks at one cluster, one look at a time; the looks may be made by different threads."""

    where: str
    """The address in words, for people."""

    def look(self) -> Look:
        """Look now; raises EnvironmentProblem (TokenRefused, NoDashboard among them)."""

    def close(self) -> None:
        """Let go of everything; a look under way may fail."""


class DashboardSource:
    """Looks by the dashboard's HTTP API. Where a node runs is asked only when a node is new: that answer is long.

    `gcs` tells what is free now; without it, the dashboard's own report does, which is some seconds old.
    """

    def __init__(self, url: str, token: Token, timeout: float = _TIMEOUT, gcs: GcsResources | None = None) -> None:
        self.where = url
        self._gcs = gcs
        self._dashboard = Dashboard(url, token, timeout)
        self._identity: Identity | None = None
        self._places: dict[str, Place] = {}

    def look(self) -> Look:
        ray_version, session = self._dashboard.session()
        if self._identity is None or self._identity.session != session:
            self._identity = Identity(session, ray_version, self._python_version())
            self._places = {}
        nodes = self._dashboard.nodes()
        self._learn_places(nodes)
        free = self._free(nodes)
        return Look(
            cluster=self._identity,
            nodes=tuple(_seen_node(node, self._places.get(node.node_id), free.get(node.node_id)) for node in nodes),
            actors=self._actors(),
        )

    def close(self) -> None:
        self._dashboard.close()
        if self._gcs:
            self._gcs.close()

    def _free(self, nodes: list[RayNode]) -> dict[str, dict[str, float]]:
        """Node id → resource → what is free of it, of every living node that anybody tells of."""
        alive = {node.node_id: node.resources for node in nodes if node.alive}
        available = self._gcs.available() if self._gcs else {}
        usage = {} if alive.keys() <= available.keys() else self._usage()
        reported = {node_id: _free(total, usage[node_id]) for node_id, total in alive.items() if node_id in usage}
        known = {node_id: free_of(total, available[node_id]) for node_id, total in alive.items() if node_id in available}
        return {**reported, **known}

    def _learn_places(self, nodes: list[RayNode]) -> None:
        if all(node.node_id in self._places for node in nodes if node.alive):
            return
        try:
            found = self._dashboard.places()
        except EnvironmentProblem:
            return  # the next look asks again; without it, only the machine's name and the probing are missing
        self._places = {node.node_id: found[node.node_id] for node in nodes if node.node_id in found}

    def _python_version(self) -> str:
        try:
            return self._dashboard.cluster_versions()["python"]
        except EnvironmentProblem:  # older Ray does not tell
            return ""

    def _usage(self) -> Mapping[str, Mapping[str, tuple[float, float]]]:
        try:
            return self._dashboard.usage_by_node()
        except EnvironmentProblem:  # a head without its monitor makes no report
            return {}

    def _actors(self) -> tuple[Actor, ...] | None:
        try:
            found = self._dashboard.actors()
        except EnvironmentProblem:  # more of them than the state API handles in time, as on a busy head
            return None
        return tuple(Actor(**vars(actor)) for actor in found)


def _seen_node(node: RayNode, place: Place | None, free: Mapping[str, float] | None) -> SeenNode:
    return SeenNode(
        node_id=node.node_id,
        name=node.name,
        address=node.address,
        alive=node.alive,
        head=node.head,
        total=node.resources,
        free=free,
        labels=node.labels,
        hostname=place.hostname if place else None,
        port=place.port if place else None,
    )


def _free(total: Mapping[str, float], usage: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Total less what is used; the report has its names in camel case, and knows no resource that nobody uses."""
    return {name: amount - usage.get(_camel_case(name), (0.0, 0.0))[0] for name, amount in total.items()}


def _camel_case(name: str) -> str:
    """As Ray's dashboard writes it (`ray/dashboard/utils.py`, to_camel_case)."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
