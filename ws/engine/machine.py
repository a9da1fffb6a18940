"""What belongs to one machine and so stays out of the rendered files: `.env`.

Compose reads `.env` by itself, so `docker compose up` alone runs with the same values as `ws up`. Lines of the user's own
are kept; ours stand between two marks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ws.engine.base import Project
from ws.engine.environment import testbed_sizes, testbed_variable, variable
from ws.engine.render import COMPOSE_FILE, GPU_FILE
from ws.resources import node_folder, packaged, programs_folder

_BEGIN, _END = "# >>> written by ws", "# <<< written by ws"
_OURS = re.compile(r"(WS_[A-Z0-9_]+|COMPOSE_FILE)=")
MEMORY_SHARE = 0.95


@dataclass(frozen=True)
class Machine:
    """A Docker host: its cores, memory (bytes), bridge gateway, and whether containers can have GPUs there."""

    cores: int
    memory: int
    gateway: str
    gpu: bool


def environment(project: Project, machine: Machine) -> dict[str, str]:
    """The variables of `.env` for this project on this machine."""
    plan = project.plan
    wanted = sum(node.memory for node in plan.nodes)
    scale = min(1.0, machine.memory * MEMORY_SHARE / wanted)
    values = {
        "WS_CORES": str(machine.cores),
        "WS_GATEWAY": machine.gateway,
        "WS_NODE_DIR": _shown(node_folder(), project.folder),
        "WS_PROGRAMS_DIR": _shown(programs_folder(), project.folder),
        "WS_TEMPLATE_DIR": _shown(_template_folder(project.folder), project.folder),
        "WS_TOKEN_FILE": _shown(project.token_path, project.folder),
    }
    if wants_gpu(project, machine):
        values["COMPOSE_FILE"] = f"{COMPOSE_FILE}:{GPU_FILE}"
    for node in plan.nodes:
        if node.cpus < machine.cores:  # Docker refuses a limit above the host's cores (FACTS 10)
            values[variable(node.key, "CPU_LIMIT")] = str(node.cpus)
        if scale < 1:
            values[variable(node.key, "MEMORY")] = str(int(node.memory * scale))
            values[variable(node.key, "SHM")] = str(int(node.shm_size * scale))
            values[variable(node.key, "STORE")] = str(int(node.object_store_memory * scale))
    if project.config.cluster_test.enabled:
        values |= _of_test(project, machine, scale)
    return values


def _of_test(project: Project, machine: Machine, scale: float) -> dict[str, str]:
    """The limits of the cluster test's workers; the cluster's nodes keep their shares of memory for themselves."""
    cpus = project.config.cluster_test.worker.cpus
    limit = {testbed_variable("CPU_LIMIT"): str(cpus)} if 0 < cpus < machine.cores else {}
    if scale == 1:
        return limit
    sizes = zip(("MEMORY", "SHM", "STORE"), testbed_sizes(project.config), strict=True)
    return limit | {testbed_variable(what): str(int(size * scale)) for what, size in sizes}


def in_effect(project: Project, machine: Machine) -> dict[str, str]:
    """The variables that Compose fills in: the user's own lines of `.env`, ours, and the shell's, which win."""
    path = project.folder / ".env"
    text = _without_ours(path.read_text(encoding="utf-8")) if path.exists() else ""
    lines = (line.removeprefix("export ").partition("=") for line in text.splitlines() if not line.startswith("#"))
    own = {name.strip(): value.strip().strip("'\"") for name, _, value in lines}
    return {**own, **environment(project, machine), **os.environ}


def wants_gpu(project: Project, machine: Machine) -> bool:
    """Whether nodes get GPUs here: asked for by some node, and either forced by `host.gpu` or found."""
    wanted = project.config.host.gpu
    return any(node.gpus for node in project.plan.nodes) and (machine.gpu if wanted == "auto" else bool(wanted))


def warnings(project: Project, machine: Machine) -> list[str]:
    """What a user should know about this machine before the nodes start there."""
    found = []
    gpu_nodes = ", ".join(node.hostname for node in project.plan.nodes if node.gpus)
    if gpu_nodes and not wants_gpu(project, machine):
        found.append(f"no GPU runtime on this host: {gpu_nodes} comes up as a plain node with 0 GPUs")
    wanted = sum(node.memory for node in project.plan.nodes)
    if wanted > machine.memory * MEMORY_SHARE:
        found.append(
            f"the nodes want {wanted / 2**30:.0f} GiB of memory, this host has {machine.memory / 2**30:.0f} GiB: "
            "each gets its share of that"
        )
    return found


def write(path: Path, values: Mapping[str, str]) -> bool:
    """Write our variables into the `.env` file at `path`; returns whether anything changed."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = _without_ours(before)
    ours = "\n".join([_BEGIN, *(f"{name}={_quoted(value)}" for name, value in values.items()), _END]) + "\n"
    after = f"{kept}\n{ours}" if kept else ours
    if after == before:
        return False
    path.write_text(after, encoding="utf-8")
    return True


def _quoted(value: str) -> str:
    """A value as Compose reads it back, whatever a path may hold."""
    if not re.search(r"[^\w./:@%+,=~-]", value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = re.sub(r'(["\\$])', r"\\\1", value)
    return f'"{escaped}"'


def _without_ours(text: str) -> str:
    """The user's lines: also what is no variable of ours between the marks, or behind one whose other half is lost."""
    kept, inside = [], False
    for line in text.splitlines():
        if line in (_BEGIN, _END):
            inside = line == _BEGIN
        elif not (inside and _OURS.match(line)):
            kept.append(line)
    return "\n".join(kept).strip("\n") + "\n" if any(kept) else ""


def _template_folder(folder: Path) -> Path:
    own = folder / "template"
    return own if (own / "ray-ep.sh").exists() else packaged("template")


def _shown(path: Path, folder: Path) -> str:
    """The path as `.env` names it: relative to the project folder where it lies below it."""
    try:
        return f".{os.sep}{path.resolve().relative_to(folder.resolve())}"
    except ValueError:
        return str(path.resolve())
