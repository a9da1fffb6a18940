"""`ws verify` against one real cluster of this machine: a head and a worker, with a token."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.node.stage import soon
from tests.plain_ray import plain_ray_environ
from ws.node.ray_process import RayProcess, head_command, worker_command
from ws.node.secret import Secret
from ws.node.settings import Settings, read_settings
from ws.verify.outside import verify
from ws.verify.outside_cluster import Address, Outside
from ws.verify.outside_local import NO_TOKEN, Credentials
from ws.verify.verdict import Check, Report, ScenarioResult, Verdict

pytestmark = [pytest.mark.long]

HEAD, WORKER, GCS = "127.0.18.1", "127.0.18.2", 21800
DASHBOARD, CLIENT = GCS + 1, GCS + 2
TOKEN = Credentials(Secret("0123456789abcdef" * 4), "the test's token")
BLOCK = ("node_manager", "object_manager", "runtime_env_agent", "dashboard_agent_grpc", "dashboard_agent_listen")


@dataclass(frozen=True)
class Cluster:
    head: RayProcess
    worker: RayProcess


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Ended by the processes that it started. A short folder: the path of a socket in it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ws-") as folder, ExitStack() as started:
        environ = plain_ray_environ(**TOKEN.environment())

        def start(command: list[str]) -> RayProcess:
            ray = RayProcess(command, f"test of verify: {command[-1]}", environ)
            started.callback(ray.stop)

            def up() -> bool:
                assert ray.ended() is None, ray.tail()
                return ray.started.is_set()

            soon("Ray", up, timeout=120)
            return ray

        head = start(head_command(settings("verify-head", HEAD, GCS + 10, folder)))
        yield Cluster(head, start(worker_command(settings("verify-worker", WORKER, GCS + 20, folder), f"{HEAD}:{GCS}")))


def settings(name: str, address: str, first: int, folder: str) -> Settings:
    return read_settings(
        {
            "WS_NODE_NAME": name,
            "WS_NODE_ADDRESS": address,
            "WS_NODE_PORTS": ",".join(f"{kind}={first + place}" for place, kind in enumerate(BLOCK)),
            "WS_DASHBOARD_HOST": "127.0.0.1",
            "WS_TEMP_DIR": f"{folder}/ray",
            "WS_OBJECT_STORE_MEMORY": str(150 * 1024**2),
            "RAY_HEAD_PORT": str(GCS),
            "RAY_DASHBOARD_PORT": str(DASHBOARD),
            "RAY_CLIENT_PORT": str(CLIENT),
        }
    )


def verified(address: str, credentials: Credentials = TOKEN, *names: str, window: float = 5.0) -> Report:
    dashboard = f"http://127.0.0.1:{DASHBOARD}"
    return verify(Outside(Address.parse(address), credentials, window, dashboard), names, lambda *_: None)


def troubles(report: Report) -> list[str]:
    """What did not pass, for the error of a test."""
    checks = [check for result in report.scenarios for check in result.checks if check.verdict is not Verdict.PASS]
    return [f"{check.what}: {check.evidence}" for check in checks] + (
        [report.about["not tried"]] if "not tried" in report.about else []
    )


def causes(report: Report) -> set[str]:
    assert report.verdict is Verdict.FAIL
    return {cause.key for result in report.scenarios for check in result.checks for cause in check.causes}


def test_a_cluster_that_works_passes_by_ray_client(cluster: Cluster) -> None:
    report = verify(Outside(Address.parse(f"ray://{HEAD}:{CLIENT}"), TOKEN, 5.0), [], lambda *_: None)
    assert troubles(report) == []
    names = {"verify-head", "verify-worker"}
    assert {(link.source, link.target) for link in report.links} == {(a, b) for a in names for b in names - {a}}
    assert {node.name for node in report.picture if node.role in ("head", "worker")} == names
    assert set(report.logs) == names
    assert TOKEN.secret.reveal() not in repr(report)


def test_a_cluster_that_works_passes_by_its_gcs(cluster: Cluster) -> None:
    report = verified(f"{HEAD}:{GCS}")
    assert troubles(report) == []
    assert "ray-client" not in {result.name for result in report.scenarios}


def test_one_scenario_runs_with_those_that_it_builds_upon(cluster: Cluster) -> None:
    report = verified(f"{HEAD}:{GCS}", TOKEN, "dashboard")
    assert [result.name for result in report.scenarios] == ["address", "token", "versions", "dashboard"]
    assert troubles(report) == []


def test_without_a_window_stability_is_inconclusive(cluster: Cluster) -> None:
    report = verified(f"{HEAD}:{GCS}", TOKEN, "stability", window=0.0)
    assert (report.verdict, report.exit_code) == (Verdict.INCONCLUSIVE, 3)
    assert report.scenarios[-1].checks[0].evidence.startswith("not watched")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (f"ray://{HEAD}:{GCS}", "wrong-port-gcs"),
        (f"{HEAD}:{CLIENT}", "wrong-port-client"),
        (f"ray://127.0.0.1:{DASHBOARD}", "wrong-port"),
    ],
)
def test_another_port_of_the_cluster_is_told_apart(cluster: Cluster, address: str, key: str) -> None:
    assert causes(verified(address)) == {key}


@pytest.mark.parametrize(
    ("credentials", "key"), [(NO_TOKEN, "token-missing"), (Credentials(Secret("wrong"), "another"), "token-wrong")]
)
@pytest.mark.parametrize("address", [f"ray://{HEAD}:{CLIENT}", f"{HEAD}:{GCS}"])
def test_without_the_right_token_it_says_so_in_seconds(
    cluster: Cluster, address: str, credentials: Credentials, key: str
) -> None:
    report = verified(address, credentials)
    assert causes(report) == {key}
    assert "not tried" in report.about


def test_the_dashboard_of_nobody_is_named(cluster: Cluster) -> None:
    outside = Outside(Address.parse(f"{HEAD}:{GCS}"), TOKEN, 5.0, f"http://{HEAD}:{GCS}")
    assert causes(verify(outside, ["dashboard"], lambda *_: None)) == {"dashboard-down"}


def test_a_node_that_dies_meanwhile_fails_the_run(cluster: Cluster) -> None:
    """The last test: it takes the worker."""

    def on_check(result: ScenarioResult, check: Check) -> None:
        if result.name == "nodes" and check.what == "verify-worker works":
            cluster.worker.stop(politely=False)

    outside = Outside(Address.parse(f"{HEAD}:{GCS}"), TOKEN, 120.0)
    report = verify(outside, ["nodes", "stability"], on_check)
    assert causes(report) == {"node-dead"}
    assert report.seconds < 110
