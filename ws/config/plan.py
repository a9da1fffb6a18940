"""Hostnames, addresses and ports of every node, computed in one place from the configuration alone.

Port blocks follow one another from `network.port_base`, first those of the nodes in the config's order, then
those of external nodes. A block's size is a multiple of 8: eight fixed ports, the worker ports, and room at its
end for entry ports that the config leaves open. So the plan is the same on every machine, for any whitelist.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from itertools import zip_longest

from ws.config.memory import parse_memory
from ws.config.models import Config, NodeSettings, RaySettings
from ws.errors import EnvironmentProblem

_MEBIBYTE = 1024**2
_BLOCK_UNIT = 8
_ENTRY_PORTS = 3
# Of an external node nothing is known but its name.
_EXTERNAL_CPUS = 4
JOINER_CPUS = 1


@dataclass(frozen=True)
class PortBlock:
    """The fixed ports of one node, in the order of their numbers; workers: first and last, both included."""

    node_manager: int
    object_manager: int
    runtime_env_agent: int
    dashboard_agent_grpc: int
    dashboard_agent_listen: int
    metrics_export: int
    transfer: int
    agent: int
    workers: tuple[int, int] | None
    """None: Ray picks free ports itself, as nothing outside the network needs to reach them."""

    @property
    def first(self) -> int:
        return self.node_manager

    @property
    def last(self) -> int:
        return self.workers[1] if self.workers else self.agent

    def as_environment(self) -> str:
        """The text of WS_NODE_PORTS: `node_manager=31000,…,agent=31007,workers=31008-31023`."""
        parts = [f"{name}={getattr(self, name)}" for name in _FIXED_PORTS]
        if self.workers:
            parts.append(f"workers={self.workers[0]}-{self.workers[1]}")
        return ",".join(parts)


_FIXED_PORTS = tuple(field.name for field in fields(PortBlock) if field.name != "workers")


@dataclass(frozen=True)
class EntryPorts:
    """Where a node leads to the head: GCS, dashboard, Ray Client. Published for candidates alone."""

    head: int
    dashboard: int
    client: int
    published: bool


@dataclass(frozen=True)
class NodePlan:
    """One node of ours. Sizes are in bytes; `index` is its number among the replicas of `key`, from 1."""

    key: str
    index: int
    hostname: str
    container: str
    candidate: bool
    entry: EntryPorts
    block: PortBlock
    address: str
    cpus: int
    gpus: int
    memory: int
    shm_size: int
    object_store_memory: int
    image: str
    gpu_image: str
    env: Mapping[str, str]
    transfer_roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExternalPlan:
    """A node outside the main network, that joins through the host."""

    hostname: str
    block: PortBlock


@dataclass(frozen=True)
class ClusterPlan:
    """Every node of the cluster. `ports`: all ports of the blocks, from the first to behind the last.

    `external` begins with the two nodes of the cluster test, its worker and its joiner, where the test is on.
    """

    project: str
    nodes: tuple[NodePlan, ...]
    candidates: tuple[NodePlan, ...]
    health_address: str
    health_port: int
    external: tuple[ExternalPlan, ...]
    ports: range

    def node(self, hostname: str) -> NodePlan:
        """Raises KeyError where no node of ours has this hostname."""
        for node in self.nodes:
            if node.hostname == hostname:
                return node
        raise KeyError(hostname)

    def candidates_json(self, addresses: Mapping[str, str] | None = None) -> str:
        """The text of WS_CANDIDATES, in the whitelist's order. `addresses`: by hostname, which is the default."""
        known = addresses or {}
        return json.dumps(
            [
                {
                    "name": node.hostname,
                    "address": known.get(node.hostname, node.hostname),
                    "head_port": node.entry.head,
                    "dashboard_port": node.entry.dashboard,
                    "client_port": node.entry.client,
                    "agent_port": node.block.agent,
                }
                for node in self.candidates
            ],
            separators=(",", ":"),
        )


def plan(config: Config) -> ClusterPlan:
    """The plan of a configuration. That it fits (ports up to 65535, addresses in the subnet), `load` checks."""
    blocks = _Blocks(config.network.port_base, with_workers=config.network.publish_blocks != "none")
    addresses = _addresses(config.network.subnet)
    health_address = next(addresses)
    nodes = tuple(
        _node(config, key, index, blocks=blocks, address=next(addresses))
        for key, settings in config.services.ray.nodes.items()
        for index in range(1, settings.replicas + 1)
    )
    external = _external(config, blocks)
    by_hostname = {node.hostname: node for node in nodes}
    return ClusterPlan(
        project=config.project.name,
        nodes=nodes,
        candidates=tuple(by_hostname[name] for name in config.nodes.head_whitelist if name in by_hostname),
        health_address=health_address,
        health_port=config.services.health.port,
        external=external,
        ports=range(config.network.port_base, blocks.next_port),
    )


def hostname_of(key: str, index: int = 1) -> str:
    """`ray-cpu` for the first node of key `cpu`, `ray-cpu-2` for the second."""
    return f"ray-{key}" if index == 1 else f"ray-{key}-{index}"


