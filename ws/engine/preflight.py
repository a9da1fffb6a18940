"""What would make containers fail to start, found before they are started: ports taken, subnets that clash."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from ws.engine.base import Project
from ws.engine.machine import Machine
from ws.engine.ports import covers, holder, is_free
from ws.engine.render import GATEWAY, address_of, published_on
from ws.errors import EnvironmentProblem

if TYPE_CHECKING:
    import docker

PROJECT_LABEL = "com.docker.compose.project"
_UNSEEN = "a process that this user may not see"


def check_compose(client: docker.DockerClient, project: Project, names: Sequence[str], machine: Machine) -> None:
    """Raise one EnvironmentProblem that tells every obstacle to starting these nodes."""
    obstacles = [*port_obstacles(client, project, names, machine), *subnet_obstacles(client, project)]
    if obstacles:
        raise EnvironmentProblem(
            "the cluster can't start on this machine",
            "\n".join(obstacle for obstacle, _ in obstacles),
            "; ".join(dict.fromkeys(mend for _, mend in obstacles)),
        )


def published_ports(project: Project, names: Sequence[str], machine: Machine) -> Iterator[tuple[str, int, str, str]]:
    """(address, port, what for, field of the config) of each port that these nodes and the health server publish."""
    config, plan = project.config, project.plan
    entries = [_concrete(address, machine) for address in published_on(config)]
    for address in entries:
        yield address, plan.health_port, "the health server", "services.health.port"
    for node in (plan.node(name) for name in names):
        purposes = {"head": "the head port", "dashboard": "the dashboard", "client": "Ray Client"}
        for kind, purpose in purposes.items() if node.candidate else ():
            port = getattr(node.entry, kind)
            path = "network.port_base" if port in plan.ports else f"services.ray.{node.key}.{kind}_port"
            for address in entries:
                yield address, port, f"{purpose} of {node.hostname}", path
        if config.network.publish_blocks != "none":
            address = _concrete(address_of(config, str(config.network.publish_blocks)), machine)
            for port in range(node.block.first, node.block.last + 1):
                yield address, port, f"the port block of {node.hostname}", "network.port_base"


def _concrete(address: str, machine: Machine) -> str:
    return machine.gateway if address == GATEWAY else address


def port_obstacles(
    client: docker.DockerClient, project: Project, names: Sequence[str], machine: Machine
) -> list[tuple[str, str]]:
    """(obstacle, mend) for the ports that somebody else holds; those of one block and one holder are told together.

    Ports of our own running containers don't count.
    """
    # One request for all, where the containers one by one may vanish while they are looked at.
    containers = client.api.containers()
    labelled = (c for c in containers if (c["Labels"] or {}).get(PROJECT_LABEL) == project.plan.project)
    running = {_name(container) for container in labelled}
    fresh = [name for name in names if project.plan.node(name).container not in running]
    health = project.plan.health_port if f"{project.plan.project}-health" in running else None
    wanted = (use for use in published_ports(project, fresh, machine) if use[1] != health)
    return taken_ports(containers, wanted)


def taken_ports(containers: Sequence[dict[str, Any]], wanted: Iterable[tuple[str, int, str, str]]) -> list[tuple[str, str]]:
    """(obstacle, mend) for those of the ports (as of `published_ports`) that are taken. `containers`: all that run."""
    seen: set[int] = set()
    taken: dict[tuple[str, ...], list[int]] = {}
    for address, port, purpose, path in wanted:
        if port in seen or is_free(address, port):
            continue
        seen.add(port)
        by = _container_publishing(containers, address, port) or holder(address, port) or _UNSEEN
        taken.setdefault((address, purpose, path, by), []).append(port)
    return [_taken(ports, *found) for found, ports in taken.items()]


def _taken(ports: Sequence[int], address: str, purpose: str, path: str, by: str) -> tuple[str, str]:
    which = f"port {ports[0]} on {address} ({purpose}) is"
    if len(ports) > 1:
        which = f"{len(ports)} ports from {ports[0]} to {ports[-1]} on {address} ({purpose}) are"
    return (
        f"{which} taken by {by}",
        f"stop that, or choose another port: {path} in config.yaml ({override(path)}=…)",
    )


def _container_publishing(containers: Sequence[dict[str, Any]], address: str, port: int) -> str | None:
    for container in containers:
        for binding in container["Ports"] or []:
            if binding.get("PublicPort") == port and covers(binding.get("IP", ""), address):
                return f"container {_name(container)}"
    return None


def _name(container: dict[str, Any]) -> str:
    return str(container["Names"][0]).removeprefix("/")


def override(path: str) -> str:
    """The environment variable that overrides a field of the config."""
    return "WS_" + path.upper().replace("-", "_").replace(".", "__")


def subnet_obstacles(client: docker.DockerClient, project: Project) -> list[tuple[str, str]]:
    """(obstacle, mend) for each network of this machine that overlaps ours."""
    return overlaps(client, str(project.config.network.subnet), "network.subnet", project.plan.project)


def overlaps(client: docker.DockerClient, subnet: str, path: str, compose_project: str) -> list[tuple[str, str]]:
    """(obstacle, mend) for each network of this machine that overlaps `subnet`, the config's field at `path`.

    Networks of the Compose project of that name don't count.
    """
    ours = ipaddress.ip_network(subnet)
    mend = f"choose another {path} in config.yaml ({override(path)}=…), or remove that network"
    obstacles = []
    bridges = set()
    for network in client.networks.list():
        labels = network.attrs.get("Labels") or {}
        own = labels.get(PROJECT_LABEL) == compose_project
        for entry in network.attrs["IPAM"]["Config"] or []:
            other = ipaddress.ip_network(entry.get("Subnet", "0.0.0.0/32"), strict=False)
            if other.version == 4:
                bridges.add(other)
            if not own and other.version == 4 and other.overlaps(ours):
                obstacles.append((f"{ours} overlaps {other} of the Docker network {network.name}", mend))
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family.name != "AF_INET" or not address.netmask:
                continue
            other = ipaddress.ip_network(f"{address.address}/{address.netmask}", strict=False)
            if other not in bridges and other.overlaps(ours):
                obstacles.append((f"{ours} overlaps {other} of this machine's interface {name}", mend))
    return obstacles
