"""`ws discover` as a user types it: beside clusters of others that may run here, so what is meant is looked for by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.strangers import SESSION, TOKEN, dashboard_answers, http
from tests.clusters import Sandbox

Ws = Callable[..., "subprocess.CompletedProcess[str]"]
NO_DOCKER = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
PATIENT = ("--timeout", "5")


@pytest.fixture
def ws(tmp_path: Path) -> Ws:
    """Runs `ws discover`, without Docker and without settings of the caller's."""

    def run(*arguments: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WS_"))}
        done = subprocess.run(
            [sys.executable, "-m", "ws", "-C", str(tmp_path), "discover", *arguments],
            env={**inherited, "HOME": str(tmp_path), "NO_COLOR": "1", **NO_DOCKER, **environ},  # a token may be in ~/.ray
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def of_session(done: subprocess.CompletedProcess[str], session: str) -> dict[str, Any]:
    [found] = [cluster for cluster in json.loads(done.stdout)["clusters"] if cluster["session"] == session]
    return dict(found)


def test_a_cluster_for_people(ws: Ws) -> None:
    with http(dashboard_answers(ray="2.9.3")) as endpoint:
        shown = ws("--port", str(endpoint.port), *PATIENT).stdout
    assert f"✓ {SESSION}\n    2 nodes, Ray 2.9.3 (here " in shown
    assert f"    dashboard  http://{endpoint}\n    found by   ports\n" in shown


def test_a_cluster_for_programs(ws: Ws) -> None:
    with http(dashboard_answers()) as endpoint:
        done = ws("--json", "--port", str(endpoint.port), *PATIENT)
    found = of_session(done, SESSION)
    assert found == {
        "id": SESSION,
        "session": SESSION,
        "addresses": {"dashboard": [str(endpoint)]},
        "found_by": ["ports"],
        "ray_version": "2.60.0",
        "python_version": "3.11.7",
        "nodes": 2,
        "token": "not needed",
        "alive": True,
        "stale": None,
        "reliability": 0.8,
        "notes": [],
    }
    assert done.stderr == ""


def test_the_token_of_a_file_and_of_the_environment(ws: Ws, tmp_path: Path) -> None:
    (tmp_path / "right").write_text(TOKEN)
    (tmp_path / "wrong").write_text("wrong")
    with http(dashboard_answers(auth="token"), TOKEN) as endpoint:
        port = ("--port", str(endpoint.port), *PATIENT)
        assert of_session(ws("--json", *port, "--token-file", str(tmp_path / "right")), SESSION)["token"] == "needed"
        assert of_session(ws("--json", *port, RAY_AUTH_TOKEN=TOKEN), SESSION)["token"] == "needed"
        without = ws(*port).stdout
        wrong = ws(*port, "--token-file", str(tmp_path / "wrong")).stdout
    assert f"✓ {endpoint}\n    nodes unknown, token needed\n" in without
    assert f"✓ {endpoint}\n    nodes unknown, token refused\n" in wrong
    assert "    ! the token that was given is not this cluster's\n" in wrong


def test_with_a_network_no_token_is_sent_that_was_not_given_for_it(ws: Ws) -> None:
    with http(dashboard_answers(auth="token"), TOKEN) as endpoint:
        done = ws("--cidr", "127.0.0.1/32", "--port", str(endpoint.port), *PATIENT, RAY_AUTH_TOKEN=TOKEN)
    assert "! with --cidr your token is sent to nobody; --token-file FILE sends that one" in done.stderr
    assert f"✓ {endpoint}\n    nodes unknown, token needed\n" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_leftovers_are_stale(ws: Ws, tmp_path: Path) -> None:
    (tmp_path / SESSION).mkdir()
    shown = ws("--temp-dir", str(tmp_path), *PATIENT).stdout
    assert f"✗ stale: {SESSION}\n    no process of it runs here\n    its files: {tmp_path / SESSION}\n" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cidr", "10.0.0.0/8"], "✗ 10.0.0.0/8 has 16777216 addresses: too many to ask each"),
        (["--cidr", "home"], "✗ 'home' is no network"),
        (["--temp-dir", "/nonexistent"], "✗ there is no folder /nonexistent"),
        (["--port", "0"], "✗ Invalid value for '--port'"),
    ],
)
def test_wrong_use(ws: Ws, arguments: list[str], said: str) -> None:
    assert said in ws(*arguments, code=2).stderr


def test_a_token_file_that_is_not_there(ws: Ws) -> None:
    assert "✗ the token file /nonexistent can't be read" in ws("--token-file", "/nonexistent", code=4).stderr


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox.make(tmp_path, 20)
    try:
        yield sandbox
    finally:
        sandbox.ws("down")


def cluster_at(sandbox: Sandbox, address: str, kind: str) -> dict[str, Any]:
    clusters = json.loads(sandbox.ws("discover", "--json", *PATIENT).stdout)["clusters"]
    [found] = [cluster for cluster in clusters if address in cluster["addresses"].get(kind, ())]
    return dict(found)


@pytest.mark.docker
def test_a_cluster_of_containers_with_its_own_token(sandbox: Sandbox) -> None:
    sandbox.ws("up", "--engine", "compose")
    found = cluster_at(sandbox, f"127.0.0.1:{sandbox.entries['head']}", "gcs")
    assert (found["alive"], found["nodes"], found["token"], found["reliability"]) == (True, 2, "needed", 1.0)
    assert "containers" in found["found_by"]
    assert f"127.0.0.1:{sandbox.entries['dashboard']}" in found["addresses"]["dashboard"]
    assert f"127.0.0.1:{sandbox.entries['client']}" in found["addresses"]["client"]
    # The second candidate is an entry, too (DESIGN decision 3).
    assert f"127.0.0.1:{sandbox.base + 94}" in found["addresses"]["gcs"]


@pytest.mark.slow
def test_a_cluster_of_local_processes_with_its_own_token(sandbox: Sandbox) -> None:
    sandbox.ws("up", "--engine", "local")
    found = cluster_at(sandbox, f"127.0.0.1:{sandbox.entries['head']}", "gcs")
    assert (found["alive"], found["nodes"], found["token"], found["reliability"]) == (True, 2, "needed", 1.0)
    assert "processes" in found["found_by"]
    assert found["addresses"]["dashboard"] and found["addresses"]["client"]
