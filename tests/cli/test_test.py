"""`ws test` as a user types it: wrong use at once, and on a real cluster what comes up, what stays, what goes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import Sandbox, docker, not_passed
from ws.cli import run
from ws.resources import find
from ws.verify.scenarios.all import ALL
from ws.wait import NotYet, wait_for

TWO_MINUTES = 120  # seconds; Ray marks a node dead that it can't reach after 15 to 65


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--up", "--down"], "--up and --down exclude each other"),
        (["--down", "--head", "ray-cpu:6379"], "--head means nothing with --down"),
        (["--up", "--scenario", "links"], "--scenario means nothing with --up"),
        (["--down", "--timeout", "60"], "--timeout means nothing with --down"),
        (["--logs", "--json"], "--json means nothing with --logs"),
        (["--list", "--timeout", "60"], "--timeout means nothing with --list"),
        (["--scenario", "linkz"], "did you mean links?"),
        (["--head", "nonsense"], "is not host:port"),
        (["--up", "--head", "ray-cpu:10001"], "the GCS entry is ray-cpu:6379"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(
    argv: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    assert run(["-C", str(tmp_path), "test", *argv]) == 2
    assert told in capsys.readouterr().err


def test_the_scenarios_are_listed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", "--list", "--json"]) == 0
    names = [scenario["name"] for scenario in json.loads(capsys.readouterr().out)]
    assert (names[0], names[-1], len(names)) == ("self-election", "stability", 11)


def test_the_worker_is_judged_beyond_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    assert run(["-C", str(tmp_path), "test", "--scenario", "external-worker"]) == 4
    assert "stability is run, too" in capsys.readouterr().err
    assert run(["-C", str(tmp_path), "test", "--scenario", "external-worker", "--scenario", "stability"]) == 4
    assert "stability is run, too" not in capsys.readouterr().err


def present(sandbox: Sandbox) -> list[str]:
    label = f"label=org.cslr-exp-platform.test={sandbox.name}"
    return sorted(docker("ps", "--all", "--filter", label, "--format", "{{.Names}}").split())


@pytest.mark.docker
def test_without_a_cluster(tmp_path: Path) -> None:
    sandbox = Sandbox.make(tmp_path, 10)
    done = sandbox.ws("test", "--up", check=False)
    assert done.returncode == 4
    assert "no cluster of this project is up" in done.stderr
    assert "ws test --with-cluster" in done.stderr
    assert sandbox.ws("test", "--logs", check=False).returncode == 4
    assert sandbox.ws("test", "--down").returncode == 0


@pytest.mark.docker
@pytest.mark.long
def test_with_a_cluster_of_its_own_to_the_end(tmp_path: Path) -> None:
    sandbox = Sandbox.make(tmp_path, 11)
    try:
        done = sandbox.ws("test", "--with-cluster", "--scenario", "services")
        assert "✓ pass" in done.stdout
        assert docker("ps", "--all", "--filter", f"name=^{sandbox.name}-", "--format", "{{.Names}}") == ""
        assert sandbox.name not in docker("network", "ls", "--format", "{{.Name}}")
    finally:
        sandbox.ws("test", "--down")
        sandbox.ws("down")


@pytest.mark.docker
@pytest.mark.long
def test_a_cluster_that_was_brought_up_stays_where_the_start_fails(tmp_path: Path) -> None:
    sandbox = Sandbox.make(tmp_path, 11)
    try:
        done = sandbox.ws("test", "--with-cluster", "--up", "--head", "ray-cpu:1", check=False)
        assert done.returncode == 1
        assert "the cluster stays; `ws down` removes it" in done.stderr
        assert {row["name"] for row in sandbox.status()["nodes"]} == {"health", "ray-cpu", "ray-gpu"}
    finally:
        sandbox.ws("down")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox.make(tmp_path_factory.mktemp("cluster"), 10)
    try:
        sandbox.ws("up")
        yield sandbox
    finally:
        sandbox.ws("down")
        assert present(sandbox) == []


@pytest.mark.docker
@pytest.mark.long
class TestOnACluster:
    @pytest.fixture
    def containers(self, cluster: Sandbox) -> list[str]:
        return [f"{cluster.name}-test-client", f"{cluster.name}-test-worker"]

    def test_a_worker_joins_by_another_entry_and_stays(self, cluster: Sandbox, containers: list[str]) -> None:
        entry = f"ray-gpu:{cluster.base + 94}"
        done = cluster.ws("test", "--up", "--head", entry)
        assert f"test-ray-worker joined by {entry} and works; test-ray-client connected" in done.stdout
        joined = time.monotonic()
        assert present(cluster) == containers
        log = docker("logs", containers[1])
        assert "Mode: worker" in log
        assert f"HEAD_ADDRESS: {entry}" in log
        assert "✓ Ray client connected" in docker("logs", containers[0])
        assert "test-ray-client | ✓ Ray client connected" in cluster.ws("test", "--logs").stdout
        assert [row["name"] for row in json.loads(cluster.ws("ps", "--json").stdout)] == ["health", "ray-cpu", "ray-gpu"]

        def beyond() -> None:
            status = docker("exec", cluster.container("ray-cpu"), "ray", "status")
            assert len(re.findall(r"^ 1 node_", status, re.MULTILINE)) == 3, status
            if time.monotonic() < joined + TWO_MINUTES:
                raise NotYet

        wait_for("two minutes to pass", beyond, timeout=TWO_MINUTES + 20, interval=5)

    def test_what_an_earlier_run_left_is_removed_and_told(self, cluster: Sandbox, containers: list[str]) -> None:
        cluster.ws("test", "--up")
        before = docker("inspect", "--format", "{{.Id}}", *containers)
        done = cluster.ws("test", "--up")
        assert "left over from an earlier run, and removed now: test-ray-client, test-ray-worker" in done.stderr
        assert docker("inspect", "--format", "{{.Id}}", *containers) != before

    def test_down_takes_the_tests_containers_alone(self, cluster: Sandbox) -> None:
        cluster.ws("test", "--down")
        assert present(cluster) == []
        assert f"{cluster.name}-test" not in docker("network", "ls", "--format", "{{.Name}}").split()
        assert {row["name"] for row in cluster.status()["nodes"]} == {"health", "ray-cpu", "ray-gpu"}

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            ("ray-cpu:{unused}", "refuses the connection"),
            ("ray-cpu:{health}", "is a health server"),
            ("ray-gpux:{head}", "did you mean ray-gpu?"),
        ],
    )
    def test_an_entry_that_nobody_answers_fails_at_once(self, cluster: Sandbox, entry: str, told: str) -> None:
        done = cluster.ws("test", "--up", "--head", entry.format(unused=cluster.base + 99, **cluster.entries), check=False)
        assert done.returncode == 1
        assert told in done.stderr
        assert re.search(r"ray-\w+ leads \(epoch \d+\)", done.stderr)
        assert f"entries: ray-cpu:{cluster.base + 91}, ray-gpu:{cluster.base + 94}" in done.stderr
        assert present(cluster) == []

    def test_a_changed_config_is_told(self, cluster: Sandbox) -> None:
        environment = {"WS_SERVICES__RAY__GPU__HEAD_PORT": str(cluster.base + 97)}
        done = cluster.ws("test", "--up", "--head", "ray-cpu:1", check=False, env=environment)
        assert "ray-gpu was started with other settings" in done.stderr
        assert f"RAY_HEAD_PORT is '{cluster.base + 94}', now '{cluster.base + 97}'" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "container"),
        [
            (["--up"], "client"),
            (["--scenario", "stability"], "worker"),
            (["--scenario", "head-override"], "joiner"),
        ],
    )
    def test_ctrl_c_leaves_nothing_of_the_test(self, cluster: Sandbox, arguments: list[str], container: str) -> None:
        """In the middle of Compose's own work, once the worker is about to join, and while a joiner comes."""
        argv = [sys.executable, "-m", "ws", "-C", str(cluster.folder), "test", *arguments]
        process = subprocess.Popen(argv, env={**os.environ, "NO_COLOR": "1"}, stderr=subprocess.PIPE, text=True)

        def reached() -> None:
            if f"{cluster.name}-test-{container}" not in present(cluster):
                raise NotYet

        wait_for(f"the {container}", reached, timeout=90, interval=0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
        assert process.returncode == 130, err
        assert "still there" not in err
        assert present(cluster) == []

    def test_a_healthy_cluster_passes_every_scenario_in_time(self, cluster: Sandbox) -> None:
        done = cluster.ws("test", "--json", check=False)
        report = json.loads(done.stdout)
        made = {scenario["name"]: scenario for scenario in report["scenarios"]}
        assert list(made) == ["start", *(scenario.name for scenario in ALL)]
        assert (report["verdict"], done.returncode) == ("pass", 0), not_passed(report)
        assert all(made[scenario.name]["seconds"] < scenario.deadline for scenario in ALL)
        assert present(cluster) == []

    def test_a_run_leaves_its_report_and_no_containers(self, cluster: Sandbox) -> None:
        done = cluster.ws("test", "--scenario", "injection", "--scenario", "services", "--json")
        report = json.loads(done.stdout)
        assert report["verdict"] == "pass", done.stdout
        assert [scenario["name"] for scenario in report["scenarios"]] == ["start", "injection", "services"]
        assert {"project", "address", "ray", "image", "machine", "docker"} <= report["about"].keys()
        assert "drift" not in report["about"]
        latest = cluster.folder / ".ws" / "runs" / "latest"
        kept = {path.name for path in latest.iterdir()}
        assert kept >= {"report.json", "junit.xml", "report.html", "config.yaml", "cluster-test.compose.yaml", "logs"}
        token = cluster.token_path.read_text()
        assert all(token not in path.read_text() for path in latest.rglob("*") if path.is_file())
        assert present(cluster) == []

    def test_kept_containers_stay(self, cluster: Sandbox, containers: list[str]) -> None:
        done = cluster.ws("test", "--scenario", "path", "--keep")
        assert present(cluster) == containers
        assert "`ws test --down` removes it" in done.stderr
        assert "✓ pass" in done.stdout

    def test_a_client_that_does_not_connect_names_the_cause(self, cluster: Sandbox, containers: list[str]) -> None:
        name = "cluster-test.compose.yaml.jinja2"
        entry = json.dumps([{"name": "ray-cpu", "client": cluster.entries["head"]}])
        packaged = find(cluster.folder, f"template/{name}").read_text()
        template = cluster.folder / "template" / name
        template.parent.mkdir()
        template.write_text(packaged.replace("{{ client.entries | quoted }}", f"'{entry}'"))
        try:
            done = cluster.ws("test", "--up", check=False)
        finally:
            shutil.rmtree(template.parent)
        assert done.returncode == 1
        assert "tests of test-ray-client failed" in done.stderr
        assert f"cause: Ray Client on test-ray-client was given ray://ray-cpu:{cluster.entries['head']}" in done.stderr
        assert "left as it is, to be looked at: test-ray-client, test-ray-worker" in done.stderr
        assert present(cluster) == containers
        cluster.ws("test", "--down")

    def test_a_worker_that_was_killed_is_not_taken_for_its_successor(self, cluster: Sandbox, containers: list[str]) -> None:
        cluster.ws("test", "--up")
        docker("rm", "--force", containers[1])
        assert "test-ray-worker joined" in cluster.ws("test", "--up").stdout
        cluster.ws("test", "--down")
