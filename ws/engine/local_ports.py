"""Ports of this machine: which are free, who holds the others, and where a cluster's port blocks find room.

Entry ports are the user's choice, so one that is taken is an error. Port blocks and the health server's port are
ours: where another cluster has them, the blocks move together, and the health server moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ws.config.plan import ClusterPlan, EntryPorts, NodePlan, PortBlock
from ws.engine.ports import holder, is_free
from ws.errors import EnvironmentProblem

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
_LOWEST, _HIGHEST = 20000, 65535
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True)
class Wanted:
    """A port that is about to be listened on, what for, and how to choose another one."""

    port: int
    addresses: tuple[str, ...]
    purpose: str
    mend: str


def refuse_taken(wanted: Iterable[Wanted]) -> None:
    """Raise an EnvironmentProblem that names every port that is taken, its holder, and what to change."""
    taken = [want for want in wanted if not all(is_free(address, want.port) for address in want.addresses)]
    if not taken:
        return
    what = f"port {taken[0].port} is taken" if len(taken) == 1 else f"{len(taken)} ports are taken"
    raise EnvironmentProblem(
        what,
        "\n".join(f"{_holder(want)} holds port {want.port}, {want.purpose}" for want in taken),
        "\n".join(dict.fromkeys(f"end that process, or {want.mend}" for want in taken)),
    )


def _holder(want: Wanted) -> str:
    holders = (holder(address, want.port) for address in want.addresses)
    return next((name for name in holders if name), "a process of another user")


def shifted(plan: ClusterPlan, shift: int) -> ClusterPlan:
    """The plan as it holds on this machine: blocks moved up by `shift` ports, and without ports for workers.

    Ray picks free worker ports itself, as no network between the nodes has to let them through.
    """
    moved = {node.hostname: _shifted_node(node, plan.ports, shift) for node in plan.nodes}
    return replace(
        plan,
        nodes=tuple(moved.values()),
        candidates=tuple(moved[node.hostname] for node in plan.candidates),
        ports=range(plan.ports.start + shift, plan.ports.stop + shift),
    )


def _shifted_node(node: NodePlan, ports: range, shift: int) -> NodePlan:
    block = PortBlock(**{name: port + shift for name, port in fixed_ports(node).items()}, workers=None)

    def moved(port: int) -> int:
        return port + shift if port in ports else port

    old = node.entry
    entry = EntryPorts(moved(old.head), moved(old.dashboard), moved(old.client), old.published)
    return replace(node, block=block, entry=entry)


def fixed_ports(node: NodePlan) -> dict[str, int]:
    """The ports of a node's block that it listens on here, by name."""
    return {name: value for name, value in vars(node.block).items() if isinstance(value, int)}


def choose_shift(plan: ClusterPlan, reserved: Collection[int]) -> int:
    """By how many ports the blocks must move so that all are free and none is in `reserved`.

    Raises:
        EnvironmentProblem: there is no room anywhere.
    """
    for shift in _shifts(plan.ports):
        ports = [port for node in shifted(plan, shift).nodes for port in _block_ports(node, plan.ports, shift)]
        if not any(port in reserved or not is_free(EVERYWHERE, port) for port in ports):
            return shift
    first = plan.ports.start
    raise EnvironmentProblem(
        f"no free range of {len(plan.ports)} ports for the nodes' port blocks",
        f"port {first} is held by {name}" if (name := holder(EVERYWHERE, first)) else None,
        "end what holds them, or set network.port_base (WS_NETWORK__PORT_BASE) to a free range",
    )


def choose_health_port(plan: ClusterPlan, reserved: Collection[int]) -> int:
    """The plan's port of the health server, or the next one that is free, not in `reserved` and no other of the plan's."""
    entries = {port for node in plan.nodes for port in (node.entry.head, node.entry.dashboard, node.entry.client)}
    taken = {*reserved, *entries, *plan.ports}
    for port in range(plan.health_port, _HIGHEST + 1):
        if port not in taken and is_free(LOOPBACK, port):
            return port
    return plan.health_port


def _block_ports(node: NodePlan, planned: range, shift: int) -> list[int]:
    entry = (node.entry.head, node.entry.dashboard, node.entry.client)
    return [*fixed_ports(node).values(), *(port for port in entry if port - shift in planned)]


def _shifts(ports: range) -> Iterator[int]:
    """Upwards below the ports that outgoing connections take, then downwards, then what is left above."""
    step, ephemeral = len(ports), _first_ephemeral()
    ups = list(range(0, max(step, _HIGHEST + 2 - ports.stop), step))
    yield from (shift for shift in ups if shift == 0 or ports.stop + shift <= ephemeral)
    yield from range(-step, _LOWEST - ports.start - 1, -step)
    yield from (shift for shift in ups if shift and ports.stop + shift > ephemeral)


def _first_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32768
