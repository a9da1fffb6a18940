"""The local engine: whether nodes can run as processes of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from ws.engine.base import Project
from ws.engine.doctor_finding import Finding, bad, good, warn
from ws.engine.doctor_images import HERE
from ws.engine.local import LISTENING, LocalEngine
from ws.errors import EnvironmentProblem


def runs(project: Project) -> bool:
    """Whether local processes of this project are there now."""
    return any(state.state == "running" for state in LocalEngine().nodes(project))


def program(local: LocalEngine) -> Iterator[Finding]:
    """Ray's own command, that each node starts."""
    obstacle = local.available()
    if obstacle and not sys.platform.startswith("linux"):
        yield bad("Ray and Python", obstacle, "ws up --engine compose")
    elif obstacle:
        again = "pip install --force-reinstall, with the folder or file that ws was installed from"
        yield bad("Ray and Python", obstacle, f"uv sync; or, without uv: {again}")
    else:
        yield good("Ray and Python", f"Ray {HERE.ray} and Python {HERE.python}")


def exposed() -> Iterator[Finding]:
    """Who can reach local nodes; nothing in the config changes it."""
    yield warn("exposure", LISTENING, "a firewall on this machine, or containers: ws up --engine compose")


def ports(local: LocalEngine, project: Project) -> Iterator[Finding]:
    """The ports that nodes would listen on; those of our own running nodes don't count."""
    try:
        local.check(project, [node.hostname for node in project.plan.nodes])
    except EnvironmentProblem as problem:
        whys, mends = (problem.why or problem.what).splitlines(), (problem.mend or "").splitlines()
        for place, why in enumerate(whys):
            yield bad("ports", why, mends[min(place, len(mends) - 1)] if mends else None)
    else:
        yield good("ports", "all that the nodes would listen on are free, or ours")
