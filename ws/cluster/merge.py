"""From hints and sightings to records: one for each cluster, by its cluster id, session or nodes, not by address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ws.cluster.endpoint import Endpoint
from ws.cluster.hints import Hint, Way
from ws.cluster.protocol import Sighting, Speaks
from ws.cluster.records import ClusterRecord, Kind, TokenNeed

T = TypeVar("T")
Key = tuple[str, object]


def merge(hints: Sequence[Hint], sightings: Mapping[Endpoint, Sighting]) -> list[ClusterRecord]:
    """Records of all that is hinted at or was seen, in the order of their reliability."""
    groups = _Groups()
    for sighting in sightings.values():
        if sighting.is_ray:
            groups.join(*_names(sighting), ("at", sighting.endpoint))
    _join_claims(groups, hints, sightings)
    _join_strangers(groups, sightings)
    clusters: dict[Key, _Cluster] = {}
    for sighting in sightings.values():
        if sighting.is_ray:
            clusters.setdefault(groups.root(("at", sighting.endpoint)), _Cluster()).sightings.append(sighting)
    for hint in hints:
        for root in _roots(groups, hint, sightings):
            clusters.setdefault(root, _Cluster()).hints.append(hint)
    records = [cluster.record(sightings) for cluster in clusters.values() if cluster.is_worth_telling]
    return sorted(records, key=_order)


class _Groups:
    """Keys that belong together (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[Key, Key] = {}

    def root(self, key: Key) -> Key:
        self._parents.setdefault(key, key)
        while self._parents[key] != key:
            self._parents[key] = self._parents[self._parents[key]]
            key = self._parents[key]
        return key

    def join(self, *keys: Key) -> None:
        for key in keys[1:]:
            self._parents[self.root(key)] = self.root(keys[0])


def _names(source: Sighting | Hint) -> list[Key]:
    """What a cluster is known by, each as a key of its own."""
    names: list[Key] = [("id", source.cluster_id)] if source.cluster_id else []
    if source.session:
        names.append(("session", source.session))
    node_ids = source.node_ids if isinstance(source, Sighting) else [source.node_id] if source.node_id else []
    return [*names, *(("node", node_id) for node_id in node_ids)]


def _own_keys(hint: Hint) -> list[Key]:
    """Its names; of one that has none, the places that it points to, apart from what answers there."""
    return _names(hint) or [("hint", endpoint) for endpoint in hint.endpoints]


def _join_claims(groups: _Groups, hints: Sequence[Hint], sightings: Mapping[Endpoint, Sighting]) -> None:
    """What a hint knows by itself, and endpoints that told no name, but whose owner is known."""
    for hint in hints:
        keys = _own_keys(hint)
        groups.join(*keys)
        for endpoint in hint.endpoints if hint.claims else ():
            sighting = sightings.get(endpoint)
            if sighting and sighting.is_ray and not sighting.is_named:
                groups.join(keys[0], ("at", endpoint))


def _join_strangers(groups: _Groups, sightings: Mapping[Endpoint, Sighting]) -> None:
    """A GCS, a dashboard and a Ray Client of one host that tell no name are one cluster, if each is the only one."""
    hosts: dict[str, list[Sighting]] = {}
    for sighting in sightings.values():
        if sighting.is_ray and groups.root(("at", sighting.endpoint)) == ("at", sighting.endpoint) and not sighting.is_named:
            hosts.setdefault(sighting.endpoint.host, []).append(sighting)
    for strangers in hosts.values():
        if len({sighting.speaks for sighting in strangers}) == len(strangers):
            groups.join(*(("at", sighting.endpoint) for sighting in strangers))


def _roots(groups: _Groups, hint: Hint, sightings: Mapping[Endpoint, Sighting]) -> set[Key]:
    """The clusters that a hint is about: the one that it names, else those that answer where it points."""
    names = _names(hint)
    if names:
        return {groups.root(names[0])}
    seen = {groups.root(("at", at)) for at in hint.endpoints if at in sightings and sightings[at].is_ray}
    return seen or {groups.root(key) for key in _own_keys(hint)[:1]}


@dataclass
class _Cluster:
    sightings: list[Sighting] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)

    @property
    def is_worth_telling(self) -> bool:
        """Not where a sweep met nothing, nor where all that there is is a process that tells no name."""
        return bool(self.sightings) or any(
            hint.session or hint.cluster_id or hint.way not in (Way.ports, Way.processes) for hint in self.hints
        )

    def record(self, sightings: Mapping[Endpoint, Sighting]) -> ClusterRecord:
        sources: list[Sighting | Hint] = [*self.sightings, *self.hints]
        healthy = [sighting for sighting in self.sightings if sighting.healthy]
        told = sorted(healthy, key=lambda sighting: list(Speaks).index(sighting.speaks))  # the GCS knows best
        hidden = not self.sightings and self._runs_in_container
        record = ClusterRecord(
            id="",
            session=_first(source.session for source in sources),
            found_by=[way.value for way in Way if way in {hint.way for hint in self.hints}],
            ray_version=_first(sighting.ray_version for sighting in told),
            python_version=_first(sighting.python_version for sighting in told),
            nodes=_first(sighting.nodes for sighting in told),
            token=_need(self.sightings),
            alive=bool(healthy) or hidden,
            reliability=0.2 if hidden else _reliability(told),
        )
        for sighting in sorted(healthy, key=lambda sighting: _distance(sighting.endpoint)):
            record.add_addresses(Kind(sighting.speaks), [str(sighting.endpoint)])
        record.id = _first(source.cluster_id for source in sources) or record.session or self._address()
        self._tell_state(record, sightings, hidden)
        return record

    @property
    def _runs_in_container(self) -> bool:
        return any(hint.runs and not hint.claims for hint in self.hints)

    def _address(self) -> str:
        seen = [sighting.endpoint for sighting in self.sightings]
        tried = [endpoint for hint in self.hints for endpoint in hint.endpoints]
        return str(min(seen or tried, key=_distance))

    def _tell_state(self, record: ClusterRecord, sightings: Mapping[Endpoint, Sighting], hidden: bool) -> None:
        if hidden:
            record.notes.append("it runs in a container of this machine, and no address that leads in was found")
        elif not record.alive:
            record.stale = self._why_stale(sightings)
        record.notes += dict.fromkeys(f"its files: {hint.folder}" for hint in self.hints if hint.folder and record.stale)
        if record.token is TokenNeed.refused:
            record.notes.append("the token that was given is not this cluster's")

    def _why_stale(self, sightings: Mapping[Endpoint, Sighting]) -> str:
        if self.sightings:
            return f"its dashboard still answers at {self.sightings[0].endpoint}, its GCS does not"
        tried = dict.fromkeys(endpoint for hint in self.hints for endpoint in hint.endpoints)
        where = ", ".join(_outcome(endpoint, sightings.get(endpoint)) for endpoint in tried)
        running = dict.fromkeys(hint.place for hint in self.hints if hint.runs)
        who = f"{', '.join(running)} still run{'s' * (len(running) == 1)}" if running else "no process of it runs here"
        return f"{who}{f'; {where}' if where else ''}"


