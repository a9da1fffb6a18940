"""An engine of which only what can be looked at is there; and servers that answer in its nodes' place."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ws.engine.base import NodeState, Project
from ws.errors import EnvironmentProblem

NOWHERE = "http://127.0.0.1:1"


@dataclass
class FakeEngine:
    """Its nodes are what it is told: their states, their logs, and what a command on each of them prints."""

    states: list[NodeState] = field(default_factory=list)
    health: str = NOWHERE
    addresses: dict[str, str] = field(default_factory=lambda: {"dashboard": NOWHERE, "health": NOWHERE})
    lines: Mapping[str, Sequence[str]] = field(default_factory=dict)
    printed: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    name: str = "fake"
    agent_program: str = "/the/agent"

    def available(self) -> str | None:
        return None

    def prepare(self, project: Project) -> list[str]:
        return []

    def warnings(self, project: Project) -> list[str]:
        return []

    def check(self, project: Project, names: Sequence[str]) -> None:
        """Nothing is ever in its way."""

    def missing_images(self, project: Project, names: Sequence[str]) -> list[str]:
        return []

    def pull(self, image: str) -> None:
        raise AssertionError("no image was missing")

    def up(self, project: Project, names: Sequence[str]) -> None:
        self.states = [NodeState(name, "running") for name in ("health", *names)]

    def down(self, project: Project) -> list[str]:
        self.states = []
        return []

    def nodes(self, project: Project) -> list[NodeState]:
        return list(self.states)

    def logs(self, project: Project, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        if name not in self.lines:
            raise EnvironmentProblem(f"there is no log of {name}")
        lines = list(self.lines[name])
        yield from lines if tail is None else lines[max(0, len(lines) - tail) :]

    def exec_command(self, project: Project, name: str, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        self.asked.append((name, tuple(argv)))
        return [sys.executable, "-c", f"print({self.printed.get(name, '')!r})"]

    def exec_environment(self, project: Project, name: str) -> dict[str, str]:
        return {}

    def health_url(self, project: Project) -> str:
        return self.health

    def entries(self, project: Project) -> dict[str, str]:
        return self.addresses


@contextmanager
def answering(answers: Mapping[str, Any], token: str = "") -> Iterator[str]:
    """A server on loopback that answers each path (without its query) with JSON, or a whole number as a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = not token or self.headers.get("Authorization") == f"Bearer {token}"
            answer = answers.get(self.path.partition("?")[0], 404) if allowed else 401
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: what pytest prints is about tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="answers", kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def ray_node(name: str, *, alive: bool = True, head: bool = False, cpus: float = 4) -> dict[str, Any]:
    """A row of `GET /api/v0/nodes` as Ray 2.60 answers it, as far as it is read."""
    resources = {"CPU": cpus, "memory": 8.0 * 2**30, "object_store_memory": 2.0 * 2**30, f"node:{name}": 1.0}
    return {
        "node_id": f"{name}-{'living' if alive else 'dead'}",
        "node_name": name,
        "state": "ALIVE" if alive else "DEAD",
        "is_head_node": head,
        "resources_total": resources if alive else {},
    }


def dashboard_answers(*nodes: dict[str, Any], usage: Mapping[str, Sequence[float]] | None = None) -> dict[str, Any]:
    return {
        "/api/v0/nodes": {"result": True, "data": {"result": {"total": len(nodes), "result": list(nodes)}}},
        "/api/cluster_status": {
            "result": True,
            "data": {"clusterStatus": {"loadMetricsReport": {"usage": usage or {"CPU": [1.0, 8.0]}}}},
        },
    }
