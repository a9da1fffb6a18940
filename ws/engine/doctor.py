"""`ws doctor`: what would keep a cluster from working on this machine, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import psutil
from docker.errors import DockerException

from ws.engine import doctor_docker, doctor_images, doctor_local, doctor_machine, doctor_project
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.doctor_finding import Finding, bad, good, warn
from ws.engine.local import LocalEngine
from ws.engine.local_node import machine_memory
from ws.errors import Problem, WsError

__all__ = ["Finding", "examine"]

# A daemon that hangs is a finding, too.
_DOCKER_TIMEOUT = 5
_INSTEAD = "`ws up --engine local` runs processes of this machine instead"

Check = Callable[[], Iterable[Finding]]


def examine(
    project: Project, engine: str, warnings: Sequence[Problem] = (), exposure: Sequence[Problem] = ()
) -> list[Finding]:
    """Look at everything that `ws up --engine <engine>` rests on; `engine` is auto, compose or local.

    `warnings` and `exposure` are those that loading the config gave (`ws.config.load.Loaded`).
    Nothing that is missing raises: it is a finding. Nothing is changed, and nothing left behind.
    """
    compose = ComposeEngine(timeout=_DOCKER_TIMEOUT)
    found = [] if engine == "local" else _look("Docker Engine", lambda: doctor_docker.engine(compose))
    obstacle = next((finding for finding in found if finding.verdict == "fail"), None)
    if engine == "auto":
        # Without containers there are local processes.
        found = [replace(finding, verdict="warn") if finding.verdict == "fail" else finding for finding in found]
    local_runs = engine == "auto" and doctor_local.runs(project)
    if engine == "compose" and obstacle:
        checks: list[tuple[str, Check]] = []
    elif engine == "local" or obstacle or local_runs:
        checks = _of_processes(project)
    else:
        checks = _of_containers(compose, project, exposure)
    found.append(_choice(engine, obstacle, local_runs))
    odd = [warning for warning in warnings if warning not in exposure]
    for subject, check in [*checks, *_of_project(project, odd)]:
        found += _look(subject, check)
    return found


def _choice(engine: str, obstacle: Finding | None, local_runs: bool) -> Finding:
    """The engine that `ws up` takes, or would take."""
    if engine == "local":
        return good("engine", "local processes, as asked")
    if engine == "compose":
        return bad("engine", "no containers here", _INSTEAD) if obstacle else good("engine", "containers, as asked")
    if local_runs:
        return good("engine", "local processes run now; `ws down` ends them")
    return good("engine", "auto takes local processes" if obstacle else "auto takes containers (compose)")


def _of_containers(compose: ComposeEngine, project: Project, exposure: Sequence[Problem]) -> list[tuple[str, Check]]:
    plan = project.plan
    return [
        ("images", lambda: doctor_images.examine(compose, project)),
        ("ports", lambda: doctor_docker.ports(compose, project)),
        ("subnet", lambda: doctor_docker.subnet(compose, project)),
        ("memory", lambda: doctor_machine.memory(plan, compose.machine.memory)),
        ("shared memory", lambda: doctor_machine.shm_of_containers(plan)),
        ("disk", lambda: doctor_machine.docker_disk(compose.client.info(), doctor_images.any_missing(compose, project))),
        ("GPU", lambda: doctor_machine.gpu(project, compose.machine)),
        ("rendered files", lambda: doctor_project.rendered(project)),
        ("exposure", lambda: doctor_project.exposed(exposure)),
    ]


def _of_processes(project: Project) -> list[tuple[str, Check]]:
    local, plan = LocalEngine(), project.plan
    return [
        ("Ray and Python", lambda: doctor_local.program(local)),
        ("ports", lambda: doctor_local.ports(local, project)),
        ("memory", lambda: doctor_machine.memory(plan, machine_memory())),
        ("shared memory", lambda: doctor_machine.shm_of_machine(plan)),
        ("disk", doctor_machine.temporary_disk),
        ("exposure", doctor_local.exposed),
    ]


def _of_project(project: Project, odd: Sequence[Problem]) -> list[tuple[str, Check]]:
    return [("config", lambda: doctor_project.odd(odd)), ("token", lambda: doctor_project.token(project))]


def _look(subject: str, check: Check) -> list[Finding]:
    """What a check finds; one that can't look has found that."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except WsError as error:
        found.append(bad(subject, f"{error.what}{f' ({error.why})' if error.why else ''}", error.mend))
    except (OSError, DockerException, psutil.Error) as error:
        found.append(
            warn(subject, f"can't be looked at: {error}", "ws doctor once more; where it stays, see what that says")
        )
    return found