def _outcome(endpoint: Endpoint, sighting: Sighting | None) -> str:
    """What was met at an address where the cluster should be."""
    match sighting:
        case None | Sighting(speaks=Speaks.closed):
            return f"nothing listens at {endpoint}"
        case Sighting(speaks=Speaks.silent):
            return f"{endpoint} accepts connections and does not answer"
        case Sighting(is_ray=True):
            return f"another cluster answers at {endpoint}" if sighting.is_named else f"{endpoint} asks for a token"
        case _:
            return f"what answers at {endpoint} is no Ray"


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _need(sightings: Sequence[Sighting]) -> TokenNeed:
    """What the first of these says that any of its endpoints said."""
    said = {sighting.token for sighting in sightings}
    order = (TokenNeed.refused, TokenNeed.needed, TokenNeed.not_needed)
    return next((need for need in order if need in said), TokenNeed.unknown)


def _reliability(told: Sequence[Sighting]) -> float:
    """1: a GCS that said its name; less for what knows less, or said less; 0: nothing answers."""
    worth = {Speaks.gcs: 1.0, Speaks.dashboard: 0.8, Speaks.client: 0.5}
    return max((worth[each.speaks] - (0.0 if each.is_named else 0.2) for each in told), default=0.0)


def _distance(endpoint: Endpoint) -> tuple[bool, bool, str, int]:
    """127.0.0.1 before other addresses of this machine, those before the rest."""
    return (endpoint.host != "127.0.0.1", not endpoint.is_loopback, endpoint.host, endpoint.port)


def _order(record: ClusterRecord) -> tuple[bool, float, bool, int, int, str]:
    """The most reliable first; of equals, the one that RAY_ADDRESS means, found in more ways, with more nodes."""
    named = Way.address.value in record.found_by
    return (not record.alive, -record.reliability, not named, -len(record.found_by), -(record.nodes or 0), record.id)
