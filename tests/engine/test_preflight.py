"""What is in the way of containers, on real Docker: ports with their holders, networks that overlap."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.types
import psutil
import pytest
from docker.models.containers import Container
from docker.models.networks import Network

from tests.projects import make_project
from ws.engine.base import Project
from ws.engine.machine import Machine
from ws.engine.preflight import PROJECT_LABEL, check_compose, override, port_obstacles, published_ports, subnet_obstacles
from ws.errors import EnvironmentProblem

MACHINE = Machine(cores=2, memory=16 * 2**30, gateway="127.0.0.3", gpu=False)
IMAGE = "python:3.12-alpine"
NAME = "d-test-preflight"


def project_at(folder: Path, base: int = 27000, subnet: str = "172.27.0.0/16") -> Project:
    """A project of its own; its entry ports are base+100 to base+106, its blocks begin at base."""
    return make_project(
        folder,
        f"""
        project: {{name: {NAME}}}
        network: {{name: {NAME}, subnet: {subnet}, port_base: {base}}}
        cluster_test: {{enabled: false}}
        services:
          health: {{port: {base + 100}, image: "{IMAGE}"}}
          ray:
            cpu: {{cpus: 1, head_port: {base + 101}, dashboard_port: {base + 102}, client_port: {base + 103}}}
            gpu: {{cpus: 1, head_port: {base + 104}, dashboard_port: {base + 105}, client_port: {base + 106}}}
        """,
    )


def names(project: Project) -> list[str]:
    return [node.hostname for node in project.plan.nodes]


@pytest.fixture
def publishing(docker_client: docker.DockerClient) -> Iterator[Container]:
    """A container named like our health server and its port published; without a project's label."""
    container = docker_client.containers.run(
        IMAGE, ["sleep", "60"], name=f"{NAME}-health", ports={"27100/tcp": ("127.0.0.1", 27100)}, detach=True, remove=True
    )
    yield container
    container.remove(force=True)


@pytest.fixture
def network(docker_client: docker.DockerClient) -> Iterator[Network]:
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="172.27.200.0/24")])
    network = docker_client.networks.create(f"{NAME}-overlap", ipam=pool, labels={PROJECT_LABEL: "d-test-other"})
    yield network
    network.remove()


