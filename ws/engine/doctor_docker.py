"""Docker and Compose, and what this machine has in the way of the nodes' containers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.docker_client import DEFAULT_HOST, endpoint
from ws.engine.doctor_finding import Finding, bad, good, warn
from ws.engine.preflight import port_obstacles, subnet_obstacles
from ws.errors import EnvironmentProblem

_ISOLATING = 28


def engine(compose: ComposeEngine) -> Iterator[Finding]:
    """Docker Engine and Compose; where one is not ok, there are no containers."""
    try:
        version = compose.client.version()
    except EnvironmentProblem as problem:
        yield broken("Docker Engine", problem)
        return
    yield good("Docker Engine", f"{version['Version']}, API {version['ApiVersion']}")
    yield from _isolation(version["Version"])
    host = endpoint()
    if host.startswith(("tcp:", "ssh:", "http:", "https:")):
        # What the containers mount (the agent, the token) lies on this machine.
        place = "another machine's engine does not see this project's files, and no node would start"
        yield warn("Docker Engine", f"it is reached through the network: {place}", f"take the local one: {DEFAULT_HOST}")
    try:
        yield good("Compose", compose.compose_version())
    except EnvironmentProblem as problem:
        yield broken("Compose", problem)


def _isolation(version: str) -> Iterator[Finding]:
    """Engines before 28 let in packets for a published port whatever address it is published on."""
    major = re.match(r"\d+", version)
    if major and int(major.group()) < _ISOLATING:
        yield warn(
            "published ports",
            f"before Docker Engine {_ISOLATING}, hosts on this machine's network segment can reach ports that are published "
            "on loopback or the gateway",
            f"a firewall on this machine that drops what such hosts send to 127.0.0.0/8 and to Docker's networks, or Docker "
            f"Engine {_ISOLATING} or newer",
        )


def broken(subject: str, problem: EnvironmentProblem) -> Finding:
    return bad(subject, f"{problem.what}{f' ({problem.why})' if problem.why else ''}", problem.mend)


def ports(compose: ComposeEngine, project: Project) -> Iterator[Finding]:
    names = [node.hostname for node in project.plan.nodes]
    obstacles = port_obstacles(compose.client, project, names, compose.machine)
    for obstacle, mend in obstacles:
        yield bad("ports", obstacle, mend)
    if not obstacles:
        yield good("ports", "all that would be published are free, or ours")


def subnet(compose: ComposeEngine, project: Project) -> Iterator[Finding]:
    obstacles = subnet_obstacles(compose.client, project)
    for obstacle, mend in obstacles:
        yield bad("subnet", obstacle, mend)
    if not obstacles:
        yield good("subnet", f"{project.config.network.subnet} is free, or ours")
