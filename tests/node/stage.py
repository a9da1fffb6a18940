"""Real agents and a real health server as processes of this machine, with `stub_ray.py` in Ray's place."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.ports import free_ports
from ws.node.http_client import call
from ws.node.settings import Candidate
from ws.resources import node_folder
from ws.wait import NotYet, wait_for

HERE = "127.0.0.1"
TOKEN = "the-token-of-this-cluster"
PROGRAM = str(node_folder() / "__main__.py")
STUB = Path(__file__).with_name("stub_ray.py")
LONG = 40.0
"""A bound for a machine that is busy; nothing waits this long on one that is not."""


def soon(what: str, condition: Callable[[], object], timeout: float = LONG) -> None:
    """Wait until `condition` is true; an AssertionError that it raises ends the wait."""

    def holds() -> None:
        if not condition():
            raise NotYet

    wait_for(what, holds, timeout=timeout, interval=0.03)


@dataclass(frozen=True)
class Call:
    """One `ray start` that reached the stub: its process, its arguments and what marked it."""

    node: str
    pid: int
    argv: list[str]
    instance: str

    @property
    def flags(self) -> dict[str, str]:
        return dict(argument.partition("=")[::2] for argument in self.argv[1:])

    @property
    def is_head(self) -> bool:
        return "--head" in self.argv


class AgentProcess:
    """A running agent (or whatever else of ours) and the file that it logs to."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    @property
    def modes(self) -> list[str]:
        return re.findall(r"^Mode: (.*)$", self.log, re.MULTILINE)

    def wait_line(self, pattern: str, times: int = 1) -> None:
        """Wait until the log has this pattern in `times` places; the agent must live until then."""

        def logged() -> None:
            ended = self.process.poll()
            if len(re.findall(pattern, self.log, re.MULTILINE)) >= times:
                return
            assert ended is None, f"{self.name} ended with exit code {ended}:\n{self.log}"
            raise NotYet(self.log)

        wait_for(f"{pattern!r} in the log of {self.name}", logged, timeout=LONG, interval=0.03)

    def wait_up(self, times: int = 1) -> None:
        self.wait_line("✓ Ray is up", times)

    def wait_end(self) -> int:
        """Its exit code; the agent must end by itself."""
        return self.process.wait(timeout=LONG)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait_end()


