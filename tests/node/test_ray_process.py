"""The command lines for Ray, and the life of one `ray start` with all that it leaves behind; Ray is a stub."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.node.stage import STUB, soon
from ws.node.ray_process import MARKER, RayProcess, head_command, node_processes, worker_command
from ws.node.settings import read_settings

TOLD = {
    "WS_NODE_NAME": "ray-cpu",
    "RAY_NUM_CPUS": "4",
    "WS_NODE_PORTS": "node_manager=31000,object_manager=31001,runtime_env_agent=31002,dashboard_agent_grpc=31003,"
    "dashboard_agent_listen=31004,metrics_export=31005,transfer=31006,agent=31007,workers=31008-31023",
}
COMMON = [
    "ray",
    "start",
    "--block",
    "--disable-usage-stats",
    "--log-color=false",
    "--node-name=ray-cpu",
    "--node-ip-address=ray-cpu",
    "--num-cpus=4",
    "--num-gpus=0",
    "--min-worker-port=31008",
    "--max-worker-port=31023",
    "--node-manager-port=31000",
    "--object-manager-port=31001",
    "--runtime-env-agent-port=31002",
    "--dashboard-agent-grpc-port=31003",
    "--dashboard-agent-listen-port=31004",
    "--metrics-export-port=31005",
]


def test_the_command_of_a_head() -> None:
    assert head_command(read_settings(TOLD)) == [
        *COMMON,
        "--head",
        "--port=6379",
        "--ray-client-server-port=10001",
        "--dashboard-host=0.0.0.0",
        "--dashboard-port=8265",
    ]


def test_the_command_of_a_worker() -> None:
    assert worker_command(read_settings(TOLD), "ray-gpu:6380") == [*COMMON, "--address=ray-gpu:6380"]


def test_what_an_engine_may_add() -> None:
    told = {
        **TOLD,
        "WS_NODE_ADDRESS": "127.0.1.1",
        "WS_NODE_PORTS": "agent=31007",
        "WS_NUM_GPUS": "1",
        "WS_MEMORY": "1000",
        "WS_OBJECT_STORE_MEMORY": "500",
        "WS_DASHBOARD_HOST": "127.0.0.1",
        "WS_TEMP_DIR": "/tmp/short",
    }
    command = head_command(read_settings(told))
    for flag in (
        "--node-ip-address=127.0.1.1",
        "--num-gpus=1",
        "--memory=1000",
        "--object-store-memory=500",
        "--dashboard-host=127.0.0.1",
        "--temp-dir=/tmp/short",
        "--min-worker-port=0",
        "--max-worker-port=0",
    ):
        assert flag in command
    assert not any("31007" in argument or "node-manager" in argument for argument in command)
    assert not any("--temp-dir" in argument for argument in worker_command(read_settings(told), "a:1"))


class Place:
    """Where the stub writes down what it starts, and what has been started of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[RayProcess] = []

    def start(self, stub: str = "", instance: str = "one") -> RayProcess:
        environ = {**os.environ, "STUB_RAY": stub, "STUB_RAY_FOLDER": str(self.folder)}
        command = [sys.executable, str(STUB), "start", "--node-name=ray-cpu"]
        self.started.append(RayProcess(command, instance, environ))
        return self.started[-1]

    def notes(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def pids(self) -> set[int]:
        return {note["pid"] for note in self.notes()}

    def pid_of(self, kind: str) -> int:
        return int(next(note["pid"] for note in self.notes() if note.get("child") == kind))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "calls").touch()
    made = Place(tmp_path)
    yield made
    for ray in made.started:
        ray.stop(politely=False)


def up(ray: RayProcess) -> RayProcess:
    assert ray.started.wait(30), ray.tail()
    return ray


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_it_knows_when_ray_is_up_and_that_it_lives(place: Place) -> None:
    ray = up(place.start())
    assert ray.ended() is None
    assert ray.tail() == ["Ray runtime started."]
    assert place.notes()[0]["instance"] == "one"


def test_what_ray_needs_of_its_environment_is_there_and_an_engine_may_say_otherwise(place: Place) -> None:
    environ = {**os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "7"}
    show = "import os; print(os.environ['GRPC_ENABLE_FORK_SUPPORT'], os.environ['AUTOSCALER_UPDATE_INTERVAL_S'])"
    ray = RayProcess([sys.executable, "-c", show], "one", environ)
    place.started.append(ray)
    soon("its end", lambda: ray.ended() is not None)
    assert ray.tail() == ["0 7"]


def test_it_knows_when_ray_has_ended_and_what_it_said(place: Place) -> None:
    ray = place.start("fail=1")
    soon("the end of it", ray.ended)
    assert ray.ended() == "`ray start` ended with exit code 1"
    assert ray.tail() == ["this start fails"]
    assert not ray.started.is_set()


def test_the_tail_is_the_last_lines_without_blank_ones(tmp_path: Path) -> None:
    ray = RayProcess([sys.executable, "-c", "for n in range(40): print(n); print()"], "one", os.environ)
    soon("the end of it", ray.ended)
    assert ray.tail() == [str(number) for number in range(25, 40)]
    ray.stop()


def test_a_vital_process_that_ends_is_the_end_of_the_node(place: Place) -> None:
    ray = up(place.start("vital"))
    assert ray.ended() is None
    os.kill(place.pid_of("raylet"), signal.SIGKILL)
    soon("the end of it", ray.ended)
    assert ray.ended() == "a vital Ray process (raylet or GCS) has ended"


@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("stub", ["family vital", "family vital deaf"])
def test_stop_ends_every_process_of_the_node(place: Place, stub: str, politely: bool) -> None:
    ray = up(place.start(stub))
    pids = place.pids()
    assert len(pids) == 4
    assert all(alive(pid) for pid in pids)
    assert {os.getsid(place.pid_of("same session")), os.getsid(place.pid_of("own session"))} > {place.notes()[0]["pid"]}
    ray.stop(politely)
    assert not any(alive(pid) for pid in pids)


def test_stop_ends_what_is_left_of_a_node_that_has_died(place: Place) -> None:
    ray = up(place.start("family"))
    os.kill(place.notes()[0]["pid"], signal.SIGKILL)
    soon("the end of it", ray.ended)
    assert alive(place.pid_of("same session"))
    assert alive(place.pid_of("own session"))
    ray.stop()
    assert not any(alive(pid) for pid in place.pids())


def test_stop_leaves_other_nodes_alone(place: Place) -> None:
    with ExitStack() as ends:
        one, other = up(place.start("family", "one")), up(place.start("", "other"))
        raylet = place.folder / "raylet"
        raylet.symlink_to("/bin/sleep")
        foreign = ends.enter_context(psutil.Popen([str(raylet), "600"], env={**os.environ, MARKER: "one and more"}))
        ends.callback(foreign.kill)
        one.stop()
        assert other.ended() is None
        assert alive(foreign.pid)


def test_stopping_twice_does_no_harm(place: Place) -> None:
    ray = up(place.start())
    ray.stop()
    ray.stop(politely=False)
    assert ray.ended() == "`ray start` ended with exit code -15"


def test_the_processes_of_a_node_are_told_with_their_names(place: Place) -> None:
    ray = up(place.start("family vital"))
    session = place.notes()[0]["pid"]
    found = dict(node_processes(ray.instance, session))
    assert set(found) == place.pids()
    assert {"raylet", "same session", "own session"} < set(found.values())
    assert node_processes("another", 2**30) == []
