"""`ws logs`, `exec` and `ps` of what runs, whatever flags `ws up` had. Small programs stand in for the agents."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.projects import make_project
from ws.cli import run
from ws.engine.base import Project
from ws.engine.local import LocalEngine
from ws.wait import NotYet, wait_for

AGENT = "import os, signal; print('ready', os.environ['WS_LOCAL_NODE'], flush=True); signal.pause()"
NAMES = ["ray-cpu", "ray-worker"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project folder with the default config, in which a head and a worker run as after `ws up --workers 1`."""
    for name in [name for name in os.environ if name.startswith("WS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    engine = LocalEngine(lambda name: [sys.executable, "-c", AGENT])
    head, dashboard, client = free_ports(3)
    cpu = f"{{head_port: {head}, dashboard_port: {dashboard}, client_port: {client}}}"
    flags = f"{{services: {{ray: {{cpu: {cpu}, worker: {{}}}}}}, nodes: {{head_whitelist: [ray-cpu]}}}}"
    project = make_project(tmp_path, flags)
    (tmp_path / "config.yaml").unlink()
    try:
        engine.up(project, NAMES)
        wait_for("the agents", lambda: all_ready(engine, project), timeout=20, interval=0.02)
        yield tmp_path
    finally:
        engine.down(project)


def all_ready(engine: LocalEngine, project: Project) -> None:
    if not all(list(engine.logs(project, name)) for name in NAMES):
        raise NotYet


def test_logs_of_a_node_that_only_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(folder), "logs", "ray-worker"]) == 0
    assert capsys.readouterr().out == "ready ray-worker\n"


def test_logs_of_a_node_that_is_nowhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-C", str(folder), "logs", "ray-workr"]) == 2
    assert "did you mean ray-worker?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        (["sh", "-c", "echo $WS_NODE_NAME; exit 7"], 7, ""),
        (["no-such-program"], 127, "✗ there is no program `no-such-program`"),
        (["/"], 126, "✗ `/` can't be run"),
    ],
)
def test_a_command_on_a_node_that_only_runs(
    folder: Path, capfd: pytest.CaptureFixture[str], program: list[str], code: int, told: str
) -> None:
    assert run(["-C", str(folder), "exec", "ray-worker", "--", *program]) == code
    shown = capfd.readouterr()
    assert told in shown.err
    assert shown.out == ("" if told else "ray-worker\n")
