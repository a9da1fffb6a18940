"""Real clusters for tests: a project folder of its own, the `ws` command as a user types it, and certain removal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ws.wait import NotYet, wait_for

CONFIG = """
project: {{name: {name}}}
network: {{name: {name}-net, subnet: {subnet}, port_base: {base}}}
services:
  health: {{port: {health}}}
  ray:
    cpu: {{cpus: 4, memory: 4g, head_port: {head}, dashboard_port: {dashboard}, client_port: {client}}}
    gpu: {{cpus: 4, memory: 4g, head_port: {head2}, dashboard_port: {dashboard2}, client_port: {client2}}}
cluster_test: {{network: {{name: {name}-test, subnet: {test_subnet}}}}}
"""


@dataclass(frozen=True)
class Sandbox:
    """A project folder whose names, subnets and ports collide with nothing else."""

    folder: Path
    name: str
    base: int

    @classmethod
    def make(cls, folder: Path, number: int) -> Sandbox:
        """Sandbox `number` (0 to 40); its ports lie 100 apart from the next one's."""
        base = 20000 + 100 * number
        sandbox = cls(folder, f"ws-test-{number}", base)
        (folder / "config.yaml").write_text(
            CONFIG.format(
                name=sandbox.name,
                subnet=f"172.26.{4 * number}.0/24",
                test_subnet=f"172.26.{4 * number + 1}.0/24",
                base=base,
                health=base + 90,
                head=base + 91,
                dashboard=base + 92,
                client=base + 93,
                head2=base + 94,
                dashboard2=base + 95,
                client2=base + 96,
            )
        )
        return sandbox

    @property
    def entries(self) -> dict[str, int]:
        return {"health": self.base + 90, "head": self.base + 91, "dashboard": self.base + 92, "client": self.base + 93}

    @property
    def token_path(self) -> Path:
        return self.folder / ".ws" / "token"

    def ws(self, *arguments: str, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `ws` in this folder; with `check`, an error fails the test with all that was printed."""
        done = subprocess.run(
            [sys.executable, "-m", "ws", "-C", str(self.folder), *arguments],
            env={**os.environ, "NO_COLOR": "1", **(env or {})},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"ws {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.ws("status", "--json").stdout))

    def container(self, node: str) -> str:
        return f"{self.name}-{node}"


def not_passed(report: dict[str, Any]) -> list[str]:
    """The checks of a `ws test --json` that did not pass, a line each."""
    return [
        f"{check['verdict']}: {scenario['name']}: {check['what']}: {check['evidence']}; "
        f"causes: {[cause['key'] for cause in check['causes']]}"
        for scenario in report["scenarios"]
        for check in scenario["checks"]
        if check["verdict"] != "pass"
    ]


def docker(*arguments: str, check: bool = True) -> str:
    """Run `docker` and return what it printed, both streams."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def leader_is(sandbox: Sandbox, name: str, alive: set[str]) -> None:
    """Wait until `name` leads and exactly these nodes are alive at it."""

    def led() -> None:
        status = sandbox.status()
        leads = (status["leader"] or {}).get("name")
        living = {row["name"] for row in status["nodes"] if row["ray"] == "alive"}
        if leads != name or living != alive:
            raise NotYet(f"{leads} leads, alive: {living}, problems: {status['problems']}")

    wait_for(f"{name} to lead {alive}", led, timeout=90, interval=0.5)