@cache
def official_image(gpu: bool = False) -> str:
    """The official image of exactly the Ray and Python that run here, as Ray Client refuses others."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ray = version("ray")
    except PackageNotFoundError:
        raise EnvironmentProblem("Ray is not installed in this environment", mend="run `uv sync`") from None
    return f"rayproject/ray:{ray}-py{sys.version_info.major}{sys.version_info.minor}{'-gpu' if gpu else ''}"


class _Blocks:
    """Hands out port blocks, one behind the other."""

    def __init__(self, first: int, with_workers: bool) -> None:
        self.next_port = first
        self._with_workers = with_workers

    def take(self, worker_ports: int, entry_ports: int = 0) -> tuple[PortBlock, tuple[int, ...]]:
        """A block, and the `entry_ports` last ports of it."""
        first = self.next_port
        workers_from = first + len(_FIXED_PORTS)
        count = worker_ports if self._with_workers else 0
        needed = len(_FIXED_PORTS) + count + entry_ports
        end = first + -(-needed // _BLOCK_UNIT) * _BLOCK_UNIT
        self.next_port = end
        workers = (workers_from, workers_from + count - 1) if count else None
        fixed = dict(zip(_FIXED_PORTS, range(first, workers_from), strict=True))
        return PortBlock(**fixed, workers=workers), tuple(range(end - entry_ports, end))


def _node(config: Config, key: str, index: int, *, blocks: _Blocks, address: str) -> NodePlan:
    ray = config.services.ray
    settings = ray.nodes[key]
    hostname = hostname_of(key, index)
    candidate = hostname in config.nodes.head_whitelist
    block, entry = _ports(settings, index, blocks, candidate)
    memory, shm_size, object_store_memory = sizes(settings)
    return NodePlan(
        key=key,
        index=index,
        hostname=hostname,
        container=f"{config.project.name}-{hostname}",
        candidate=candidate,
        entry=entry,
        block=block,
        address=address,
        cpus=settings.cpus,
        gpus=settings.gpus,
        memory=memory,
        shm_size=shm_size,
        object_store_memory=object_store_memory,
        image=_image(settings, ray, gpu=False),
        gpu_image=_image(settings, ray, gpu=True),
        env={**ray.env, **settings.env},
        transfer_roots=settings.transfer_roots or ray.transfer_roots,
    )


def _ports(settings: NodeSettings, index: int, blocks: _Blocks, candidate: bool) -> tuple[PortBlock, EntryPorts]:
    wanted = (settings.head_port, settings.dashboard_port, settings.client_port) if index == 1 else (None,) * 3
    room = _ENTRY_PORTS if None in wanted else 0
    block, reserved = blocks.take(_worker_ports(settings.cpus, settings.worker_ports), room)
    head, dashboard, client = (spare if port is None else port for port, spare in zip_longest(wanted, reserved))
    return block, EntryPorts(head, dashboard, client, published=candidate)


def _worker_ports(cpus: int, worker_ports: int | None = None) -> int:
    return max(8, 4 * cpus) if worker_ports is None else worker_ports


def sizes(settings: NodeSettings) -> tuple[int, int, int]:
    """Bytes of memory, /dev/shm and object store; the defaults in whole MiB.

    Ray falls back to disk for objects where /dev/shm is below 30% of memory, and an object store as large as
    /dev/shm does not fit it.
    """
    memory = parse_memory(settings.memory)
    shm_size = parse_memory(settings.shm_size) if settings.shm_size else _part(memory, 31)
    store = parse_memory(settings.object_store_memory) if settings.object_store_memory else _part(shm_size, 94)
    return memory, shm_size, store


def _part(size: int, percent: int) -> int:
    return max(1, size * percent // 100 // _MEBIBYTE) * _MEBIBYTE


def _image(settings: NodeSettings, ray: RaySettings, gpu: bool) -> str:
    return settings.image or (ray.gpu_image if gpu else ray.image) or official_image(gpu)


def _external(config: Config, blocks: _Blocks) -> tuple[ExternalPlan, ...]:
    test = config.cluster_test
    # Taken even where the test is off, so that turning it on moves nobody's ports.
    of_worker, _ = blocks.take(_worker_ports(test.worker.cpus))
    of_joiner, _ = blocks.take(_worker_ports(JOINER_CPUS))
    of_test = [ExternalPlan(test.worker.hostname, of_worker), ExternalPlan(test.joiner.hostname, of_joiner)]
    planned = of_test if test.enabled else []
    for hostname in config.network.external_nodes:
        block, _ = blocks.take(_worker_ports(_EXTERNAL_CPUS))
        planned.append(ExternalPlan(hostname, block))
    return tuple(planned)


def _addresses(subnet: str) -> Iterator[str]:
    """From the subnet's third address on; the first is the network's, the second the gateway's."""
    first = int(IPv4Network(subnet).network_address)
    return (str(IPv4Address(number % 2**32)) for number in range(first + 2, first + 2**32))
