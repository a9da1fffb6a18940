"""What would make containers fail to start, found before they are started: ports taken, subnets that clash."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import psutil

from ws.engine.base import Project
from ws.engine.machine import Machine
from ws.engine.ports import holder, is_free
from ws.engine.render import GATEWAY, address_of
from ws.errors import EnvironmentProblem

if TYPE_CHECKING:
    import docker

PROJECT_LABEL = "com.docker.compose.project"


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
    entries = [_concrete(address_of(config, place), machine) for place in config.network.publish_entries]
    for address in entries:
        yield address, plan.health_port, "the health server", "services.health.port"
    for node in (plan.node(name) for name in names):
        where = f"services.ray.{node.key}"
        if node.candidate:
            for address in entries:
                yield address, node.entry.head, f"the head port of {node.hostname}", f"{where}.head_port"
                yield address, node.entry.dashboard, f"the dashboard of {node.hostname}", f"{where}.dashboard_port"
                yield address, node.entry.client, f"Ray Client of {node.hostname}", f"{where}.client_port"
        if config.network.publish_blocks != "none":
            address = _concrete(address_of(config, str(config.network.publish_blocks)), machine)
            for port in range(node.block.first, node.block.last + 1):
                yield address, port, f"the port block of {node.hostname}", "network.port_base"


def _concrete(address: str, machine: Machine) -> str:
    return machine.gateway if address == GATEWAY else address


def port_obstacles(
    client: docker.DockerClient, project: Project, names: Sequence[str], machine: Machine
) -> list[tuple[str, str]]:
    """(obstacle, mend) for each port that somebody else holds. Ports of our own running containers don't count."""
    running = {c.name for c in client.containers.list(filters={"label": f"{PROJECT_LABEL}={project.plan.project}"})}
    fresh = [name for name in names if project.plan.node(name).container not in running]
    taken: dict[int, tuple[str, str, str]] = {}
    for address, port, purpose, path in published_ports(project, fresh, machine):
        if port == project.plan.health_port and f"{project.plan.project}-health" in running:
            continue
        if port not in taken and not is_free(address, port):
            taken[port] = (address, purpose, path)
    return [_taken(client, port, *found) for port, found in taken.items()]


def _taken(client: docker.DockerClient, port: int, address: str, purpose: str, path: str) -> tuple[str, str]:
    by = _container_publishing(client, port) or holder(port) or "a process that this user may not see"
    return (
        f"port {port} on {address} ({purpose}) is taken by {by}",
        f"stop that, or choose another port: {path} in config.yaml ({override(path)}=…)",
    )


def override(path: str) -> str:
    """The environment variable that overrides a field of the config."""
    return "WS_" + path.upper().replace("-", "_").replace(".", "__")


def _container_publishing(client: docker.DockerClient, port: int) -> str | None:
    for container in client.containers.list():
        for bindings in (container.ports or {}).values():
            if any(int(binding["HostPort"]) == port for binding in bindings or []):
                return f"container {container.name}"
    return None


def subnet_obstacles(client: docker.DockerClient, project: Project) -> list[tuple[str, str]]:
    """(obstacle, mend) for each network of this machine that overlaps ours."""
    ours = ipaddress.ip_network(str(project.config.network.subnet))
    mend = f"choose another network.subnet in config.yaml ({override('network.subnet')}=…), or remove that network"
    obstacles = []
    bridges = set()
    for network in client.networks.list():
        labels = network.attrs.get("Labels") or {}
        own = labels.get(PROJECT_LABEL) == project.plan.project
        for entry in network.attrs["IPAM"]["Config"] or []:
            subnet = ipaddress.ip_network(entry.get("Subnet", "0.0.0.0/32"), strict=False)
            if subnet.version == 4:
                bridges.add(subnet)
            if not own and subnet.version == 4 and subnet.overlaps(ours):
                obstacles.append((f"{ours} overlaps {subnet} of the Docker network {network.name}", mend))
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family.name != "AF_INET" or not address.netmask:
                continue
            subnet = ipaddress.ip_network(f"{address.address}/{address.netmask}", strict=False)
            if subnet not in bridges and subnet.overlaps(ours):
                obstacles.append((f"{ours} overlaps {subnet} of this machine's interface {name}", mend))
    return obstacles
