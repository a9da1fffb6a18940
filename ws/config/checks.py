"""What must fit together across sections: networks, names, memory, the lease."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from ws.config.checks_ports import check_ports
from ws.config.fields import looks_secret, shown
from ws.config.finding import Finding, Path, dotted
from ws.config.memory import format_memory
from ws.config.models import HEALTH_NAME, Config, NodeSettings
from ws.config.plan import ClusterPlan, hostname_of, sizes
from ws.config.tree import RAY, nearest

# Ray refuses to start below this (OBJECT_STORE_MINIMUM_MEMORY_BYTES of its ray_constants.py).
_LEAST_OBJECT_STORE = 75 * 1024**2
_SUBNET: Path = ("network", "subnet")
_TEST_SUBNET: Path = ("cluster_test", "network", "subnet")
_WHITELIST: Path = ("nodes", "head_whitelist")
_HEALTH: Path = ("nodes", "health_service")


def check(config: Config, cluster: ClusterPlan) -> list[Finding]:
    return [
        *_networks(config, cluster),
        *_hostnames(config, cluster),
        *_whitelist(config, cluster),
        *_memory(config),
        *_health(config),
        *_secrets(config),
        *check_ports(config, cluster),
    ]


def _networks(config: Config, cluster: ClusterPlan) -> Iterator[Finding]:
    main, test = config.network, config.cluster_test.network
    subnet, test_subnet = IPv4Network(main.subnet), IPv4Network(test.subnet)
    if subnet.overlaps(test_subnet):
        yield Finding(
            _TEST_SUBNET,
            f"{test_subnet} overlaps the subnet of the other network, {subnet}",
            "give one of network.subnet and cluster_test.network.subnet another range",
            concerns=(_SUBNET,),
        )
    if main.name == test.name:
        yield Finding(
            ("cluster_test", "network", "name"),
            f"{main.name} is the name of network, too",
            "give one of them another name",
            concerns=(("network", "name"),),
        )
    # The subnet's own address, its broadcast address, the gateway and the health server come on top.
    yield from _fits(_SUBNET, subnet, len(cluster.nodes) + 4, f"{len(cluster.nodes)} nodes")
    yield from _fits(_TEST_SUBNET, test_subnet, 6, "the test's workers and client")
    for path, network in ((_SUBNET, subnet), (_TEST_SUBNET, test_subnet)):
        if network.is_global:
            what = f"{network} belongs to the internet; this host and the containers cannot reach it any more"
            yield Finding(path, what, "use a private range such as 172.28.0.0/16", warning=True)


def _fits(path: Path, network: IPv4Network, needed: int, who: str) -> Iterator[Finding]:
    if network.num_addresses < needed:
        prefix = 32 - (needed - 1).bit_length()
        wider = IPv4Network(f"{network.network_address}/{prefix}", strict=False)
        what = f"{network} is too small for {who}"
        yield Finding(path, what, f"set {dotted(path)} to {wider} or a wider one", concerns=(RAY,))


def _hostnames(config: Config, cluster: ClusterPlan) -> Iterator[Finding]:
    test = config.cluster_test
    named: list[tuple[str, Path]] = [(HEALTH_NAME, ("services", "health"))]
    named += [(node.hostname, (*RAY, node.key)) for node in cluster.nodes]
    named.append((test.worker.hostname, ("cluster_test", "worker", "hostname")))
    named.append((test.joiner.hostname, ("cluster_test", "joiner", "hostname")))
    named.append((test.client.hostname, ("cluster_test", "client", "hostname")))
    external = config.network.external_nodes
    named += [(name, ("network", "external_nodes", index)) for index, name in enumerate(external)]
    seen: dict[str, Path] = {}
    for hostname, path in named:
        first = seen.setdefault(hostname.lower(), path)
        if first != path:
            what = f"the hostname {hostname} is used twice"
            yield Finding(path, what, "give one of them another name", concerns=(first,))


def _whitelist(config: Config, cluster: ClusterPlan) -> Iterator[Finding]:
    whitelist = config.nodes.head_whitelist
    ours = {node.hostname for node in cluster.nodes}
    keys = tuple((*RAY, key, "replicas") for key in config.services.ray.nodes)
    for index, name in enumerate(whitelist):
        if name in whitelist[:index]:
            yield Finding((*_WHITELIST, index), f"{name} is there twice", "keep one of them")
    strangers = [name for name in whitelist if name not in ours]
    # With an address to join, all nodes here may be workers of a head elsewhere.
    if len(strangers) == len(whitelist) and config.nodes.head_address is None:
        names = ", ".join(list(dict.fromkeys(hostname_of(key) for key in config.services.ray.nodes))[:5])
        yield Finding(
            _WHITELIST,
            "none of its names is a node's hostname, so no node here can lead",
            f"add one of {names}, or set nodes.head_address",
            rests_on=keys,
        )
        return
    known = ours | set(config.network.external_nodes)
    for index, name in enumerate(whitelist):
        if name not in known:
            yield _stranger((*_WHITELIST, index), name, ours)


def _stranger(path: Path, name: str, ours: set[str]) -> Finding:
    close = nearest(name, sorted(ours))
    meant = f"did you mean {close}? If it" if close else "if it"
    mend = f"{meant} lives on another host, add it to network.external_nodes"
    return Finding(path, f"{name} is no node of this configuration", mend, warning=True)


def _memory(config: Config) -> Iterator[Finding]:
    for key, settings in config.services.ray.nodes.items():
        yield from _memory_of(settings, (*RAY, key))


def _memory_of(settings: NodeSettings, node: Path) -> Iterator[Finding]:
    memory, shm_size, store = sizes(settings)
    of_memory, of_shm, of_store = (*node, "memory"), (*node, "shm_size"), (*node, "object_store_memory")
    if shm_size > memory:
        what = f"{format_memory(shm_size)} is more than memory, {format_memory(memory)}"
        yield Finding(of_shm, what, "lower shm_size or raise memory", concerns=(of_memory,))
    if store > shm_size:
        what = f"{format_memory(store)} does not fit shm_size, {format_memory(shm_size)}"
        mend = "lower object_store_memory or raise shm_size"
        yield Finding(of_store, what, mend, concerns=(of_shm, of_memory))
    if store < _LEAST_OBJECT_STORE:
        what = f"an object store of {format_memory(store)} is less than Ray's least, 75m"
        mend = "raise memory to 300m or more, or set shm_size and object_store_memory"
        yield Finding(of_store, what, mend, concerns=(of_shm, of_memory))


def _health(config: Config) -> Iterator[Finding]:
    health = config.nodes.health_service
    renewal = health.max_retries * (health.timeout + health.retry_interval)
    if health.lease_ttl <= renewal:
        yield Finding(
            (*_HEALTH, "lease_ttl"),
            f"a lease of {health.lease_ttl:g} s ends before its renewals were tried: max_retries * (timeout +"
            f" retry_interval) is {renewal:g} s",
            f"set lease_ttl above {renewal:g}, or lower the others",
            concerns=tuple((*_HEALTH, name) for name in ("max_retries", "timeout", "retry_interval")),
        )
    host, _, port = config.health_url.removeprefix("http://").rstrip("/").rpartition(":")
    if host == HEALTH_NAME and int(port) != config.services.health.port:
        yield Finding(
            (*_HEALTH, "url"),
            f"its port {port} is not that of services.health.port, {config.services.health.port}",
            "leave url out, and it follows the port",
            concerns=(("services", "health", "port"),),
        )


def _secrets(config: Config) -> Iterator[Finding]:
    ray = config.services.ray
    places = [((*RAY, "env"), ray.env)]
    places += [((*RAY, key, "env"), settings.env) for key, settings in ray.nodes.items()]
    for path, env in places:
        for name in filter(looks_secret, env):
            what = f"{shown(name)} looks like a secret, and rendered files show it"
            yield Finding((*path, name), what, "mount it as a file through services.ray.volumes", warning=True)
