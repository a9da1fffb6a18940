"""What a container really is, in plain data: for checks that compare it with what the config says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ws.engine.compose import node_state
from ws.engine.testbed_docker import translated

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container


@dataclass(frozen=True)
class Inspected:
    """A container. `state` is Docker's word (running, paused, exited, …); `exit_code` is None while it runs.

    `published`: `address:port` of this host; `addresses`: its own by network name; `started_at`: seconds since the epoch.
    """

    hostname: str
    state: str
    image: str
    environment: Mapping[str, str]
    published: frozenset[str]
    addresses: Mapping[str, str]
    extra_hosts: Mapping[str, str]
    shm_size: int
    exit_code: int | None
    restarts: int
    started_at: float | None
    detail: str


@translated()
def inspect(client: docker.DockerClient, container: str) -> Inspected | None:
    """The container of that name; None where there is none. Raises EnvironmentProblem."""
    from docker.errors import NotFound

    try:
        return inspected(client.containers.get(container))
    except NotFound:
        return None


def inspected(container: Container) -> Inspected:
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    state = node_state(container, "")
    return Inspected(
        hostname=config["Hostname"],
        state=state.state,
        image=config["Image"],
        environment=dict(entry.split("=", 1) for entry in config["Env"] or [] if "=" in entry),
        published=frozenset(_published(container.attrs)),
        addresses={name: at["IPAddress"] for name, at in container.attrs["NetworkSettings"]["Networks"].items()},
        extra_hosts=dict(entry.split(":", 1) for entry in host["ExtraHosts"] or []),
        shm_size=host["ShmSize"],
        exit_code=state.exit_code,
        restarts=state.restarts,
        started_at=state.started_at,
        detail=state.detail,
    )


def _published(attrs: dict[str, Any]) -> set[str]:
    """Where Docker listens for it now; where it does not run, where it would."""
    ports = attrs["NetworkSettings"]["Ports"] or attrs["HostConfig"]["PortBindings"] or {}
    found = {(binding["HostIp"], binding["HostPort"]) for bindings in ports.values() for binding in bindings or []}
    # What is open on all addresses is listed for IPv4 and for IPv6.
    return {f"{address or '0.0.0.0'}:{port}" for address, port in found if address != "::" or ("0.0.0.0", port) not in found}
