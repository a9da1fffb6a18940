"""Images: which are needed, which are missing, and the ways that are left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from tests.projects import make_project
from ws.config.plan import official_image
from ws.engine.images import BASE_IMAGE, PYTHON, build, images, missing, pull
from ws.engine.machine import Machine
from ws.errors import CommandFailed, EnvironmentProblem
from ws.process import Completed

PLAIN = Machine(cores=4, memory=64 * 2**30, gateway="172.17.0.1", gpu=False)
WITH_GPU = Machine(cores=4, memory=64 * 2**30, gateway="172.17.0.1", gpu=True)
NAMES = ["ray-cpu", "ray-gpu"]


class FakeImages:
    """An engine's images by name; what else a client can do is not asked."""

    def __init__(self, *there: str) -> None:
        self.images = self
        self.there = there

    def get(self, name: str) -> object:
        if name not in self.there:
            raise docker.errors.ImageNotFound(f"no such image: {name}")
        return object()


class FakeRunner:
    """Takes down what it should run, but for a look at the local base; fails with `output` where there is one."""

    def __init__(self, output: str = "", base_python: str = PYTHON) -> None:
        self.calls: list[list[str]] = []
        self.output = output
        self.base_python = base_python

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        if argv[:2] == ["docker", "run"]:
            return Completed(0, f"{self.base_python}\n", "")
        self.calls.append(list(argv))
        if self.output:
            raise CommandFailed(argv, 1, self.output)
        return Completed(0, "", "")


def client(*there: str) -> Any:
    return FakeImages(*there)


def test_each_image_is_named_once_and_health_comes_first(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert images(project, NAMES, PLAIN) == ["python:3.12-alpine", official_image()]
    assert images(project, NAMES, WITH_GPU) == ["python:3.12-alpine", official_image(), official_image(gpu=True)]
    assert images(project, ["ray-cpu"], WITH_GPU) == ["python:3.12-alpine", official_image()]


def test_missing_ones_are_found(tmp_path: Path) -> None:
    assert missing(client("a:1"), ["a:1", "b:1"]) == ["b:1"]


@pytest.mark.docker
def test_missing_ones_are_found_on_a_real_engine(docker_client: docker.DockerClient) -> None:
    there = docker_client.images.list()[0].tags[0]
    assert missing(docker_client, [there, "d-test/no-such-image:1"]) == ["d-test/no-such-image:1"]


def test_a_pull_that_fails_says_which_ways_are_left() -> None:
    runner = FakeRunner("dial tcp: lookup registry: no such host")
    with pytest.raises(EnvironmentProblem) as caught:
        pull("my/ray:1", runner)
    assert runner.calls == [["docker", "pull", "--quiet", "my/ray:1"]]
    assert "my/ray:1 is not on this machine and can't be pulled" in caught.value.what
    assert "no such host" in str(caught.value.why)
    for way in ("ws image build", "WS_SERVICES__RAY__IMAGE", "--engine local"):
        assert way in str(caught.value.mend)


def test_the_node_image_is_built_under_the_configs_name(tmp_path: Path) -> None:
    runner = FakeRunner()
    told: list[str] = []
    project = make_project(tmp_path, "services: {ray: {image: 'mine:2', cpu: {}, gpu: {image: 'theirs:3'}}}")
    built = build(project, client("python:3.12-alpine"), PLAIN, told.append, runner)
    assert built == told == ["mine:2", "theirs:3"]
    for call, image in zip(runner.calls, built, strict=True):
        assert call[:2] == ["docker", "build"]
        assert call[call.index("--tag") + 1] == image
        assert f"RAY_VERSION={official_image().split(':')[1].split('-')[0]}" in call
        assert (Path(call[-1]) / "Dockerfile").exists()


def test_the_health_image_is_built_only_where_it_is_missing_and_the_base_used_where_it_is_there(tmp_path: Path) -> None:
    runner = FakeRunner()
    project = make_project(tmp_path)
    assert build(project, client(BASE_IMAGE), PLAIN, lambda _: None, runner) == [official_image(), "python:3.12-alpine"]
    assert all(f"BASE_IMAGE={BASE_IMAGE}" in call for call in runner.calls)
    again = FakeRunner()
    assert build(project, client("python:3.12-alpine"), PLAIN, lambda _: None, again) == [official_image()]
    assert BASE_IMAGE not in json.dumps(again.calls)


def test_a_node_image_has_the_python_that_ray_client_needs(tmp_path: Path) -> None:
    runner = FakeRunner()
    build(make_project(tmp_path), client("python:3.12-alpine"), PLAIN, lambda _: None, runner, python="3.13")
    assert "BASE_IMAGE=python:3.13-slim-bookworm" in runner.calls[0]


def test_a_local_base_with_another_python_is_for_the_health_server_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    runner = FakeRunner(base_python="3.11")
    build(project, client(BASE_IMAGE), PLAIN, lambda _: None, runner, python="3.13")
    assert "BASE_IMAGE=python:3.13-slim-bookworm" in runner.calls[0]
    assert f"BASE_IMAGE={BASE_IMAGE}" in runner.calls[1]
    failing = FakeRunner("no such host", base_python="3.11")
    with pytest.raises(EnvironmentProblem) as caught:
        build(project, client(BASE_IMAGE), PLAIN, lambda _: None, failing, python="3.13")
    assert f"{BASE_IMAGE}, has Python 3.11, and Ray Client here needs 3.13" in str(caught.value.mend)


def test_the_image_of_gpu_nodes_is_built_where_they_get_gpus(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    there = client("python:3.12-alpine")
    assert build(project, there, PLAIN, lambda _: None, FakeRunner()) == [official_image()]
    assert build(project, there, WITH_GPU, lambda _: None, FakeRunner()) == [official_image(), official_image(gpu=True)]


def test_the_projects_own_dockerfile_wins(tmp_path: Path) -> None:
    (tmp_path / "images" / "ray").mkdir(parents=True)
    runner = FakeRunner()
    build(make_project(tmp_path), client("python:3.12-alpine"), PLAIN, lambda _: None, runner)
    assert runner.calls[0][-1] == str(tmp_path / "images" / "ray")


def test_a_build_that_fails_shows_its_end(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="building rayproject") as caught:
        build(
            make_project(tmp_path),
            client(),
            PLAIN,
            lambda _: None,
            FakeRunner("no matching distribution found for nonsense"),
        )
    assert "nonsense" in str(caught.value.why)
    assert "Dockerfile" in str(caught.value.mend)
