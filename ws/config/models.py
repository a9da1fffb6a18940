"""The sections of config.yaml as validated models.

A model knows what one value may be. What must fit together across sections (ports, subnets, memory) is in
`ws.config.checks`, and only `ws.config.load` applies both.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ws.config.fields import (
    AnyPort,
    BlockTarget,
    EntryTarget,
    Environment,
    Gpu,
    HeadAddress,
    HealthUrl,
    HostAddress,
    HostName,
    Image,
    Memory,
    NetworkName,
    NodeKey,
    Port,
    ProjectName,
    Roots,
    Seconds,
    Subnet,
    Volume,
    wrong,
)

DEFAULT_NODES: dict[str, dict[str, Any]] = {
    "cpu": {"head_port": 6379, "dashboard_port": 8265, "client_port": 10001},
    "gpu": {"head_port": 6380, "dashboard_port": 8266, "client_port": 10002, "gpus": 1},
}
"""What `cpu` and `gpu` start from, wherever they are named; both are there when a config names no node."""

HEALTH_NAME = "health"
"""Hostname of the health server."""

_MOST_NODE_KEYS = 64


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Project(Section):
    """The project as a whole."""

    name: ProjectName = Field(
        default="cslr-exp-platform", description="Compose project; containers are called <name>-<hostname>."
    )


class Host(Section):
    """The machine that the cluster runs on."""

    ip_address: HostAddress = Field(
        default="auto",
        description="Address by which containers of other networks reach this host; auto: the Docker bridge gateway.",
    )
    gpu: Gpu = Field(default="auto", description="Whether nodes get GPUs; auto: where a GPU runtime is found.")


class Network(Section):
    """The cluster's own network, and what of it is published on the host."""

    name: NetworkName = Field(default="ray-network", description="Name of the Docker network.")
    subnet: Subnet = Field(default="172.28.0.0/16", description="Its IPv4 subnet; must not overlap any other network.")
    port_base: Port = Field(default=31000, description="First port of the port blocks.")
    publish_entries: tuple[EntryTarget, ...] = Field(
        default=("loopback", "gateway"),
        max_length=16,
        description="Where the candidates' head, dashboard and client ports are published: loopback, gateway"
        " (host.ip_address) or an IPv4 address of this host.",
    )
    publish_blocks: BlockTarget = Field(
        default="gateway",
        description="Where the port blocks are published for external nodes: gateway, loopback, none or an"
        " IPv4 address of this host.",
    )
    external_nodes: tuple[HostName, ...] = Field(
        default=(),
        max_length=256,
        description="Hostnames of nodes outside this network that join the cluster.",
    )


class HealthService(Section):
    """How nodes talk to the health and lease server."""

    url: HealthUrl | None = Field(
        default=None,
        description="Where nodes find it, as http://host:port; null: at this cluster's own, on services.health.port.",
    )
    timeout: Seconds = Field(default=1.0, description="Seconds for one request.")
    max_retries: int = Field(default=3, strict=True, ge=1, le=100, description="Requests before it counts as down.")
    retry_interval: Seconds = Field(
        default=1.0, description="Seconds between two such requests; never more than a fifth of lease_ttl."
    )
    lease_ttl: Seconds = Field(
        default=10.0,
        description="Seconds that a lease lasts without renewal; more than max_retries * (timeout + retry_interval).",
    )


class Discovery(Section):
    """How long nodes look for each other."""

    discovery_timeout: Seconds = Field(default=30.0, description="Seconds that a candidate looks for a head.")
    wait_for_head: Seconds = Field(default=120.0, description="Seconds that a worker waits for a head, then exits.")


class Nodes(Section):
    """Who may lead, and how nodes find the head."""

    head_whitelist: tuple[HostName, ...] = Field(
        default=("ray-cpu", "ray-gpu"),
        min_length=1,
        max_length=100,
        description="Hostnames of the candidates, in the order in which they lead without a health server.",
    )
    head_address: HeadAddress | None = Field(
        default=None,
        description="host:port that nodes outside the whitelist join; null: whichever candidate leads.",
    )
    health_service: HealthService = Field(default_factory=HealthService, description="The health and lease server.")
    cluster: Discovery = Field(default_factory=Discovery, description="How long nodes look for each other.")


class NodeSettings(Section):
    """One node, or `replicas` of them; its hostname is ray-<key>, then ray-<key>-2, …"""

    cpus: int = Field(default=4, strict=True, ge=0, le=1024, description="Logical CPUs; may exceed the host's cores.")
    memory: Memory = Field(default="8g", description="Memory of the container, such as 8g.")
    shm_size: Memory | None = Field(default=None, description="Size of /dev/shm; null: 31% of memory.")
    object_store_memory: Memory | None = Field(default=None, description="Ray's object store; null: 94% of shm_size.")
    gpus: int = Field(default=0, strict=True, ge=0, le=64, description="GPUs, where the host has them.")
    head_port: Port | None = Field(default=None, description="GCS port when it leads; null: from its port block.")
    dashboard_port: Port | None = Field(default=None, description="Dashboard port; null: from its port block.")
    client_port: Port | None = Field(default=None, description="Ray Client port; null: from its port block.")
    replicas: int = Field(
        default=1, strict=True, ge=1, le=200, description="How many; the ports above are those of the first."
    )
    worker_ports: int | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=4096,
        description="Ports for worker processes; null: max(8, 4 * cpus).",
    )
    image: Image | None = Field(default=None, description="Image of this node alone; null: services.ray.image.")
    env: Environment = Field(default_factory=dict, description="More environment variables for this node.")
    transfer_roots: Roots = Field(
        default=(), description="Folders that this node serves and accepts files below; []: services.ray.transfer_roots."
    )


