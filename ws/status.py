"""`ws status`: the cluster at a glance, from the engine, the lease, and the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ws.cluster.dashboard import Dashboard, RayNode
from ws.console import table
from ws.engine.base import Engine, NodeState, Project
from ws.engine.lookout import Lookout
from ws.errors import EnvironmentProblem
from ws.node.secret import Secret
from ws.wait import NotYet, WaitTimeout, wait_for

Status = dict[str, Any]


def gather(engine: Engine, project: Project) -> Status:
    """The status as a JSON-ready object: engine, nodes, leader, resources, entries, problems."""
    states = engine.nodes(project)
    found: Status = {"engine": engine.name, "nodes": [], "leader": None, "resources": {}, "entries": {}, "problems": []}
    if not states:
        return found
    lookout = Lookout(engine, project)
    leader = lookout.leader()
    found["entries"] = engine.entries(project)
    if leader:
        found["leader"] = vars(leader)
    else:
        found["problems"].append("no candidate leads")
    ray_nodes = _ask_dashboard(found, lookout.token())
    found["nodes"] = [_row(state, ray_nodes, leader.name if leader else None) for state in states]
    return found


def await_report(engine: Engine, project: Project, names: Sequence[str], timeout: float = 8.0) -> bool:
    """Wait until Ray's own status report counts the CPUs of these nodes; False where it does not in time.

    Ray makes the report that `ray status` shows about once a second, so it may lag behind nodes that work already.
    """
    wanted = sum(project.plan.node(name).cpus for name in names)
    dashboard = Dashboard(engine.entries(project).get("dashboard", ""), Lookout(engine, project).token())

    def counted() -> None:
        try:
            _, total = dashboard.usage().get("CPU", (0.0, 0.0))
        except EnvironmentProblem as problem:
            raise NotYet(problem.what) from None
        if total < wanted:
            raise NotYet(f"{total:g} of {wanted} CPUs")

    try:
        wait_for("Ray's status report", counted, timeout=timeout, interval=0.1)
    except WaitTimeout:
        return False
    return True


def _ask_dashboard(found: Status, token: Secret) -> dict[str, RayNode]:
    if "dashboard" not in found["entries"]:
        found["problems"].append("no candidate runs, so nothing leads to the head")
        return {}
    try:
        dashboard = Dashboard(found["entries"]["dashboard"], token)
        nodes = dashboard.nodes()
        usage = dashboard.usage()
    except EnvironmentProblem as problem:
        found["problems"].append(f"{problem.what}{f' ({problem.why})' if problem.why else ''}")
        return {}
    found["resources"] = {
        name: {"used": used, "total": total} for name, (used, total) in usage.items() if not name.startswith("node:")
    }
    # A node that came back has a dead record of the same name: the living one counts.
    return {node.name: node for node in sorted(nodes, key=lambda node: node.alive)}


def _row(state: NodeState, ray_nodes: dict[str, RayNode], leader: str | None) -> dict[str, Any]:
    ray = ray_nodes.get(state.name)
    role = "health" if state.name == "health" else "head" if state.name == leader else "worker"
    if role == "health":
        alive = "serving" if state.state == "running" else ""
    else:
        alive = "" if ray is None else "alive" if ray.alive else "dead"
    resources = ray.resources if ray and ray.alive else {}
    return {
        "name": state.name,
        "role": role,
        "state": state.state,
        "ray": alive,
        "cpus": resources.get("CPU"),
        "gpus": resources.get("GPU"),
        "memory": resources.get("memory"),
        "started_at": state.started_at,
        "restarts": state.restarts,
    }


def lines(found: Status) -> list[str]:
    """The status for people."""
    if not found["nodes"]:
        return ["nothing of this project is running"]
    rows = [
        [row["name"], row["role"], row["state"], row["ray"], _count(row["cpus"]), _count(row["gpus"]), _size(row["memory"])]
        for row in found["nodes"]
    ]
    out = [table(["NODE", "ROLE", "STATE", "RAY", "CPUS", "GPUS", "MEMORY"], rows), ""]
    leader = found["leader"]
    if leader:
        since = "" if leader["held_for"] is None else f" for {_duration(leader['held_for'])}"
        out.append(f"{leader['name']} leads{since} (epoch {leader['epoch']})")
    for name, use in sorted(found["resources"].items()):
        out.append(f"{name}: {_amount(name, use['used'])} of {_amount(name, use['total'])} used")
    out += ["", *(f"{kind:<10} {address}" for kind, address in found["entries"].items())]
    out += [f"! {problem}" for problem in found["problems"]]
    return out


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


_MEMORY = ("memory", "object_store_memory", "objectStoreMemory")


def _size(value: float | None) -> str:
    return "" if value is None else f"{value / 2**30:.1f} GiB"


def _amount(name: str, value: float) -> str:
    return _size(value) if name in _MEMORY else _count(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
