"""What scenarios act upon: nodes by name, what is expected of them, and ways to look and to run programs there.

`ws test` gives the containers of a project and its test network; `ws verify` gives an address alone. Scenarios learn
nothing about engines from it, and are tested with a site that is made up.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ws.cluster.dashboard import Dashboard
from ws.process import Completed
from ws.verify.verdict import Link

if TYPE_CHECKING:
    from ws.verify.stability import StabilityWatch


@dataclass(frozen=True)
class Expected:
    """What the configuration says of one node, of the health server, or of a test container.

    `role`: health, candidate, worker (of the main network, not in the whitelist), external (a Ray node outside),
    client (outside, no Ray node), joiner (a Ray node outside, started for one scenario at a time).
    `ports`: number by name of what the node itself listens on (`node_manager`, `head`, …); worker ports are named
    `worker_31008`. `published`: `address:port` of all that Docker should publish for it, with the gateway's real address.
    `environment`: the variables that its container should have.
    """

    name: str
    container: str
    role: str
    network: str
    image: str = ""
    cpus: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    published: frozenset[str] = frozenset()
    entries: Mapping[str, int] = field(default_factory=dict)
    """A candidate's ways to the head: `head`, `dashboard`, `client`."""
    shm_size: int = 0

    @property
    def inside(self) -> bool:
        """Whether it lives in the main network."""
        return self.role in ("health", "candidate", "worker")

    @property
    def ray_node(self) -> bool:
        return self.role in ("candidate", "worker", "external", "joiner")


@dataclass(frozen=True)
class Seen:
    """What a container really is. `state` is Docker's word (running, paused, exited, …); `exit_code` is None while it runs.

    `addresses`: its address in each network, by the network's name; `started_at` in seconds since the epoch.
    """

    hostname: str
    state: str
    image: str
    environment: Mapping[str, str]
    published: frozenset[str]
    addresses: Mapping[str, str]
    extra_hosts: Mapping[str, str]
    shm_size: int
    exit_code: int | None = None
    restarts: int = 0
    started_at: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Head:
    """Who leads: hostname, its GCS address `host:port` inside the main network, and the lease's epoch (0: no lease)."""

    name: str
    address: str
    epoch: int


class Runs(Protocol):
    """Runs programs on nodes. Names are hostnames."""

    def spawn(self, node: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        """Start a program there, with pipes; it ends when its stdin is closed, if it is one of `ws.verify.programs`."""

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a program there to its end; raises CommandFailed where it does not end in time or can't be started."""


class Site(Runs, Protocol):
    """A cluster of ours under test."""

    project: str
    host_address: str
    """The host's address as the test network knows it (`extra_hosts`)."""
    whitelist: Sequence[str]
    expected: Mapping[str, Expected]
    links: list[Link]
    """Filled by the scenario that measures links; the report shows it."""
    watch: StabilityWatch
    """Follows every node's life during the run."""
    first_head: Head | None
    """Who led when the run began; set by the runner."""
    failed: bool
    """Whether some check has failed already; set by the runner. What only costs time then is not waited for."""

    def seen(self, name: str) -> Seen | None:
        """The container as it is now; None where there is none. `name` may be any key of `expected`."""

    def strangers(self) -> Mapping[str, Seen]:
        """Containers in the main or the test network that the configuration does not name, by container name."""

    def log(self, name: str) -> str:
        """The whole log of a node so far."""

    def head(self) -> Head | None:
        """Who leads now, from the health server's lease, else from the candidates."""

    def lease(self) -> Mapping[str, object] | None:
        """The lease as the health server gives it to a client with the token; None where it does not answer."""

    def dashboard(self) -> Dashboard:
        """The dashboard through the first running candidate's published entry."""

    def ws(self, arguments: Sequence[str], *, timeout: float) -> Completed:
        """Run `ws` with these arguments on this machine, towards the published entry for Ray Client, with the token.

        Raises StillRunning where it does not end within `timeout` seconds, EnvironmentProblem where there is no entry.
        """

    def start_joiner(self, environment: Mapping[str, str]) -> None:
        """Start the joiner with these variables on top of its own; one that runs is removed before."""

    def stop_joiner(self) -> None:
        """Remove the joiner, if there is one."""
