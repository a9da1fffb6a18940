"""The way to Docker Engine, and why there is none: each cause is told apart, and has its own mend."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.engine.fake_daemon import daemon
from ws.engine.compose import ComposeEngine
from ws.engine.docker_client import DEFAULT_HOST, connect, endpoint, no_engine
from ws.errors import EnvironmentProblem
from ws.process import Completed

NOBODY = 65534


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a socket, and that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="ws-t-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def problem_of(monkeypatch: pytest.MonkeyPatch, host: str, timeout: int = 5) -> EnvironmentProblem:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EnvironmentProblem) as caught:
        connect(timeout)
    return caught.value


def test_a_host_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(monkeypatch, "unix:///nonexistent")
    assert problem.what == "no Docker daemon answers at unix:///nonexistent"
    assert "unset DOCKER_HOST" in str(problem.mend)


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "ssh://me:secret@127.0.0.1:1", "nonsense", "tcp://"])
def test_no_host_is_a_bug_of_ours_and_none_shows_a_password(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    problem = problem_of(monkeypatch, host)
    assert "no Docker daemon answers" in problem.what
    assert "secret" not in str(problem)


def test_a_daemon_that_died_and_left_its_socket(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    path = short / "docker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert "no Docker daemon answers" in problem_of(monkeypatch, f"unix://{path}").what


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "the Docker daemon is not running"),
        (PermissionError(13, "Permission denied"), "this user may not talk to the Docker daemon"),
        (TimeoutError("timed out"), "the Docker daemon does not answer"),
        (KeyError("ApiVersion"), "the Docker daemon does not answer"),
    ],
)
def test_causes_at_the_default_socket_are_told_apart(error: Exception, what: str) -> None:
    problem = no_engine(DEFAULT_HOST, error)
    assert problem.what == what
    assert problem.mend


def test_missing_and_not_running_differ_by_the_programs_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_socket = FileNotFoundError(2, "No such file or directory")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert no_engine(DEFAULT_HOST, no_socket).what == "Docker Engine is not installed"
    (tmp_path / "dockerd").touch(mode=0o755)
    assert no_engine(DEFAULT_HOST, no_socket).what == "the Docker daemon is not running"


def test_a_user_who_may_not(short: Path) -> None:
    """Root may everything, so the question is asked by another user; any other user by themselves."""
    with daemon(short / "docker.sock", {"ApiVersion": "1.45", "Version": "26"}) as host:
        (short / "docker.sock").chmod(0)
        program = f"""
import os
import docker, docker.context
from ws.engine.docker_client import connect
from ws.errors import EnvironmentProblem
def ask():
    try:
        connect(5)
    except EnvironmentProblem as problem:
        return problem
os.environ["DOCKER_HOST"] = "unix:///nonexistent"
ask()  # imports all that it needs, some of which other users may not read
if os.getuid() == 0:
    os.setgroups([])
    os.setuid({NOBODY})
os.environ["DOCKER_HOST"] = {host!r}
print(ask().what, ask().mend, sep="\\n")
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.startswith("this user may not talk to the Docker daemon\n"), done.stderr
    assert "usermod -aG docker" in done.stdout


def test_an_engine_that_is_too_old(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with daemon(short / "docker.sock", {"ApiVersion": "1.40", "Version": "19.03.15"}) as host:
        problem = problem_of(monkeypatch, host)
    assert problem.what == "Docker Engine 19.03.15 is too old"
    assert "1.41" in str(problem.why)
    assert "install a newer one" in str(problem.mend)


def test_the_oldest_engine_that_will_do(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with daemon(short / "docker.sock", {"ApiVersion": "1.41", "Version": "20.10.0"}) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        client = connect(5)
        client.close()
    assert client.api.api_version == "1.41"


def test_a_daemon_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with daemon(short / "docker.sock", None) as host:
        assert "no Docker daemon answers" in problem_of(monkeypatch, host, timeout=1).what


def test_what_answers_and_is_no_daemon(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    with daemon(short / "docker.sock", {"message": "go away"}, status=500) as host:
        assert "no Docker daemon answers" in problem_of(monkeypatch, host).what
    with daemon(short / "other.sock", {"unexpected": True}) as host:
        assert "no Docker daemon answers" in problem_of(monkeypatch, host).what


def test_dockers_current_context_leads_to_the_engine(monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    """As for the `docker` command: rootless Docker and Docker Desktop are contexts."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(short))
    assert endpoint() == DEFAULT_HOST
    meta = short / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    host = f"unix://{short}/docker.sock"
    meta.write_text(json.dumps({"Name": "mine", "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}))
    (short / "config.json").write_text(json.dumps({"currentContext": "mine"}))
    assert endpoint() == host
    with pytest.raises(EnvironmentProblem, match="no Docker daemon answers") as caught:
        connect(5)
    assert "docker context use default" in str(caught.value.mend)
    with daemon(short / "docker.sock", {"ApiVersion": "1.45", "Version": "26.1.5"}):
        connect(5).close()


@pytest.mark.parametrize(
    ("code", "stdout", "what"),
    [
        (125, "", "Docker Compose v2 is missing"),
        (0, "no numbers", "Docker Compose v2 is missing"),
        (0, "1.29.2", "Docker Compose 1.29.2 is too old"),
        (0, "v2.19.9", "Docker Compose v2.19.9 is too old"),
    ],
)
def test_compose_that_is_missing_or_too_old(code: int, stdout: str, what: str) -> None:
    engine = ComposeEngine(runner=lambda *_, **__: Completed(code, stdout, "docker: 'compose' is not a docker command"))
    with pytest.raises(EnvironmentProblem, match=what) as caught:
        engine.compose_version()
    assert "install" in str(caught.value.mend)


@pytest.mark.parametrize("version", ["2.20.0", "2.26.1-4", "v5.0.1", "2.40.3-desktop.1"])
def test_compose_that_will_do(version: str) -> None:
    engine = ComposeEngine(runner=lambda *_, **__: Completed(0, f"{version}\n", ""))
    assert engine.compose_version() == version


@pytest.mark.docker
def test_a_real_engine_answers(docker_client: docker.DockerClient) -> None:
    assert docker_client.ping() is True
