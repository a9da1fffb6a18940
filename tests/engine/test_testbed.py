"""The containers of the cluster test, on real Docker: started, looked at, removed, and what is in their way."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import docker.types
import pytest
import requests

from tests.clusters import Sandbox
from tests.engine.fake_daemon import daemon
from ws.config.load import load
from ws.config.plan import plan
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.testbed import TestBed
from ws.engine.testbed_docker import translated
from ws.engine.testbed_drift import drift
from ws.engine.testbed_head import parse_head
from ws.engine.testbed_look import inspect
from ws.errors import EnvironmentProblem, UsageError

IMAGE_WITHOUT_RAY = "python:3.12-alpine"
PLAN = plan(load(None, {}, {}).config)


@pytest.mark.parametrize("text", ["ray-gpu:6380", " ray-cpu:6379 ", "172.17.0.1:6379", "head.example:1"])
def test_a_head_entry_is_host_and_port(text: str) -> None:
    assert parse_head(text, PLAN) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "ray-gpu", ":6379", "ray-gpu:", "ray-gpu:0", "ray-gpu:65536", "ray://ray-gpu:1", "a:b", "a:²"]
)
def test_what_is_no_host_and_port_is_told_with_the_entries(text: str) -> None:
    with pytest.raises(UsageError, match="is not host:port") as caught:
        parse_head(text, PLAN)
    assert caught.value.why == "entries: ray-cpu:6379, ray-gpu:6380"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ray-cpu:10001", "10001 is the Ray Client port of ray-cpu; the GCS entry is ray-cpu:6379"),
        ("ray-gpu:8266", "8266 is the dashboard's port of ray-gpu; the GCS entry is ray-gpu:6380"),
    ],
)
def test_another_port_of_a_candidate_is_told_with_the_right_one(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_head(text, PLAN)
    assert caught.value.what == told


def project_of(sandbox: Sandbox, **changes: object) -> Project:
    config = load(sandbox.folder / "config.yaml", {}, {"services": {"ray": {"image": IMAGE_WITHOUT_RAY}}, **changes}).config
    return Project(sandbox.folder, config, plan(config))


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    """Of a project without a cluster, and of an image without Ray: both containers start, and end soon."""
    engine = ComposeEngine()
    project = project_of(Sandbox.make(tmp_path, 10))
    bed = TestBed(engine, project)
    try:
        engine.prepare(project)
        yield bed
    finally:
        bed.down()
        engine.client.close()


def test_a_test_that_is_switched_off_says_so(tmp_path: Path) -> None:
    project = project_of(Sandbox.make(tmp_path, 10), cluster_test={"enabled": False})
    with pytest.raises(EnvironmentProblem, match=r"cluster_test\.enabled is false"):
        TestBed(ComposeEngine(), project).require_enabled()


ASKED: dict[str, Callable[[TestBed], object]] = {
    "present": lambda bed: bed.present(),
    "log": lambda bed: bed.log(bed.client),
    "obstacles": lambda bed: bed.obstacles(),
    "missing_image": lambda bed: bed.missing_image(),
    "stop_joiner": lambda bed: bed.stop_joiner(),
    "down": lambda bed: bed.down(),
    "inspect": lambda bed: inspect(bed.engine.client, "any"),
    "drift": lambda bed: drift(bed.engine, bed.project),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_daemon_that_refuses_is_an_error_of_ours(
    ask: Callable[[TestBed], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = {"Version": "29.0.0", "ApiVersion": "1.50"}
    with tempfile.TemporaryDirectory(prefix="ws-t-") as short, daemon(Path(short, "docker.sock"), version) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        bed = TestBed(ComposeEngine(), project_of(Sandbox.make(tmp_path, 10)))
        with pytest.raises(EnvironmentProblem) as caught:
            ask(bed)
        bed.engine.client.close()
    assert "only the version is here" in str(caught.value.why)


def test_a_daemon_that_says_nothing_is_an_error_of_ours() -> None:
    with pytest.raises(EnvironmentProblem, match="refused, or broke off"), translated():
        raise requests.ReadTimeout("60 s")


@pytest.mark.docker
class TestOnDocker:
    def test_client_and_worker_come_and_go_and_nothing_else(self, bed: TestBed) -> None:
        bed.up("ray-gpu:7")
        assert bed.present() == ["test-ray-client", "test-ray-worker"]
        worker = inspect(bed.engine.client, bed.containers[bed.worker])
        assert worker is not None
        assert worker.hostname == "test-ray-worker"
        assert worker.environment["HEAD_ADDRESS"] == "ray-gpu:7"
        assert worker.extra_hosts["health"]
        assert list(worker.addresses) == [bed.project.config.cluster_test.network.name]
        assert bed.down() == []
        assert bed.present() == []
        assert bed.engine.client.networks.list(names=[str(bed.project.config.cluster_test.network.name)]) == []
        assert inspect(bed.engine.client, bed.containers[bed.worker]) is None
        assert bed.down() == []

    def test_the_worker_joins_by_what_the_env_file_says(self, bed: TestBed) -> None:
        assert bed.head() == f"ray-cpu:{bed.project.plan.candidates[0].entry.head}"
        with (bed.project.folder / ".env").open("a", encoding="utf-8") as file:
            file.write("WS_TEST_HEAD_ADDRESS=elsewhere:1\n")
        assert bed.head() == "elsewhere:1"
        assert bed.head("ray-cpu:2") == "ray-cpu:2"

    def test_the_joiner_gets_what_it_is_told_and_is_made_anew_each_time(self, bed: TestBed) -> None:
        for address in ("ray-cpu:1", "ray-gpu:2"):
            bed.start_joiner({"HEAD_ADDRESS": address, "ODD": "a $B ${C}"})
            joiner = inspect(bed.engine.client, bed.containers[bed.joiner])
            assert joiner is not None
            assert (joiner.environment["HEAD_ADDRESS"], joiner.environment["ODD"]) == (address, "a $B ${C}")
            assert joiner.environment["RAY_NUM_CPUS"] == "1"
        assert bed.present() == [bed.joiner]
        bed.stop_joiner()
        bed.stop_joiner()
        assert bed.present() == []

    def test_two_that_remove_it_at_once_do_not_disturb_each_other(self, bed: TestBed) -> None:
        bed.up()
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(lambda _: bed.down(), range(3))) == [[], [], []]
        assert bed.present() == []

    def test_a_paused_container_is_removed(self, bed: TestBed) -> None:
        bed.up()
        bed.engine.client.containers.get(bed.containers[bed.client]).pause()
        seen = inspect(bed.engine.client, bed.containers[bed.client])
        assert seen is not None
        assert seen.state == "paused"
        assert bed.down() == []
        assert bed.present() == []

    def test_nothing_is_in_the_way_of_a_free_machine(self, bed: TestBed) -> None:
        assert bed.obstacles() == []

    def test_a_taken_port_names_its_holder(self, bed: TestBed) -> None:
        port = bed.project.plan.external[1].block.first + 3
        with socket.create_server((bed.engine.machine.gateway, port)):
            [obstacle] = bed.obstacles()
        assert obstacle.kind == "port-taken"
        assert f"port {port}" in obstacle.what
        assert "test-ray-joiner" in obstacle.what
        assert "(pid " in obstacle.what
        assert "network.port_base" in obstacle.mend

    def test_a_subnet_in_use_names_the_network(self, bed: TestBed) -> None:
        subnet = str(bed.project.config.cluster_test.network.subnet)
        pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
        network = bed.engine.client.networks.create("d-test-overlap-10", ipam=pool)
        try:
            [obstacle] = bed.obstacles()
        finally:
            network.remove()
        assert obstacle.kind == "subnet-clash"
        assert "d-test-overlap-10" in obstacle.what
        assert "cluster_test.network.subnet" in obstacle.mend

    def test_a_missing_image_is_named(self, bed: TestBed) -> None:
        assert bed.missing_image() is None
        other = project_of(Sandbox(bed.project.folder, "ws-test-10", 0), services={"ray": {"image": "no-such/image:1"}})
        assert TestBed(bed.engine, other).missing_image() == "no-such/image:1"

    def test_what_drifted_is_told_in_words(self, bed: TestBed) -> None:
        engine, project = bed.engine, bed.project
        try:
            engine.up(project, ["ray-cpu"])
            assert drift(engine, project) == ["ray-gpu is in the configuration, and there is no container for it"]
            env = {"HF_TOKEN": "hunter2"}
            ray = {"image": IMAGE_WITHOUT_RAY, "cpu": {"cpus": 2, "image": "other:1", "env": env}}
            changed = project_of(Sandbox(project.folder, "ws-test-10", 0), services={"ray": ray})
            [of_cpu] = [line for line in drift(engine, changed) if line.startswith("ray-cpu ")]
            assert f"its image is {IMAGE_WITHOUT_RAY}, now other:1" in of_cpu
            assert "RAY_NUM_CPUS is '4', now '2'" in of_cpu
            assert "HF_TOKEN is missing, now ***" in of_cpu
            assert "hunter2" not in of_cpu
        finally:
            engine.down(project)
