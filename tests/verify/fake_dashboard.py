"""A dashboard that is made up, in the place of `ws.cluster.dashboard.Dashboard`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ws.cluster.dashboard import RayNode
from ws.errors import EnvironmentProblem

EVERYONE = "*"


def ray_node(name: str, *, alive: bool = True, head: bool = False, node_id: str = "", cpus: float = 4) -> RayNode:
    return RayNode(name, node_id or name.encode().hex(), alive, head, {"CPU": cpus})


@dataclass
class FakeDashboard:
    """`problem` is raised by every question; `logs`: file names and what is in them, by node id or for all nodes."""

    rows: list[RayNode]
    url: str = "http://127.0.0.1:8265"
    problem: EnvironmentProblem | None = None
    guarded: bool = True
    ray: str = "2.60.0"
    logs: dict[str, dict[str, bytes]] = field(default_factory=lambda: {EVERYONE: {"raylet.out": b"one line\n"}})

    def nodes(self) -> list[RayNode]:
        self._fail()
        return list(self.rows)

    def usage(self) -> dict[str, tuple[float, float]]:
        self._fail()
        return {"CPU": (0.0, sum(row.resources.get("CPU", 0) for row in self.rows if row.alive))}

    def version(self) -> str:
        self._fail()
        return self.ray

    def refuses_strangers(self) -> bool:
        self._fail()
        return self.guarded

    def log_files(self, node_id: str) -> list[str]:
        self._fail()
        return sorted(self.logs.get(node_id, self.logs[EVERYONE]))

    def log_file(self, node_id: str, name: str, lines: int = 100) -> bytes:
        self._fail()
        return self.logs.get(node_id, self.logs[EVERYONE])[name]

    def _fail(self) -> None:
        if self.problem:
            raise self.problem
