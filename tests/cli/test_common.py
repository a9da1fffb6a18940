"""Choosing an engine and checking names."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.fake_daemon import daemon
from tests.engine.fake_engine import FakeEngine
from tests.projects import make_project
from ws.cli.common import (
    EngineName,
    check_names,
    choose_engine,
    compose_if_usable,
    options,
    running_engine,
    show_warnings,
    token_for,
)
from ws.config.load import load
from ws.console import Progress
from ws.engine import docker_client
from ws.engine.docker_client import NotInstalled, no_engine
from ws.errors import UsageError


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(shown: io.StringIO) -> Progress:
    return Progress(stream=shown)


@pytest.fixture
def too_old(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine that is there and will not do."""
    with (
        tempfile.TemporaryDirectory(prefix="ws-t-") as folder,
        daemon(Path(folder) / "docker.sock", {"ApiVersion": "1.40", "Version": "19.03.15"}) as host,
    ):
        monkeypatch.setenv("DOCKER_HOST", host)
        yield


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program, no socket."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(docker_client, "DEFAULT_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(docker_client, "endpoint", lambda: docker_client.DEFAULT_HOST)


@pytest.mark.usefixtures("too_old")
def test_an_engine_that_will_not_do_is_named_with_its_mend(progress: Progress, shown: io.StringIO) -> None:
    assert choose_engine(EngineName.auto, progress).name == "local"
    text = shown.getvalue()
    assert "Docker Engine 19.03.15 is too old" in text
    assert "the cluster runs as local processes instead; for containers: install a newer one: " in text
    assert "--engine local" not in text


@pytest.mark.usefixtures("no_docker")
def test_where_there_is_no_docker_nothing_is_to_mend(progress: Progress, shown: io.StringIO) -> None:
    assert choose_engine(EngineName.auto, progress).name == "local"
    assert shown.getvalue() == "! Docker Engine is not installed: the cluster runs as local processes instead\n"


@pytest.mark.usefixtures("too_old")
def test_containers_that_could_not_be_looked_at_are_told(progress: Progress, shown: io.StringIO, tmp_path: Path) -> None:
    assert compose_if_usable(progress) is None
    assert "! containers not looked at: Docker Engine 19.03.15 is too old" in shown.getvalue()
    assert running_engine(EngineName.auto, make_project(tmp_path), progress).name == "local"
    assert shown.getvalue().count("containers not looked at") == 2


@pytest.mark.usefixtures("no_docker")
def test_without_docker_there_are_no_containers_to_look_at(progress: Progress, shown: io.StringIO) -> None:
    assert compose_if_usable(progress) is None
    assert shown.getvalue() == ""


@pytest.mark.usefixtures("no_docker")
def test_not_installed_is_a_problem_of_its_own() -> None:
    missing = FileNotFoundError(2, "No such file or directory")
    assert isinstance(no_engine(docker_client.DEFAULT_HOST, missing), NotInstalled)
    assert not isinstance(no_engine("unix:///elsewhere", missing), NotInstalled)


def test_names_are_those_of_the_config_and_of_what_runs(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert check_names(project, []) == check_names(project, [], also=["health"]) == ["ray-cpu", "ray-gpu"]
    assert check_names(project, ["ray-worker"], also=["health", "ray-worker"]) == ["ray-worker"]
    with pytest.raises(UsageError, match="there is no node 'ray-worker' in the config"):
        check_names(project, ["ray-worker"])
    with pytest.raises(UsageError, match="there is no node 'ray-workr'") as caught:
        check_names(project, ["ray-workr"], also=["ray-worker"])
    assert caught.value.why == "nodes: ray-cpu, ray-gpu, ray-worker"
    assert caught.value.mend == "did you mean ray-worker?"


def test_local_processes_are_not_said_to_be_published(progress: Progress, shown: io.StringIO) -> None:
    loaded = load(None, {"WS_NETWORK__PUBLISH_ENTRIES": "[0.0.0.0]", "WS_NETWORK__PORT_BASE": "32720"})
    show_warnings(loaded, progress, FakeEngine(name="local"))
    assert "opens the entries" not in shown.getvalue()
    assert "from 32768 on" in shown.getvalue()
    show_warnings(loaded, progress, FakeEngine(name="compose"))
    assert shown.getvalue().count("opens the entries on 0.0.0.0") == 1


def test_the_projects_own_token_is_for_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(options, "directory", str(tmp_path))
    (tmp_path / ".ws").mkdir()
    (tmp_path / ".ws" / "token").write_text("its-own")
    for address in (None, "ray://127.0.0.1:10001", "localhost:6379"):
        assert token_for(address, None).reveal() == "its-own"
    assert not token_for("ray://192.0.2.1:10001", None)
