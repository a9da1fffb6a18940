"""Flags of `ws up` as changes of the configuration that would hold without them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ws.config.models import Config, NodeSettings
from ws.config.plan import ClusterPlan, NodePlan, hostname_of, plan
from ws.errors import UsageError

_WORKER = "worker"
_OTHER = "follower"
_LAST_PORT = 65535


@dataclass(frozen=True)
class Changes:
    """What `ws.config.load.load` takes from the command line: nested values, and the only nodes (None: the config's)."""

    overrides: Mapping[str, Any]
    nodes: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Flags:
    """The flags that stand for several keys of the config; None where one was not given."""

    workers: int | None = None
    head_port: int | None = None
    dashboard_port: int | None = None
    client_port: int | None = None

    def changes(self, config: Config, note: Callable[[str], None]) -> Changes:
        """What the flags change of a configuration; what they change beyond their own words is told to `note`.

        The ports become those of the first candidate. With workers, that candidate and N nodes `worker` are all that
        there is. Raises UsageError where no node here may be the head.
        """
        given = {"head_port": self.head_port, "dashboard_port": self.dashboard_port, "client_port": self.client_port}
        ports = {name: port for name, port in given.items() if port is not None}
        if not ports and self.workers is None:
            return Changes({})
        cluster = plan(config)
        candidate = _first_candidate(cluster)
        key, client_port = candidate.key, candidate.entry.client
        settings = config.services.ray.nodes[key]
        if "client_port" not in ports and client_port in ports.values():
            # Nobody asked for this port, so it makes room for what was asked for.
            others = [candidate] if self.workers is not None else cluster.nodes
            ports["client_port"] = _next_free(client_port, {*ports.values(), *_ports_of(cluster, others)})
            note(f"Ray Client moves to port {ports['client_port']}: {client_port} is what another flag asks for")
        if self.workers is None:
            return Changes({"services": {"ray": {key: ports}}})
        head = {**settings.model_dump(exclude_unset=True), **ports, "replicas": 1}
        return Changes(
            {"nodes": {"head_whitelist": [hostname_of(key)]}}, {key: head, **_workers(self.workers, key, settings)}
        )


def _first_candidate(cluster: ClusterPlan) -> NodePlan:
    """The first in the whitelist whose entry ports a config can set: of replicas, the first alone."""
    for node in cluster.candidates:
        if node.index == 1:
            return node
    raise UsageError(
        "no node here may be the head, so there is none that these flags could change",
        "nodes.head_whitelist names none of the config's nodes, or only replicas behind the first",
        f"add {cluster.nodes[0].hostname} to nodes.head_whitelist",
    )


def _next_free(port: int, taken: Collection[int]) -> int:
    """The first port above that nothing of this cluster has; where there is none, `load` refuses the same port twice."""
    return next((number for number in range(port + 1, _LAST_PORT + 1) if number not in taken), port)


def _ports_of(cluster: ClusterPlan, nodes: Iterable[NodePlan]) -> set[int]:
    entries = {port for node in nodes for port in (node.entry.head, node.entry.dashboard, node.entry.client)}
    return {cluster.health_port, *entries, *cluster.ports}


def _workers(count: int, head: str, settings: NodeSettings) -> dict[str, dict[str, Any]]:
    if not count:
        return {}
    own = {"replicas": count, "cpus": settings.cpus, "memory": settings.memory}
    return {_WORKER if head != _WORKER else _OTHER: own}