class RaySettings(BaseModel):
    """Settings that all nodes share; every other key is a node. No node named: cpu and gpu."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[NodeKey, NodeSettings] = Field(init=False)

    image: Image | None = Field(
        default=None,
        description="Image of the nodes; null: the official one of the installed Ray and Python.",
    )
    gpu_image: Image | None = Field(
        default=None, description="Image of nodes that get GPUs; null: the official one with -gpu."
    )
    env: Environment = Field(default_factory=dict, description="More environment variables for every node.")
    volumes: tuple[Volume, ...] = Field(
        default=(), max_length=64, description="Mounts of every node, as source:target[:mode]."
    )
    transfer_roots: Roots = Field(
        default=(),
        description="Folders that nodes serve and accept files below; a relative path starts at the first."
        " []: ~/data, and /data where the node has it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _start_from_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if all(key in cls.model_fields for key in data):
            data = {**data, "cpu": {}, "gpu": {}}
        return {key: _over_defaults(key, value) for key, value in data.items()}

    @model_validator(mode="after")
    def _bounded(self) -> RaySettings:
        if len(self.nodes) > _MOST_NODE_KEYS:
            raise wrong(f"names {len(self.nodes)} nodes", f"name at most {_MOST_NODE_KEYS}, and use replicas")
        return self

    @property
    def nodes(self) -> dict[str, NodeSettings]:
        """The nodes by key, in the order of the file."""
        return self.__pydantic_extra__


def _over_defaults(key: str, value: Any) -> Any:
    if key in DEFAULT_NODES and isinstance(value, dict):
        return {**DEFAULT_NODES[key], **value}
    return value


class HealthServer(Section):
    """The container of the health and lease server."""

    image: Image = Field(default="python:3.12-alpine", description="An image with Python 3.9 or later.")
    port: AnyPort = Field(default=8080, description="The port that it listens on.")


class Services(Section):
    """What runs."""

    health: HealthServer = Field(default_factory=HealthServer, description="The health and lease server.")
    ray: RaySettings = Field(default_factory=RaySettings, description="Shared settings, then the nodes by key.")


class TestNetwork(Section):
    """The isolated network of the cluster test."""

    __test__ = False  # not a test, in pytest's eyes

    name: NetworkName = Field(default="test-network", description="Name of the Docker network.")
    subnet: Subnet = Field(default="172.30.0.0/24", description="Its IPv4 subnet; must not overlap network.subnet.")


class ExternalWorker(Section):
    """A worker outside the main network."""

    hostname: HostName = Field(default="test-ray-worker", description="Its hostname.")
    cpus: int = Field(default=1, strict=True, ge=0, le=1024, description="Logical CPUs.")
    memory: Memory = Field(default="2g", description="Memory of the container.")


class ExternalJoiner(Section):
    """A second worker outside the main network, with one CPU, started for one check at a time."""

    hostname: HostName = Field(default="test-ray-joiner", description="Its hostname.")


class ExternalClient(Section):
    """A Ray Client outside the main network."""

    hostname: HostName = Field(default="test-ray-client", description="Its hostname.")


class ClusterTest(Section):
    """Containers in a network of their own, that join through the host."""

    enabled: bool = Field(default=True, strict=True, description="Whether the cluster expects the test's workers.")
    network: TestNetwork = Field(default_factory=TestNetwork, description="Their network.")
    worker: ExternalWorker = Field(default_factory=ExternalWorker, description="The worker.")
    joiner: ExternalJoiner = Field(
        default_factory=ExternalJoiner, description="A second worker, which joins by one entry after the other."
    )
    client: ExternalClient = Field(default_factory=ExternalClient, description="The client.")


class Config(Section):
    """config.yaml of the cluster."""

    project: Project = Field(default_factory=Project, description="The project as a whole.")
    host: Host = Field(default_factory=Host, description="The machine that the cluster runs on.")
    network: Network = Field(default_factory=Network, description="The cluster's own network.")
    nodes: Nodes = Field(default_factory=Nodes, description="Who may lead, and how nodes find the head.")
    services: Services = Field(default_factory=Services, description="What runs.")
    cluster_test: ClusterTest = Field(default_factory=ClusterTest, description="The test from an isolated network.")

    @property
    def health_url(self) -> str:
        """Where nodes in containers find the health server."""
        return self.nodes.health_service.url or f"http://{HEALTH_NAME}:{self.services.health.port}"
