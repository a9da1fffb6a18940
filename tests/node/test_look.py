"""`__main__.py look`, as engines run it on a node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.stage import PROGRAM
from tests.ports import free_port
from ws.node.http_service import HttpService
from ws.resources import node_folder

TOKEN = "token"
NODE = {"name": "ray-cpu", "state": "up", "mode": "head"}


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the agent of a node was told; something answers at its port as the agent does."""
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    service = HttpService({("GET", "/node"): lambda body: (200, NODE)}, "127.0.0.1", 0, TOKEN)
    service.start()
    yield {"WS_NODE_PORTS": f"agent={service.port}", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    service.stop()


def look(environ: dict[str, str], *command: str) -> tuple[int, Any]:
    """Its exit code and the one line that it prints, as JSON."""
    argv = command or (sys.executable, PROGRAM)
    done = subprocess.run([*argv, "look"], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    return done.returncode, json.loads(line)


def test_it_prints_what_the_agent_says(environ: dict[str, str]) -> None:
    assert look(environ) == (0, NODE)


def test_a_node_with_an_address_of_its_own_is_asked_there(environ: dict[str, str]) -> None:
    service = HttpService({("GET", "/node"): lambda body: (200, {"name": "other"})}, "127.0.9.8", 0, TOKEN)
    service.start()
    environ["WS_NODE_PORTS"] = f"agent={service.port}"
    environ.update(WS_BIND_HOST="127.0.0.1,127.0.9.8", WS_NODE_ADDRESS="127.0.9.8")
    assert look(environ) == (0, {"name": "other"})
    service.stop()


def test_an_agent_that_does_not_answer(environ: dict[str, str]) -> None:
    port = free_port()
    code, said = look({**environ, "WS_NODE_PORTS": f"agent={port}"})
    assert (code, said) == (1, {"error": f"127.0.0.1:{port} refuses the connection"})


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"RAY_AUTH_TOKEN_PATH": ""}, "401"),
        ({"RAY_AUTH_TOKEN_PATH": "/no/such/file"}, "RAY_AUTH_TOKEN_PATH=/no/such/file can't be read"),
        ({"WS_NODE_PORTS": "transfer=31006"}, "WS_NODE_PORTS names no port of the agent"),
        ({"LEASE_TTL": "soon"}, "LEASE_TTL='soon' is not a number"),
    ],
)
def test_what_is_wrong_is_told_in_the_same_form(environ: dict[str, str], wrong: dict[str, str], text: str) -> None:
    code, said = look({**environ, **wrong})
    assert code == 1
    assert text in said["error"]


def test_the_folder_alone_is_enough(environ: dict[str, str], tmp_path: Path) -> None:
    """As in a container: `ws/node` is mounted, and no `ws` is installed."""
    shutil.copytree(node_folder(), tmp_path / "ws" / "node", ignore=shutil.ignore_patterns("__pycache__"))
    assert look(environ, sys.executable, "-IS", str(tmp_path / "ws" / "node" / "__main__.py")) == (0, NODE)


@pytest.mark.parametrize("arguments", [[], ["peek"], ["look", "twice"]])
def test_a_wrong_call(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "agent|health|look" in done.stderr
