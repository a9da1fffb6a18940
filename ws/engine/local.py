"""The local engine: nodes are processes of this machine, found by a mark in their environment.

Logs and exit codes lie in `<project>/.ws/local`; what runs, and with which ports, is read from the
processes alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ws.config.plan import ClusterPlan
from ws.engine import machine as machines
from ws.engine.base import NodeState, Project
from ws.engine.init import write_schema
from ws.engine.local_node import HEALTH, SHIFT_MARK, Environments, addresses, is_own, this_machine, wanted_ports
from ws.engine.local_ports import LOOPBACK, choose_health_port, choose_shift, refuse_taken, shifted
from ws.engine.local_process import (
    CLUSTER_MARK,
    NodeProcesses,
    ask_to_end,
    find_nodes,
    is_alive,
    kill,
    other_clusters,
    spawn,
)
from ws.engine.local_state import LocalState, cluster_id, read_lines, skip_to_tail
from ws.errors import EnvironmentProblem, UsageError
from ws.node.settings import Candidate
from ws.resources import node_folder

_GRACE = 8.0
LISTENING = (
    "Ray's GCS and raylets listen on every address of this machine, whatever they are told: the token alone keeps others "
    "out, and the traffic is not encrypted"
)

Command = Callable[[str], Sequence[str]]
"""From the name of a node, or `health`, to the command line of its agent."""


def agent_command(name: str) -> list[str]:
    program = HEALTH if name == HEALTH else "agent"
    return [sys.executable, "-u", LocalEngine.agent_program, program]


class LocalEngine:
    """Runs nodes as processes of this machine, each on a loopback address of its own.

    `command` gives an agent's command line, `environ` what the agents inherit, `grace` the seconds that they
    have to end by themselves.
    """

    name = "local"
    agent_program = str(node_folder() / "__main__.py")

    def __init__(
        self, command: Command = agent_command, environ: Mapping[str, str] = os.environ, grace: float = _GRACE
    ) -> None:
        self._command = command
        self._environ = environ
        self._grace = grace

    def available(self) -> str | None:
        if not sys.platform.startswith("linux"):
            return "the local engine needs Linux, where each node has a loopback address of its own"
        if not (Path(sys.executable).parent / "ray").exists():
            return f"there is no `ray` beside {sys.executable}"
        return None

    # Acting

    def prepare(self, project: Project) -> list[str]:
        LocalState(project).prepare()
        write_schema(project.folder)
        return []

    def warnings(self, project: Project) -> list[str]:
        return [*machines.warnings(project, this_machine()), LISTENING]

    def missing_images(self, project: Project, names: Sequence[str]) -> list[str]:
        return []

    def pull(self, image: str) -> None:
        """Never asked for: processes need no image."""

    def check(self, project: Project, names: Sequence[str]) -> None:
        living = _find(project)
        plan, _ = _located(project, living)
        _check_ports(plan, [name for name in (HEALTH, *names) if not _runs(living, name)])

    def up(self, project: Project, names: Sequence[str]) -> None:
        state = LocalState(project)
        state.prepare()
        with state.locked():
            living = _find(project)
            missing = [name for name in dict.fromkeys((HEALTH, *names)) if not _runs(living, name)]
            self._end_remains(project, missing, living)
            plan, shift = _located(project, living)
            _check_ports(plan, missing)
            environments = Environments(project, plan, shift, self._environ)
            for name in missing:
                spawn(
                    self._command(name),
                    environments.of(name),
                    folder=project.folder,
                    log=state.log(name),
                    record=state.record(name),
                )

    def _end_remains(self, project: Project, names: Sequence[str], living: Mapping[str, NodeProcesses]) -> None:
        """End Ray processes whose agent has died: they hold the node's ports."""
        remains = [process for name in names if name in living for process in living[name].others]
        failures = kill(cluster_id(project.folder), remains, names) if remains else []
        if failures:
            raise EnvironmentProblem("an earlier run has left processes that do not end", "\n".join(failures))

    def down(self, project: Project) -> list[str]:
        if self._environ.get(CLUSTER_MARK) == cluster_id(project.folder):
            raise UsageError("this command runs on a node of the cluster that it is to end", mend="run it from outside")
        state = LocalState(project)
        with state.locked():
            nodes = _find(project).values()
            ask_to_end(nodes, self._grace)
            known = [process for node in nodes for process in node.all]
            return [*kill(cluster_id(project.folder), known), *state.remove()]

    # Looking

    def nodes(self, project: Project) -> list[NodeState]:
        state = LocalState(project)
        living = _find(project)
        order = {name: place for place, name in enumerate([HEALTH, *addresses(project.plan)])}
        names = sorted({*living, *state.recorded()}, key=lambda name: (order.get(name, len(order)), name))
        return [_look_at(name, living.get(name), state) for name in names]

    def logs(self, project: Project, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        state = LocalState(project)
        if name not in state.logged():
            known = ", ".join(state.logged()) or "none"
            raise EnvironmentProblem(f"there is no log of {name!r}", f"there are those of: {known}")
        with state.log(name).open("rb") as file:
            skip_to_tail(file, tail)
            yield from read_lines(file, _watch(project, name) if follow else lambda: False)

    def exec_command(self, project: Project, name: str, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        return list(argv)

    def exec_environment(self, project: Project, name: str) -> dict[str, str]:
        living = _find(project)
        if not _runs(living, name):
            raise EnvironmentProblem(f"{name} does not run here", mend="`ws ps` shows what there is")
        environ = living[name].environ
        variables = {variable: value for variable, value in environ.items() if is_own(variable) or variable == "PATH"}
        entry = _head_entry(project, name, living) or environ.get("HEAD_ADDRESS_CFG")
        return {**variables, "RAY_ADDRESS": entry} if entry else variables

    def health_url(self, project: Project) -> str:
        port = _known_health_port(_find(project))
        return f"http://{LOOPBACK}:{project.plan.health_port if port is None else port}"

    def entries(self, project: Project) -> dict[str, str]:
        """Those of the first candidate that runs; every candidate leads to the head."""
        candidates = _candidates(project, _find(project))
        if not candidates:
            return {HEALTH: self.health_url(project)}
        return {
            "dashboard": f"http://{LOOPBACK}:{candidates[0].dashboard_port}",
            "client": f"ray://{LOOPBACK}:{candidates[0].client_port}",
            "gcs": candidates[0].head_address,
            HEALTH: self.health_url(project),
        }


def _find(project: Project) -> dict[str, NodeProcesses]:
    return find_nodes(cluster_id(project.folder))


def _runs(living: Mapping[str, NodeProcesses], name: str) -> bool:
    return name in living and living[name].running


def _located(project: Project, living: Mapping[str, NodeProcesses]) -> tuple[ClusterPlan, int]:
    """The plan with the ports that hold here: those of the nodes that run, else the first that are free."""
    known = [node.environ[SHIFT_MARK] for node in living.values() if SHIFT_MARK in node.environ]
    reserved = _planned_elsewhere(project)
    shift = int(known[0]) if known else choose_shift(project.plan, reserved)
    plan = shifted(project.plan, shift)
    port = _known_health_port(living)
    return replace(plan, health_port=choose_health_port(plan, reserved) if port is None else port), shift


def _known_health_port(living: Mapping[str, NodeProcesses]) -> int | None:
    """The health server's port as those that run were told it; None where nothing runs."""
    urls = (node.environ.get("HEALTH_URL", "") for node in living.values())
    ports = (url.rpartition(":")[2] for url in urls)
    return next((int(port) for port in ports if port.isdigit()), None)


def _planned_elsewhere(project: Project) -> set[int]:
    """Ports of blocks and of health servers that other clusters have chosen, listened on yet or not."""
    environs = other_clusters(cluster_id(project.folder))
    parts = [part.partition("=")[2] for environ in environs for part in environ.get("WS_NODE_PORTS", "").split(",")]
    parts += [environ.get("HEALTH_URL", "").rpartition(":")[2] for environ in environs]
    return {int(port) for port in parts if port.isdigit()}


def _check_ports(plan: ClusterPlan, names: Iterable[str]) -> None:
    refuse_taken(wanted for name in names for wanted in wanted_ports(plan, name))


def _candidates(project: Project, living: Mapping[str, NodeProcesses]) -> list[Candidate]:
    """As the nodes that run were told, whatever the config says by now; the running ones first."""
    told = [node.environ["WS_CANDIDATES"] for node in living.values() if "WS_CANDIDATES" in node.environ]
    text = told[0] if told else project.plan.candidates_json(addresses(project.plan))
    candidates = [Candidate(**entry) for entry in json.loads(text)]
    return sorted(candidates, key=lambda candidate: not _runs(living, candidate.name))


def _head_entry(project: Project, name: str, living: Mapping[str, NodeProcesses]) -> str | None:
    """The address of the GCS as a node sees it: a candidate's own, else that of a candidate that runs."""
    running = [candidate for candidate in _candidates(project, living) if _runs(living, candidate.name)]
    running.sort(key=lambda candidate: candidate.name != name)
    return running[0].head_address if running else None


def _look_at(name: str, node: NodeProcesses | None, state: LocalState) -> NodeState:
    if node and node.running:
        started_at = min(process.create_time() for process in node.own)
        return NodeState(name, "running", started_at=started_at, detail=f"pid {(node.agents or node.own)[0].pid}")
    left = f"{len(node.others)} processes of it still run" if node else ""
    return NodeState(name, "exited", exit_code=state.exit_code(name), detail=left)


def _watch(project: Project, name: str) -> Callable[[], bool]:
    """Tells whether the node still runs, by the processes that it has now."""
    node = _find(project).get(name)
    own = node.own if node else []
    return lambda: any(is_alive(process) for process in own)
