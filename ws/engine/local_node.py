"""What the local engine tells a node or the health server: addresses, ports, shares of this machine.

Each node has a loopback address of its own, because Ray takes 127.0.0.1 for the address of the machine in its
network, and because the nodes would otherwise be one to Ray.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from ws.config.plan import ClusterPlan, NodePlan
from ws.engine.base import Project
from ws.engine.environment import node_environment
from ws.engine.local_ports import EVERYWHERE, LOOPBACK, Wanted
from ws.engine.local_process import CLUSTER_MARK, NODE_MARK
from ws.engine.local_state import LocalState, cluster_id, temp_folder
from ws.engine.machine import Machine

HEALTH = "health"
SHIFT_MARK = "WS_LOCAL_PORT_SHIFT"
_PER_SUBNET = 250
_SHARE = 0.95
# Ray refuses to start with less.
_SMALLEST_STORE = 75 * 1024**2
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108, measured only
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_OWN_PREFIXES = ("RAY_", "WS_", "HEAD_", "HEALTH_")
_OWN_NAMES = ("LEASE_TTL", "DISCOVERY_TIMEOUT", "WAIT_FOR_HEAD")
_MARKS = (CLUSTER_MARK, NODE_MARK, SHIFT_MARK)


def addresses(plan: ClusterPlan) -> dict[str, str]:
    """The loopback address of each node: 127.0.1.1 to 127.0.1.250, then 127.0.2.1 …"""
    return {
        node.hostname: f"127.0.{1 + place // _PER_SUBNET}.{1 + place % _PER_SUBNET}" for place, node in enumerate(plan.nodes)
    }


@dataclass(frozen=True)
class Shares:
    """What the nodes may have of what they want (1: all), and the GPUs that there are."""

    memory: float
    object_store: float
    gpus: int


def shares(plan: ClusterPlan) -> Shares:
    """Measured here, so that all nodes together fit this machine's memory and what is free of its /dev/shm."""
    memory = min(1.0, machine_memory() * _SHARE / sum(node.memory for node in plan.nodes))
    room = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.exists() else 0
    store = min(memory, room * _SHARE / sum(node.object_store_memory for node in plan.nodes))
    return Shares(memory, store, _gpus_here())


def this_machine() -> Machine:
    gpus = _gpus_here()
    return Machine(cores=os.cpu_count() or 1, memory=machine_memory(), gateway=LOOPBACK, gpu=gpus > 0)


def _gpus_here() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def machine_memory() -> int:
    """Bytes that this machine has, or that its container may take."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return total


class Environments:
    """The environment of every process of one cluster. `plan` is the project's, shifted by `shift` ports."""

    def __init__(self, project: Project, plan: ClusterPlan, shift: int, caller: Mapping[str, str]) -> None:
        self._project = project
        self._plan = plan
        self._shift = shift
        self._caller = caller
        self._addresses = addresses(plan)

    def of(self, name: str) -> dict[str, str]:
        """All variables of a node, or of the health server."""
        variables = self._health() if name == HEALTH else self._node(self._plan.node(name))
        path = variables.get("PATH") or self._caller.get("PATH") or os.defpath
        return {
            **inherited(self._caller),
            **variables,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), path]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._project.token_path.resolve()),
            "HEALTH_URL": f"http://{LOOPBACK}:{self._plan.health_port}",
            CLUSTER_MARK: cluster_id(self._project.folder),
            NODE_MARK: name,
            SHIFT_MARK: str(self._shift),
        }

    def _health(self) -> dict[str, str]:
        return {
            "HEALTH_HOST": LOOPBACK,
            "HEALTH_PORT": str(self._plan.health_port),
            "HEAD_WHITELIST": ",".join(self._project.config.nodes.head_whitelist),
            "LEASE_TTL": f"{self._project.config.nodes.health_service.lease_ttl:g}",
            "WS_STATE_DIR": str(LocalState(self._project).health),
        }

    def _node(self, node: NodePlan) -> dict[str, str]:
        address = self._addresses[node.hostname]
        own = shares(self._plan)
        place = list(self._addresses).index(node.hostname) + 1
        store = max(_SMALLEST_STORE, int(node.object_store_memory * own.object_store))
        return {
            **node_environment(self._project.config, self._plan, node),
            "WS_NODE_NAME": node.hostname,
            "WS_NODE_ADDRESS": address,
            "WS_BIND_HOST": f"{LOOPBACK},{address}",
            "WS_DASHBOARD_HOST": LOOPBACK,
            "WS_TEMP_DIR": str(temp_folder(self._project.folder) / str(place)),
            "WS_NUM_GPUS": str(_gpus(node, self._project.config.host.gpu, own.gpus)),
            "WS_MEMORY": str(int(node.memory * own.memory)),
            "WS_OBJECT_STORE_MEMORY": str(min(store, node.object_store_memory) or store),
            "WS_CANDIDATES": self._plan.candidates_json(self._addresses),
        }


def _gpus(node: NodePlan, wanted: bool | str, present: int) -> int:
    if wanted == "auto":
        return min(node.gpus, present)
    return node.gpus if wanted else 0


def is_own(variable: str) -> bool:
    """Whether a node decides by this variable; the local engine's own marks stay out."""
    return (variable.startswith(_OWN_PREFIXES) or variable in _OWN_NAMES) and variable not in _MARKS


def inherited(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables without those that would change a node."""
    return {name: value for name, value in caller.items() if not is_own(name) and name not in _MARKS}


def wanted_ports(plan: ClusterPlan, name: str) -> list[Wanted]:
    """The entry ports of a candidate, the block ports of any node, the port of the health server."""
    if name == HEALTH:
        return [_wanted_by_health(plan)]
    node = plan.node(name)
    block = [
        Wanted(port, (EVERYWHERE,), f"which {name} needs for {what.replace('_', ' ')}", "`ws down`, then `ws up` again")
        for what, port in vars(node.block).items()
        if isinstance(port, int)
    ]
    return [*_wanted_entries(plan, node), *block] if node.candidate else block


def _wanted_by_health(plan: ClusterPlan) -> Wanted:
    # Those that run were told this port, so it can't move any more.
    mend = "`ws down`, then `ws up` again"
    return Wanted(plan.health_port, (LOOPBACK,), "which the health server needs", mend)


def _wanted_entries(plan: ClusterPlan, node: NodePlan) -> list[Wanted]:
    own = (LOOPBACK, addresses(plan)[node.hostname])
    ports = {  # Ray's GCS listens on every address, whatever it is told
        "head_port": (node.entry.head, (EVERYWHERE,), "Ray's GCS"),
        "dashboard_port": (node.entry.dashboard, own, "the dashboard"),
        "client_port": (node.entry.client, own, "Ray Client"),
    }
    return [
        Wanted(port, where, f"which {node.hostname} needs for {what}", _mend(plan, node, field))
        for field, (port, where, what) in ports.items()
    ]


def _mend(plan: ClusterPlan, node: NodePlan, field: str) -> str:
    variable = f"WS_SERVICES__RAY__{node.key.upper().replace('-', '_')}__{field.upper()}"
    flag = f"`ws up --{field.replace('_', '-')} …`, or " if plan.candidates[:1] == (node,) else ""
    return f"choose another port: {flag}services.ray.{node.key}.{field} ({variable})"