def test_every_published_port_is_looked_at_on_its_address(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    ports = list(published_ports(project, names(project), MACHINE))
    found = {(address, port) for address, port, _, _ in ports}
    for port in range(27100, 27107):
        assert {("127.0.0.1", port), ("127.0.0.3", port)} <= found
    for node in project.plan.nodes:
        for port in range(node.block.first, node.block.last + 1):
            assert ("127.0.0.3", port) in found
    assert {path for *_, path in ports} >= {"services.health.port", "services.ray.gpu.client_port", "network.port_base"}


def test_the_field_behind_an_entry_from_a_block_is_the_blocks(tmp_path: Path) -> None:
    project = make_project(tmp_path, "services: {ray: {worker: {}}}\nnodes: {head_whitelist: [ray-worker]}")
    paths = {purpose: path for _, _, purpose, path in published_ports(project, ["ray-worker"], MACHINE)}
    assert paths["the head port of ray-worker"] == "network.port_base"


def test_an_override_is_the_fields_variable() -> None:
    assert override("services.ray.big-gpu.head_port") == "WS_SERVICES__RAY__BIG_GPU__HEAD_PORT"


@pytest.mark.docker
def test_a_free_machine_has_no_obstacles(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    project = project_at(tmp_path)
    check_compose(docker_client, project, names(project), MACHINE)
    assert port_obstacles(docker_client, project, names(project), MACHINE) == []


@pytest.mark.docker
def test_a_port_that_is_taken_names_its_process_and_the_field(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    project = project_at(tmp_path)
    with socket.create_server(("127.0.0.1", 27104)):
        ((obstacle, mend),) = port_obstacles(docker_client, project, names(project), MACHINE)
        assert port_obstacles(docker_client, project, ["ray-cpu"], MACHINE) == []
    assert obstacle == (
        f"port 27104 on 127.0.0.1 (the head port of ray-gpu) is taken by {psutil.Process().name()} (pid {os.getpid()})"
    )
    assert "services.ray.gpu.head_port" in mend
    assert "WS_SERVICES__RAY__GPU__HEAD_PORT=" in mend


@pytest.mark.docker
def test_a_taken_block_is_one_obstacle(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    project = project_at(tmp_path)
    servers = [socket.create_server(("127.0.0.3", port)) for port in (27001, 27002, 27005)]
    try:
        ((obstacle, mend),) = port_obstacles(docker_client, project, names(project), MACHINE)
    finally:
        for server in servers:
            server.close()
    assert obstacle.startswith("3 ports from 27001 to 27005 on 127.0.0.3 (the port block of ray-cpu) are taken by")
    assert "WS_NETWORK__PORT_BASE=" in mend


@pytest.mark.docker
def test_a_container_that_publishes_the_port_is_named(
    tmp_path: Path, docker_client: docker.DockerClient, publishing: Container
) -> None:
    project = project_at(tmp_path)
    ((obstacle, _),) = port_obstacles(docker_client, project, names(project), MACHINE)
    assert obstacle == f"port 27100 on 127.0.0.1 (the health server) is taken by container {publishing.name}"


@pytest.mark.docker
def test_ports_of_our_own_containers_are_no_obstacle(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    project = project_at(tmp_path)
    container = docker_client.containers.run(
        IMAGE,
        ["sleep", "60"],
        name=f"{NAME}-ray-cpu",
        labels={PROJECT_LABEL: NAME},
        ports={"27101/tcp": ("127.0.0.1", 27101)},
        detach=True,
        remove=True,
    )
    try:
        assert port_obstacles(docker_client, project, names(project), MACHINE) == []
    finally:
        container.remove(force=True)


@pytest.mark.docker
def test_a_docker_network_that_overlaps_is_named(
    tmp_path: Path, docker_client: docker.DockerClient, network: Network
) -> None:
    ((obstacle, mend),) = subnet_obstacles(docker_client, project_at(tmp_path))
    assert obstacle == f"172.27.0.0/16 overlaps 172.27.200.0/24 of the Docker network {network.name}"
    assert "WS_NETWORK__SUBNET=" in mend
    assert subnet_obstacles(docker_client, project_at(tmp_path, subnet="172.27.100.0/24")) == []


@pytest.mark.docker
def test_our_own_network_is_no_obstacle(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="172.27.201.0/24")])
    network = docker_client.networks.create(f"{NAME}-own", ipam=pool, labels={PROJECT_LABEL: NAME})
    try:
        assert subnet_obstacles(docker_client, project_at(tmp_path, subnet="172.27.201.0/24")) == []
    finally:
        network.remove()


@pytest.mark.docker
def test_an_interface_of_this_machine_that_overlaps_is_named(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    of_docker = [
        ipaddress.ip_network(entry["Subnet"])
        for network in docker_client.networks.list()
        for entry in network.attrs["IPAM"]["Config"] or []
    ]
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family == socket.AF_INET and ipaddress.ip_address(address.address).is_private and name != "lo":
                subnet = ipaddress.ip_network(f"{address.address}/24", strict=False)
                if not any(subnet.overlaps(other) for other in of_docker if other.version == 4):
                    obstacles = subnet_obstacles(docker_client, project_at(tmp_path, subnet=str(subnet)))
                    assert any(f"interface {name}" in obstacle for obstacle, _ in obstacles)
                    return
    pytest.skip("no interface but Docker's own")


@pytest.mark.docker
def test_all_obstacles_are_told_in_one_error(tmp_path: Path, docker_client: docker.DockerClient, network: Network) -> None:
    project = project_at(tmp_path)
    with socket.create_server(("127.0.0.1", 27102)), pytest.raises(EnvironmentProblem) as caught:
        check_compose(docker_client, project, names(project), MACHINE)
    assert "port 27102 on 127.0.0.1 (the dashboard of ray-cpu)" in str(caught.value.why)
    assert str(network.name) in str(caught.value.why)
    assert caught.value.exit_code == 4
