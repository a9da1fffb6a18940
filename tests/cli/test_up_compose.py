"""`ws up` on real Docker with real Ray: what a user gets, and what happens when parts of it die."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.clusters import Sandbox, docker, leader_is
from ws.wait import NotYet, wait_for

pytestmark = [pytest.mark.docker]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox.make(tmp_path_factory.mktemp("cluster"), 1)
    try:
        sandbox.ws("up")
        yield sandbox
    finally:
        sandbox.ws("down")


def exported_by_up(sandbox: Sandbox) -> dict[str, str]:
    """The variables of the line that `ws up` tells users to paste."""
    [line] = [line for line in sandbox.ws("up").stdout.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for word in shlex.split(line)[1:])


def test_up_prints_every_entry_and_brings_two_nodes_with_eight_cpus(cluster: Sandbox) -> None:
    again = cluster.ws("up")
    for entry in (
        f"http://127.0.0.1:{cluster.entries['dashboard']}",
        f"ray://127.0.0.1:{cluster.entries['client']}",
        f"127.0.0.1:{cluster.entries['head']}",
        f"http://127.0.0.1:{cluster.entries['health']}",
        f"RAY_AUTH_TOKEN_PATH={cluster.token_path}",
    ):
        assert entry in again.stdout
    status = docker("exec", cluster.container("ray-cpu"), "ray", "status")
    assert len(re.findall(r"^ 1 node_", status, re.MULTILINE)) == 2
    assert "/8.0 CPU" in status
    assert "/8.00GiB memory" in status


def test_a_login_shell_and_a_root_shell_find_ray_and_the_token(cluster: Sandbox) -> None:
    login = docker("exec", cluster.container("ray-gpu"), "bash", "-lc", "env -u X ray status")
    root = docker("exec", "--user", "root", cluster.container("ray-gpu"), "su", "-", "ray", "-c", "ray status")
    assert "/8.0 CPU" in login
    assert "/8.0 CPU" in root


def test_the_logs_tell_who_is_what(cluster: Sandbox) -> None:
    logs = {name: cluster.ws("logs", name).stdout for name in ("ray-cpu", "ray-gpu", "health")}
    modes = sorted(re.findall(r"^Mode: (\w+)$", logs["ray-cpu"] + logs["ray-gpu"], re.MULTILINE))
    assert modes == ["head", "worker"], logs
    assert re.search(r"^Hostname: ray-cpu$", logs["ray-cpu"], re.MULTILINE)
    assert "✓" in logs["health"]
    token = cluster.token_path.read_text()
    assert all(token not in log for log in logs.values())


def test_ps_status_and_exec(cluster: Sandbox) -> None:
    states = json.loads(cluster.ws("ps", "--json").stdout)
    assert [(state["name"], state["state"]) for state in states] == [
        ("health", "running"),
        ("ray-cpu", "running"),
        ("ray-gpu", "running"),
    ]
    status = cluster.status()
    assert status["problems"] == []
    assert sorted(row["role"] for row in status["nodes"]) == ["head", "health", "worker"]
    assert status["resources"]["CPU"]["total"] == 8
    assert "leads for" in cluster.ws("status").stdout
    assert cluster.ws("exec", "ray-gpu", "--", "hostname").stdout.strip() == "ray-gpu"
    assert cluster.ws("exec", "ray-gpu", "--", "sh", "-c", "exit 7", check=False).returncode == 7


def test_the_token_is_needed(cluster: Sandbox) -> None:
    url = f"http://127.0.0.1:{cluster.entries['dashboard']}/api/v0/nodes"
    token = cluster.token_path.read_text()
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10).ok
    health = f"http://127.0.0.1:{cluster.entries['health']}"
    assert requests.get(health, timeout=10).text.strip() == "OK"
    assert requests.get(f"{health}/lease", timeout=10).status_code == 401


@pytest.mark.parametrize("entry", ["client", "client2"])
def test_ray_client_works_through_every_candidate(cluster: Sandbox, entry: str) -> None:
    port = cluster.base + {"client": 93, "client2": 96}[entry]
    program = f"import ray; ray.init('ray://127.0.0.1:{port}'); print(ray.cluster_resources()['CPU'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **exported_by_up(cluster)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.strip() == "8.0", done.stderr


def test_only_loopback_and_the_gateway_listen(cluster: Sandbox) -> None:
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    for node in ("ray-cpu", "ray-gpu", "health"):
        ports = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", cluster.container(node)))
        addresses = {binding["HostIp"] for bindings in ports.values() for binding in bindings or []}
        assert addresses == {"127.0.0.1", gateway}


def test_a_restarted_health_server_changes_nothing(cluster: Sandbox) -> None:
    before = cluster.status()["leader"]
    docker("restart", "--time", "2", cluster.container("health"))
    leader_is(cluster, before["name"], {"ray-cpu", "ray-gpu"})
    after = cluster.status()
    assert after["leader"]["epoch"] == before["epoch"]
    assert all(row["restarts"] == 0 for row in after["nodes"])
    for node in ("ray-cpu", "ray-gpu"):
        assert cluster.ws("logs", node).stdout.count("Mode: ") == 1


def test_another_candidate_leads_when_the_head_is_killed_and_the_first_returns_as_worker(cluster: Sandbox) -> None:
    before = cluster.status()["leader"]
    first, second = before["name"], {"ray-cpu": "ray-gpu", "ray-gpu": "ray-cpu"}[before["name"]]
    docker("kill", cluster.container(first))
    leader_is(cluster, second, {second})
    docker("start", cluster.container(first))
    leader_is(cluster, second, {"ray-cpu", "ray-gpu"})
    assert cluster.status()["leader"]["epoch"] > before["epoch"]
    cluster.ws("up")
    assert "Mode: worker" in cluster.ws("logs", "--tail", "30", first).stdout


def test_down_removes_everything(cluster: Sandbox) -> None:
    cluster.ws("down")
    for kind in ("container", "network", "volume"):
        listing = ["ls", "--quiet", "--filter", f"label=org.cslr-exp-platform.project={cluster.name}"]
        assert docker(kind, *listing, *(["--all"] if kind == "container" else [])).strip() == ""
    assert cluster.ws("ps").stdout.splitlines()[1:] == []


class TestFaults:
    """Each on a fresh cluster, or on one that can't come up."""

    @pytest.fixture
    def sandbox(self, tmp_path: Path) -> Iterator[Sandbox]:
        sandbox = Sandbox.make(tmp_path, 2)
        try:
            yield sandbox
        finally:
            sandbox.ws("down")

    def test_health_server_down_at_start(self, sandbox: Sandbox) -> None:
        """The first candidate leads, the other joins it; when the server comes, the head gets the lease and goes on."""
        sandbox.ws("render")
        compose = ["docker", "compose", "up", "--detach", "--no-deps"]
        subprocess.run([*compose, "ray-cpu", "ray-gpu"], cwd=sandbox.folder, check=True, capture_output=True)
        leader_is(sandbox, "ray-cpu", {"ray-cpu", "ray-gpu"})
        assert sandbox.status()["leader"]["epoch"] == 0
        subprocess.run([*compose, "health"], cwd=sandbox.folder, check=True, capture_output=True)

        def lease_granted() -> None:
            leader = sandbox.status()["leader"]
            if not leader or leader["epoch"] == 0:  # none: the server is there, and the head has not asked it yet
                raise NotYet(str(leader))

        wait_for("the head to get the lease", lease_granted, timeout=60)
        for node in ("ray-cpu", "ray-gpu"):
            assert sandbox.ws("logs", node).stdout.count("Mode: ") == 1

    def test_a_node_that_exits_at_start_fails_up_at_once_with_its_log(self, sandbox: Sandbox) -> None:
        config = sandbox.folder / "config.yaml"
        broken = "    gpu: {env: {HOME: /nowhere}, "
        config.write_text(config.read_text().replace("    gpu: {", broken))
        began = time.monotonic()
        done = sandbox.ws("up", "--timeout", "300", check=False)
        assert done.returncode == 1
        # Docker starts it anew at once, and while it runs again its last exit code is not to be had.
        assert re.search(r"ray-gpu ended with (exit code \d+|an error)", done.stderr), done.stderr
        assert "ray-gpu | " in done.stderr, "the tail of its log"
        assert "left as it is, to be looked at" in done.stderr
        assert time.monotonic() - began < 150, "long before the deadline"

    def test_an_image_that_is_nowhere_names_the_ways_left(self, sandbox: Sandbox) -> None:
        done = sandbox.ws("up", check=False, env={"WS_SERVICES__RAY__IMAGE": "127.0.0.1:1/no/such:image"})
        assert done.returncode == 4
        assert "127.0.0.1:1/no/such:image" in done.stderr
        assert "ws image build" in done.stderr

    def test_ctrl_c_removes_what_was_started(self, sandbox: Sandbox) -> None:
        command = [sys.executable, "-m", "ws", "-C", str(sandbox.folder), "up"]
        up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

        def started() -> None:
            if not docker("ps", "--quiet", "--filter", f"name={sandbox.container('ray-cpu')}").strip():
                raise NotYet("no container yet")

        wait_for("a node to be started", started, timeout=60)
        up.send_signal(signal.SIGINT)
        _, errors = up.communicate(timeout=60)
        assert up.returncode == 130, errors
        assert "removing what was started" in errors
        assert docker("ps", "--all", "--quiet", "--filter", f"name={sandbox.name}").strip() == ""

    def test_a_node_that_never_joins_is_named_with_what_it_lacks(self, sandbox: Sandbox) -> None:
        """ray-gpu is told to join an address where nobody listens."""
        config = sandbox.folder / "config.yaml"
        config.write_text(config.read_text().replace("    gpu: {", "    gpu: {env: {HEAD_ADDRESS: 'ray-cpu:1'}, "))
        done = sandbox.ws("up", "--timeout", "25", check=False)
        assert done.returncode == 1
        assert "ray-gpu not proven within 25 s" in done.stderr
        assert "it has not come alive at the head under its own name" in done.stderr
        assert "HEAD_ADDRESS: ray-cpu:1" in done.stderr
