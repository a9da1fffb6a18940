"""Processes by their arguments, as Ray 2.60 starts them; real ones are found in test_scan.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from ws.cluster.endpoint import Endpoint
from ws.cluster.find_processes import find_by_processes
from ws.cluster.hints import Hint
from ws.node.secret import Secret

SESSION = "session_2026-11-21_15-07-30_451108_32512"
CLUSTER, NODE = "9a" * 28, "c6" * 28


@dataclass
class Uids:
    real: int


GCS = [
    "/site-packages/ray/core/src/ray/gcs/gcs_server",
    f"--log_dir=/tmp/ray/{SESSION}/logs",
    "--gcs_server_port=6379",
    "--node-ip-address=192.0.2.2",
    f"--session-name={SESSION}",
    f"--session-dir=/tmp/ray/{SESSION}",
    f"--node-id={NODE}",
]
RAYLET = [
    "/site-packages/ray/core/src/ray/raylet/raylet",
    f"--raylet_socket_name=/tmp/ray/{SESSION}/sockets/raylet",
    "--node_ip_address=192.0.2.2",
    f"--node_id={NODE}",
    "--python_worker_command=/bin/python default_worker.py --gcs-address=wrong:1 --webui=127.0.0.1:8266 OPTIONS",
    "--gcs-address=192.0.2.2:6379",
    f"--session-name={SESSION}",
    f"--cluster-id={CLUSTER}",
]
DASHBOARD = [
    "/bin/python",
    "/site-packages/ray/dashboard/dashboard.py",
    "--host=0.0.0.0",
    "--port=8265",
    f"--session-dir=/tmp/ray/{SESSION}",
    "--gcs-address=192.0.2.2:6379",
    f"--cluster-id-hex={CLUSTER}",
]
CLIENT = ["/bin/python", "-m", "ray.util.client.server", "--address=192.0.2.2:6379", "--host=192.0.2.2", "--port=10001"]


@dataclass
class Process:
    """As much of a psutil.Process as is looked at; its own pid, so that its network namespace is ours."""

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    uid: int = field(default_factory=os.getuid)
    state: str = psutil.STATUS_SLEEPING
    pid: int = field(default_factory=os.getpid)

    def cmdline(self) -> list[str]:
        return self.argv

    def status(self) -> str:
        return self.state

    def uids(self) -> Uids:
        return Uids(self.uid)

    def environ(self) -> dict[str, str]:
        return self.environment


class Gone(Process):
    def cmdline(self) -> list[str]:
        raise psutil.NoSuchProcess(self.pid)


def found(*processes: Process) -> list[Hint]:
    return find_by_processes(processes)


def test_a_gcs_names_its_session_and_listens_everywhere() -> None:
    (hint,) = found(Process(GCS))
    assert (hint.session, hint.node_id, hint.runs, hint.claims) == (SESSION, NODE, True, True)
    assert hint.endpoints == (Endpoint("192.0.2.2", 6379), Endpoint("127.0.0.1", 6379))
    assert hint.folder == Path("/tmp/ray") / SESSION


def test_a_raylet_names_its_cluster_and_both_its_addresses() -> None:
    (hint,) = found(Process(RAYLET))
    assert (hint.session, hint.cluster_id, hint.node_id, hint.runs) == (SESSION, CLUSTER, NODE, True)
    assert hint.endpoints == (Endpoint("192.0.2.2", 6379), Endpoint("127.0.0.1", 8266))


def test_a_dashboard_and_a_ray_client() -> None:
    dashboard, client = found(Process(DASHBOARD), Process(CLIENT))
    assert (dashboard.session, dashboard.cluster_id, dashboard.runs) == (SESSION, CLUSTER, False)
    assert Endpoint("127.0.0.1", 8265) in dashboard.endpoints
    assert set(client.endpoints) == {Endpoint("192.0.2.2", 6379), Endpoint("192.0.2.2", 10001), Endpoint("127.0.0.1", 10001)}


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["bash"],
        ["vim", "/site-packages/ray/core/src/ray/gcs/gcs_server"],
        ["grep", "-r", "--gcs-address=1.2.3.4:6379", "ray/dashboard/dashboard.py"],
        [*CLIENT, "--mode=specific-server"],
    ],
)
def test_what_is_no_part_of_a_cluster(argv: list[str]) -> None:
    assert found(Process(argv)) == []


def test_processes_that_have_ended_are_passed_over() -> None:
    assert found(Gone(GCS), Process(GCS, state=psutil.STATUS_ZOMBIE)) == []


def test_one_without_the_arguments_that_are_looked_for() -> None:
    (hint,) = found(Process(["/opt/gcs_server", "--gcs_server_port=x", "--session-name"]))
    assert (hint.session, hint.endpoints) == (None, ())


def test_the_own_token_of_a_cluster_that_this_user_started(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("by-file\n")
    by_file = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("by-default")
    by_text = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "by-text"}
    hints = found(
        Process(GCS, by_file),
        Process(GCS, by_text),
        Process(GCS, {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}),
        Process(GCS, by_text, uid=os.getuid() + 1),
        Process(GCS, {"RAY_AUTH_TOKEN": "not in use"}),
        Process(GCS, {**by_file, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "gone")}),
    )
    assert [hint.token for hint in hints] == [
        *(Secret("by-file"), Secret("by-text"), Secret("by-default")),
        *(None, None, None),
    ]


def test_the_entries_of_a_candidate_that_runs_here() -> None:
    """A worker's relays are no processes of Ray; its agent knows them."""
    environment = {"WS_BIND_HOST": "127.0.0.1,127.0.1.2", "RAY_HEAD_PORT": "6380", "RAY_DASHBOARD_PORT": "no port"}
    agent = ["/bin/python3", "-u", "/opt/ws/node/__main__.py", "agent"]
    own, strange = found(Process(agent, environment), Process(agent, environment, uid=os.getuid() + 1))
    assert own.endpoints == (Endpoint("127.0.0.1", 6380), Endpoint("127.0.1.2", 6380))
    assert (own.claims, own.runs, strange.endpoints) == (True, False, ())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every process is in another network namespace than this one."""
    monkeypatch.setattr(Path, "readlink", lambda path: Path(f"net:[{'1' if 'self' in str(path) else '2'}]"))
    yield


@pytest.mark.usefixtures("elsewhere")
def test_in_a_container_loopback_and_names_mean_something_else() -> None:
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "its own"}
    gcs, raylet = found(Process(GCS, environment), Process([*RAYLET[:-3], "--gcs-address=ray-cpu:6379", *RAYLET[-2:]]))
    assert (gcs.endpoints, gcs.claims, gcs.token, gcs.folder) == ((Endpoint("192.0.2.2", 6379),), False, None, None)
    assert (raylet.endpoints, raylet.session, raylet.runs) == ((), SESSION, True)