class Stage:
    """The candidates `names`, their ports and their health server, with a folder for logs, state and the stub's notes."""

    def __init__(self, folder: Path, names: Sequence[str] = ("ray-cpu", "ray-gpu"), ttl: float = 3.0) -> None:
        self.folder = folder
        self._ttl = ttl
        self._started: list[AgentProcess] = []
        ports = iter(free_ports(1 + 5 * len(names)))
        self.health_port = next(ports)
        self._other_ports = {name: next(ports) for name in names}
        self.candidates = [Candidate(name, HERE, next(ports), next(ports), next(ports), next(ports)) for name in names]
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        self._install_stub()
        self.token_path = folder / "token"
        self.token_path.write_text(f"{TOKEN}\n", encoding="utf-8")
        (folder / "calls").touch()

    def _install_stub(self) -> None:
        """Without `site`, which is most of what a start of Python costs."""
        source = STUB.read_text(encoding="utf-8").partition("\n")[2]
        ray = self._bin / "ray"
        ray.write_text(f"#!{Path(sys.executable).resolve()} -IS\n{source}", encoding="utf-8")
        ray.chmod(0o755)

    # The health server

    @property
    def health_url(self) -> str:
        return f"http://{HERE}:{self.health_port}"

    def start_health(self) -> AgentProcess:
        environ = {
            "HEALTH_HOST": HERE,
            "HEALTH_PORT": str(self.health_port),
            "WS_STATE_DIR": str(self.folder / "state"),
            "WS_GATE_SLOTS": "2",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
        }
        health = self._spawn("health", [sys.executable, "-u", PROGRAM, "health"], environ)
        health.wait_line("✓ health server on")
        return health

    def ask_health(self, path: str = "/lease", method: str = "GET", body: dict[str, Any] | None = None) -> dict[str, Any]:
        return call(f"{self.health_url}{path}", method, body, TOKEN, LONG)

    def lease(self) -> dict[str, Any] | None:
        held = self.ask_health()["lease"]
        return None if held is None else dict(held)

    def holder(self) -> str | None:
        lease = self.lease()
        return str(lease["holder"]) if lease else None

    def changes(self) -> list[str]:
        """The history of the lease, oldest first, as `granted ray-cpu 1`."""
        history = sorted(self.ask_health()["history"], key=lambda change: (change["epoch"], change["at"]))
        return [f"{change['what']} {change['holder']} {change['epoch']}" for change in history]

    # Agents

    def candidate(self, name: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.name == name)

    def environ(self, name: str, stub: str = "", **more: str) -> dict[str, str]:
        """What an agent is told; `stub` goes to the stub, `more` goes over everything."""
        known = [candidate for candidate in self.candidates if candidate.name == name]
        ports = {}
        if known:
            ports = {
                "RAY_HEAD_PORT": str(known[0].head_port),
                "RAY_DASHBOARD_PORT": str(known[0].dashboard_port),
                "RAY_CLIENT_PORT": str(known[0].client_port),
                "WS_NODE_PORTS": f"agent={known[0].agent_port}",
            }
        return {
            "WS_NODE_NAME": name,
            "WS_NODE_ADDRESS": HERE,
            "WS_BIND_HOST": HERE,
            "HEAD_WHITELIST": ",".join(candidate.name for candidate in self.candidates),
            "WS_CANDIDATES": json.dumps([asdict(candidate) for candidate in self.candidates]),
            "HEALTH_URL": self.health_url,
            "HEALTH_MAX_RETRIES": "1",
            "HEALTH_RETRY_INTERVAL": "0.2",
            "LEASE_TTL": str(self._ttl),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
            "STUB_RAY": stub,
            "STUB_RAY_FOLDER": str(self.folder),
            **ports,
            **more,
        }

    def start(self, name: str, stub: str = "", **more: str) -> AgentProcess:
        return self.start_program([PROGRAM, "agent"], name, stub, **more)

    def start_program(self, arguments: Sequence[str], name: str, stub: str = "", **more: str) -> AgentProcess:
        """Run Python with these arguments and the environment of the agent `name`."""
        return self._spawn(name, [sys.executable, "-u", *arguments], self.environ(name, stub, **more))

    def start_together(self, names: Sequence[str]) -> list[AgentProcess]:
        """Agents that begin at one instant: when the pipe that each of them reads from is closed."""
        reading, writing = os.pipe()
        command = ["sh", "-c", 'read _; exec "$@" </dev/null', "sh", sys.executable, "-u", PROGRAM, "agent"]
        agents = [self._spawn(name, command, self.environ(name), stdin=reading) for name in names]
        os.close(reading)
        os.close(writing)
        return agents

    def _spawn(
        self, name: str, command: Sequence[str], environ: dict[str, str], stdin: int = subprocess.DEVNULL
    ) -> AgentProcess:
        log = self.folder / f"{name}-{len(self._started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env={"PATH": f"{self._bin}{os.pathsep}{os.defpath}", "HOME": str(self.folder), **environ},
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
        self._started.append(AgentProcess(name, process, log))
        return self._started[-1]

    # The stub's notes

    def _notes(self) -> list[dict[str, Any]]:
        lines = (self.folder / "calls").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def calls(self, name: str | None = None) -> list[Call]:
        """Every `ray start`, of one node or of all."""
        return [Call(**note) for note in self._notes() if "argv" in note and name in (None, note["node"])]

    def children(self) -> dict[str, int]:
        """The pids of what the stub has left behind, by the kind."""
        return {note["child"]: note["pid"] for note in self._notes() if "child" in note}

    def living(self) -> list[psutil.Process]:
        """All processes of the stub that still run."""
        found = []
        for pid in {note["pid"] for note in self._notes()}:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                ours = process.environ().get("STUB_RAY_FOLDER") == str(self.folder)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        for agent in self._started:
            agent.process.kill()
            agent.process.wait()
        for process in self.living():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def greeting(port: int) -> str:
    """What a head's stub says at this port; "" where the connection is refused or cut."""
    try:
        with socket.create_connection((HERE, port), timeout=5) as connection, connection.makefile() as lines:
            return lines.readline().strip()
    except OSError:
        return ""
