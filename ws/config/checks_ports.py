"""Ports and where they are published: nothing twice on one address, nothing opened unseen."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ws.config.fields import EVERYWHERE, LOOPBACK, parse_ipv4
from ws.config.finding import Finding, Path
from ws.config.models import Config
from ws.config.plan import ClusterPlan, NodePlan
from ws.config.tree import RAY

_FIRST_PORT, _LAST_PORT = 1024, 65535
# Where Linux takes ports for outgoing connections from (net.ipv4.ip_local_port_range).
_FIRST_EPHEMERAL = 32768
# Of Docker's own bridge, unless its daemon is told otherwise: reached from this machine and its containers alone.
_USUAL_GATEWAY = "172.17.0.1"
_PORT_BASE: Path = ("network", "port_base")
_ENTRIES: Path = ("network", "publish_entries")
_BLOCKS: Path = ("network", "publish_blocks")
_ENTRY_FIELDS = ("head", "dashboard", "client")


@dataclass(frozen=True)
class _Use:
    """Ports from `first` to `last` of one container, published on `addresses` (empty: nowhere)."""

    first: int
    last: int
    container: str
    addresses: frozenset[str]
    what: str
    path: Path


def check_ports(config: Config, cluster: ClusterPlan) -> Iterator[Finding]:
    yield from _used_twice(config, cluster)
    yield from _range(cluster)
    yield from _targets(config)
    yield from _opened(config)
    yield from _unreachable(config)


def _used_twice(config: Config, cluster: ClusterPlan) -> Iterator[Finding]:
    # Ports of blocks never meet each other, so only those that somebody chose are compared, with all.
    chosen = list(_chosen(config, cluster))
    by_port: dict[int, list[_Use]] = defaultdict(list)
    for use in chosen:
        for other in by_port[use.first]:
            if _clash(use, other):
                yield _twice(use, other)
        by_port[use.first].append(use)
    blocks = list(_of_blocks(config, cluster))
    starts = [block.first for block in blocks]
    # Blocks of other sizes lie elsewhere.
    layout = tuple((*RAY, key, name) for key in config.services.ray.nodes for name in ("cpus", "replicas", "worker_ports"))
    for use in chosen:
        block = blocks[max(0, bisect_right(starts, use.first) - 1)]
        if block.first <= use.first <= block.last and _clash(use, block):
            yield _twice(use, block, layout)


def _twice(use: _Use, other: _Use, rests_on: tuple[Path, ...] = ()) -> Finding:
    address = _shared_address(use, other)
    where = f" on {address}" if address else f" in the container of {use.container}"
    what = f"port {use.first} is used twice{where}: {other.what} and {use.what}"
    mend = "give one of them another port"
    return Finding(use.path, what, mend, concerns=(other.path,), rests_on=rests_on)


def _clash(use: _Use, other: _Use) -> bool:
    return use.container == other.container or _shared_address(use, other) is not None


def _shared_address(use: _Use, other: _Use) -> str | None:
    if use.addresses and other.addresses and EVERYWHERE in use.addresses | other.addresses:
        return "all addresses"
    return min(use.addresses & other.addresses, default=None)


def _chosen(config: Config, cluster: ClusterPlan) -> Iterator[_Use]:
    entries = _addresses(config, config.network.publish_entries)
    port = cluster.health_port
    yield _Use(port, port, "health", entries, "services.health.port", ("services", "health", "port"))
    for node in cluster.nodes:
        for name in _ENTRY_FIELDS:
            if _from_block(config, node, name):
                continue
            port = getattr(node.entry, name)
            yield _Use(
                port,
                port,
                node.hostname,
                entries if node.entry.published else frozenset(),
                f"{name}_port of {node.hostname}",
                (*RAY, node.key, f"{name}_port"),
            )


def _of_blocks(config: Config, cluster: ClusterPlan) -> Iterator[_Use]:
    """By first port, in rising order; with the entry ports that come from a block."""
    target = config.network.publish_blocks
    addresses = _addresses(config, () if target == "none" else (target,))
    entries = _addresses(config, config.network.publish_entries)
    blocks = [(node.hostname, node.block) for node in cluster.nodes]
    blocks += [(node.hostname, node.block) for node in cluster.external]
    uses = [
        _Use(block.first, block.last, hostname, addresses, f"the port block of {hostname}", _PORT_BASE)
        for hostname, block in blocks
    ]
    for node in cluster.nodes:
        where = entries if node.entry.published else frozenset()
        for name in _ENTRY_FIELDS:
            if _from_block(config, node, name):
                port = getattr(node.entry, name)
                uses.append(_Use(port, port, node.hostname, where, f"{name}_port of {node.hostname}", _PORT_BASE))
    return iter(sorted(uses, key=lambda use: use.first))


def _from_block(config: Config, node: NodePlan, name: str) -> bool:
    return node.index > 1 or getattr(config.services.ray.nodes[node.key], f"{name}_port") is None


def _addresses(config: Config, targets: Iterable[str]) -> frozenset[str]:
    """Where ports are published. `gateway` stays a word where only the machine itself knows its address."""
    return frozenset(_address(config, target) for target in targets)


def _address(config: Config, target: str) -> str:
    gateway = config.host.ip_address
    return {"loopback": LOOPBACK, "gateway": "gateway" if gateway == "auto" else gateway}.get(target, target)


def _range(cluster: ClusterPlan) -> Iterator[Finding]:
    ports = cluster.ports
    blocks = f"the port blocks reach from {ports[0]} to {ports[-1]}"
    if ports[-1] > _LAST_PORT:
        what = f"{blocks}, above {_LAST_PORT}"
        yield Finding(_PORT_BASE, what, _lower(ports, _LAST_PORT), concerns=(RAY,))
    elif ports[-1] >= _FIRST_EPHEMERAL:
        what = f"{blocks}; from {_FIRST_EPHEMERAL} on, the host may take them for outgoing connections"
        yield Finding(_PORT_BASE, what, _lower(ports, _FIRST_EPHEMERAL - 1), warning=True, concerns=(RAY,))


def _lower(ports: range, last: int) -> str:
    highest = last + 1 - len(ports)
    return f"set network.port_base to {highest} or less" if highest >= _FIRST_PORT else "have fewer nodes or replicas"


def _targets(config: Config) -> Iterator[Finding]:
    entries = config.network.publish_entries
    for index, target in enumerate(entries):
        if target in entries[:index]:
            yield Finding((*_ENTRIES, index), f"{target} is there twice", "keep one of them")


def _opened(config: Config) -> Iterator[Finding]:
    entries = config.network.publish_entries
    targets = [((*_ENTRIES, index), target, "the entries") for index, target in enumerate(entries)]
    told: set[tuple[str, str]] = set()
    for path, target, what in (*targets, (_BLOCKS, config.network.publish_blocks, "the port blocks")):
        address = _address(config, target)
        who = _who_reaches(address)
        if who and (address, what) not in told:
            told.add((address, what))
            mend = "keep the token safe and the firewall closed to all others, or use loopback and the bridge's gateway"
            concerns = (("host", "ip_address"),) if target == "gateway" else ()
            opened = f"opens {what} on {address}: {who} can reach them now"
            yield Finding(path, opened, mend, warning=True, exposure=True, concerns=concerns)


def _who_reaches(target: str) -> str | None:
    address = parse_ipv4(target)
    if address is None or address.is_loopback or target == _USUAL_GATEWAY:
        return None
    if target == EVERYWHERE:
        return "every machine that reaches any address of this host"
    if address.is_global:
        return "every machine on the internet"
    return f"every machine that reaches {target}"


def _unreachable(config: Config) -> Iterator[Finding]:
    """External nodes would join and then be marked dead, as the head cannot reach them through closed blocks."""
    target, host = config.network.publish_blocks, config.host.ip_address
    if config.network.external_nodes and target in ("none", "loopback"):
        what = f"publish_blocks is {target}, so network.external_nodes cannot be part of the cluster"
        mend = "set network.publish_blocks to gateway or an address of this host"
        yield Finding(_BLOCKS, what, mend, warning=True, concerns=(("network", "external_nodes"),))
    if config.cluster_test.enabled and target not in ("gateway", EVERYWHERE, host):
        what = f"publish_blocks is {target}, so the worker of cluster_test cannot be part of the cluster"
        also = " and host.ip_address the same" if parse_ipv4(target) else " to gateway"
        mend = f"set network.publish_blocks{also}, or cluster_test.enabled to false"
        yield Finding(_BLOCKS, what, mend, warning=True, concerns=(("cluster_test", "enabled"),))
