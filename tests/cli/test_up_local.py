"""`ws up` on a machine without Docker: the same cluster as local processes, with real Ray."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clusters import Sandbox
from ws.wait import NotYet, wait_for

pytestmark = [pytest.mark.slow]

NO_DOCKER = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox.make(tmp_path, 3)
    try:
        yield sandbox
    finally:
        sandbox.ws("down", env=NO_DOCKER)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that know of this project folder."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        environ = process.info["environ"] or {}
        if str(folder) in (environ.get("RAY_AUTH_TOKEN_PATH") or ""):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def test_without_docker_the_cluster_comes_up_as_processes_and_goes_without_a_trace(sandbox: Sandbox) -> None:
    done = sandbox.ws("up", env=NO_DOCKER)
    assert "no Docker daemon answers" in done.stderr
    assert "the cluster runs as local processes instead" in done.stderr
    assert f"ray://127.0.0.1:{sandbox.entries['client']}" in done.stdout
    status = json.loads(sandbox.ws("status", "--json", env=NO_DOCKER).stdout)
    assert {row["name"]: row["ray"] for row in status["nodes"]} == {
        "health": "serving",
        "ray-cpu": "alive",
        "ray-gpu": "alive",
    }
    assert status["resources"]["CPU"]["total"] == 8
    report = sandbox.ws("exec", "ray-gpu", "--", "ray", "status", env=NO_DOCKER).stdout
    assert len(re.findall(r"^ 1 node_", report, re.MULTILINE)) == 2
    sandbox.ws("down", env=NO_DOCKER)
    assert processes_of(sandbox.folder) == []


def test_a_killed_up_leaves_nothing_that_down_does_not_find(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "ws", "-C", str(sandbox.folder), "up", "--engine", "local"]
    up = subprocess.Popen(command, env={**os.environ, **NO_DOCKER}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def started() -> None:
        if not any("raylet" in line or "gcs_server" in line for line in processes_of(sandbox.folder)):
            raise NotYet("no Ray yet")

    wait_for("Ray to be started", started, timeout=60)
    up.send_signal(signal.SIGKILL)
    up.wait()
    sandbox.ws("down", env=NO_DOCKER)
    assert processes_of(sandbox.folder) == []
