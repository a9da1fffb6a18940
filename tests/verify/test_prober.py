"""The prober as text, against one real Ray node of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.stage import soon
from tests.ports import free_port
from ws.node.ray_process import RayProcess, head_command
from ws.node.settings import read_settings
from ws.verify import proof
from ws.verify.proof import CHECKS, prove

pytestmark = [pytest.mark.slow]

NAME, ADDRESS, BASE = "prober-head", "127.0.9.1", 24500
HEAD = f"{ADDRESS}:{BASE}"
TEXT = Path(proof.__file__).with_name("prober.py").read_text(encoding="utf-8")
BLOCK = ("node_manager", "object_manager", "runtime_env_agent", "dashboard_agent_grpc", "dashboard_agent_listen")


@pytest.fixture(scope="module")
def environ() -> Iterator[dict[str, str]]:
    """What Ray and a driver are told. A short folder: the path of a socket in it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ws-") as folder:
        token = Path(folder) / "token"
        token.write_text("0123456789abcdef" * 4, encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        yield {
            **inherited,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "WS_TEMP_DIR": f"{folder}/ray",
        }


@pytest.fixture(scope="module")
def head(environ: dict[str, str]) -> Iterator[str]:
    """The address of a head that is up; ended by the processes that it started."""
    ports = {name: BASE + 10 + place for place, name in enumerate(BLOCK)}
    told = {
        "WS_NODE_NAME": NAME,
        "WS_NODE_ADDRESS": ADDRESS,
        "WS_NODE_PORTS": ",".join(f"{name}={port}" for name, port in ports.items()),
        "WS_DASHBOARD_HOST": "127.0.0.1",
        "WS_TEMP_DIR": environ["WS_TEMP_DIR"],
        "WS_OBJECT_STORE_MEMORY": str(100 * 1024**2),
        "RAY_HEAD_PORT": str(BASE),
        "RAY_DASHBOARD_PORT": str(BASE + 1),
        "RAY_CLIENT_PORT": str(BASE + 2),
    }
    ray = RayProcess(head_command(read_settings(told)), "test of the prober", environ)
    try:

        def up() -> bool:
            assert ray.ended() is None, ray.tail()
            return ray.started.is_set()

        soon("Ray", up, timeout=120)
        yield HEAD
    finally:
        ray.stop()


def spawn(argv: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def play(environ: dict[str, str], *nodes: str, address: str = HEAD, timeout: float = 60) -> tuple[int, list[dict[str, Any]]]:
    """Run it to its end: its exit code and its events."""
    params = json.dumps({"address": address, "nodes": nodes, "timeout": timeout})
    with spawn(["python3", "-u", "-c", TEXT, params], environ) as process:
        assert process.stdout
        events = [json.loads(line) for line in process.stdout if line.startswith("{")]
        return process.wait(timeout=60), events


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_node_that_works_is_proven(head: str, environ: dict[str, str]) -> None:
    code, events = play(environ, NAME)
    assert code == 0
    assert of(events, "connected")[0]["ray"] == "2.60.0"
    assert [event["node"] for event in of(events, "alive")] == [NAME]
    assert {(event["node"], event["check"], event["ok"]) for event in of(events, "check")} == {
        (NAME, check, True) for check in CHECKS
    }
    assert all(event["seconds"] >= 0 for event in of(events, "check"))
    assert events[-1] == {"event": "done", "ok": True}


def test_a_node_that_nobody_knows_is_not_proven(head: str, environ: dict[str, str]) -> None:
    code, events = play(environ, NAME, "ray-unknown", timeout=10)
    assert code == 1
    assert {event["node"] for event in events if "node" in event} <= {NAME}
    assert events[-1] == {"event": "done", "ok": False}


def test_the_whole_proof_with_a_real_prober(head: str, environ: dict[str, str]) -> None:
    proven = prove([NAME], lambda: (head, lambda argv: spawn(argv, environ)), timeout=60)
    assert (proven.missing, proven.alive, proven.trouble) == ([], {NAME}, "")


def test_it_ends_when_nobody_listens_any_more(head: str, environ: dict[str, str]) -> None:
    params = json.dumps({"address": head, "nodes": ["ray-unknown"], "timeout": 3600})
    with spawn(["python3", "-u", "-c", TEXT, params], environ) as process:
        assert process.stdout
        assert process.stdin
        next(line for line in process.stdout if '"connected"' in line)
        process.stdin.close()
        assert process.wait(timeout=60) == 1


def test_without_the_token_it_says_so_while_it_tries_on(head: str, environ: dict[str, str]) -> None:
    params = json.dumps({"address": head, "nodes": [NAME], "timeout": 3600})
    with spawn(["python3", "-u", "-c", TEXT, params], {**environ, "RAY_AUTH_MODE": "disabled"}) as process:
        assert process.stdout
        event = next(json.loads(line) for line in process.stdout if line.startswith("{"))
        assert event["event"] == "connecting"
        assert "Authentication token is missing or incorrect" in event["why"]
        process.kill()


def test_at_a_closed_port_it_says_so(environ: dict[str, str]) -> None:
    code, events = play(environ, NAME, address=f"{ADDRESS}:{free_port()}", timeout=1)
    assert code == 1
    (event,) = events
    assert (event["event"], event["ok"]) == ("done", False)
    assert "ConnectionRefusedError" in event["why"]
