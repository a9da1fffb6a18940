"""The verdict is right: each fault is really there, on real containers, and `ws test` names it first, with its mend.

One cluster serves all faults; what a fault changes on it is put right again. A fault in the test containers is an edited
template in the project's folder, which is how a user would make it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import yaml

from tests.clusters import Sandbox, docker, leader_is, not_passed
from ws.verify.scenarios.all import ALL

pytestmark = [pytest.mark.docker, pytest.mark.long]

OTHER_RAY = "cslr-exp-platform/ray-other:latest"
OTHER_PYTHON = "cslr-exp-platform/python-other:latest"
START_LIMIT = 120.0  # seconds that the start may take, with its wait for a worker that may be slow
AS_PACKAGED = "as-packaged.yaml"
Service = dict[str, Any]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox.make(tmp_path_factory.mktemp("faults"), 30)
    try:
        sandbox.ws("up")
        sandbox.ws("render")
        shutil.copy(sandbox.folder / "cluster-test.compose.yaml", sandbox.folder / AS_PACKAGED)
        yield sandbox
    finally:
        sandbox.ws("test", "--down", check=False)
        sandbox.ws("down", check=False)


@pytest.fixture(autouse=True)
def as_packaged(cluster: Sandbox) -> Iterator[None]:
    yield
    shutil.rmtree(cluster.folder / "template", ignore_errors=True)


def rendered_test(cluster: Sandbox) -> dict[str, Any]:
    """cluster-test.compose.yaml, as the packaged template gives it."""
    return dict(yaml.safe_load((cluster.folder / AS_PACKAGED).read_text()))


def edit(cluster: Sandbox, change: Change) -> None:
    """Put an edited template into the project's folder."""
    rendered = rendered_test(cluster)
    change(rendered)
    template = cluster.folder / "template" / "cluster-test.compose.yaml.jinja2"
    template.parent.mkdir(exist_ok=True)
    head = "# Rendered by `ws render`\n"
    template.write_text("{% raw %}" + head + yaml.safe_dump(rendered, sort_keys=False, width=10_000) + "{% endraw %}")


def worker(rendered: dict[str, Any]) -> Service:
    return rendered["services"]["test-ray-worker"]  # type: ignore[no-any-return]


def client(rendered: dict[str, Any]) -> Service:
    return rendered["services"]["test-ray-client"]  # type: ignore[no-any-return]


def judge(cluster: Sandbox, *arguments: str) -> dict[str, Any]:
    """Run `ws test`, and return its report; whatever happens, it prints no traceback."""
    done = cluster.ws("test", "--json", *arguments, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == report["exit_code"], done.stderr
    return report


def scenarios(*names: str) -> list[str]:
    return [part for name in names for part in ("--scenario", name)]


def failed_checks(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [check for scenario in report["scenarios"] for check in scenario["checks"] if check["verdict"] == "fail"]


def names_first(report: dict[str, Any], *keys: str, consequences: Sequence[str] = ()) -> dict[str, Any]:
    """Assert that the verdict is fail, in time, and that the first cause named is one of `keys`; returns that cause.

    Every other check that failed must name one of them first, too, or one of what is known to follow from them.
    """
    failed = failed_checks(report)
    assert report["verdict"] == "fail", not_passed(report)
    assert report["exit_code"] == 1
    assert all(check["causes"] for check in failed), failed
    cause: dict[str, Any] = failed[0]["causes"][0]
    assert cause["key"] in keys, not_passed(report)
    strayed = [check for check in failed if check["causes"][0]["key"] not in (*keys, *consequences)]
    assert strayed == [], not_passed(report)
    for check in failed:
        assert check["evidence"]
        assert all(named["what"] and named["remedy"] for named in check["causes"])
    limits = {scenario.name: scenario.deadline for scenario in ALL}
    late = [found["name"] for found in report["scenarios"] if found["seconds"] > limits.get(found["name"], START_LIMIT)]
    assert late == []
    return cause


def block(cluster: Sandbox) -> tuple[int, int]:
    """First and last port of the test worker's block."""
    rendered = rendered_test(cluster)
    ports = next(text for text in worker(rendered)["ports"] if "-" in text.rsplit(":", 1)[-1])
    first, last = ports.rsplit(":", 1)[-1].split("-")
    return int(first), int(last)


def subnet_of_test(cluster: Sandbox) -> str:
    return str(next(iter(rendered_test(cluster)["networks"].values()))["ipam"]["config"][0]["subnet"])


def without(port: int) -> Change:
    """The worker's block published but for one port."""

    def change(rendered: dict[str, Any]) -> None:
        ports = []
        for text in worker(rendered)["ports"]:
            address, _, range_ = text.rpartition(":")
            address = address.rpartition(":")[0]
            first, last = (int(number) for number in range_.split("-"))
            for low, high in ((first, port - 1), (port + 1, last)):
                if low <= high:
                    ports.append(f"{address}:{low}-{high}:{low}-{high}")
        worker(rendered)["ports"] = ports

    return change


# The way from the cluster to the worker


def test_the_workers_port_block_is_not_published(cluster: Sandbox) -> None:
    edit(cluster, lambda rendered: worker(rendered).pop("ports"))
    cause = names_first(judge(cluster, *scenarios("external-worker")), "block-not-published")
    assert "test-ray-worker" in cause["what"]
    assert str(block(cluster)[0]) in cause["what"]


@pytest.mark.parametrize(("offset", "role"), [(1, "object_manager"), (2, "runtime_env_agent")])
def test_one_port_alone_is_blocked(cluster: Sandbox, offset: int, role: str) -> None:
    port = block(cluster)[0] + offset
    edit(cluster, without(port))
    cause = names_first(judge(cluster, *scenarios("external-worker")), "port-blocked")
    assert str(port) in cause["what"]
    assert role.replace("_", " ") in cause["what"].replace("_", " ").replace("-", " ")


@pytest.mark.parametrize(("offset", "role"), [(1, "object_manager"), (2, "runtime_env_agent")])
def test_one_port_alone_is_dropped_by_a_firewall(cluster: Sandbox, offset: int, role: str) -> None:
    port = block(cluster)[0] + offset

    def drop() -> None:
        pid = docker("inspect", "--format", "{{.State.Pid}}", f"{cluster.name}-test-worker").strip()
        rule = ["INPUT", "--in-interface", "eth0", "--protocol", "tcp", "--dport", str(port), "--jump", "DROP"]
        subprocess.run(["nsenter", "--target", pid, "--net", "iptables", "--append", *rule], check=True)

    with once_checked(cluster, "stays up and joins", drop) as run:
        cause = names_first(run(*scenarios("external-worker")), "port-blocked")
    assert str(port) in cause["what"]
    assert role.replace("_", " ") in cause["what"].replace("_", " ").replace("-", " ")


def test_the_worker_advertises_an_address_that_the_head_cannot_reach(cluster: Sandbox) -> None:
    address = f"{subnet_of_test(cluster).rsplit('.', 1)[0]}.77"

    def change(rendered: dict[str, Any]) -> None:
        name = next(iter(rendered["networks"]))
        worker(rendered)["networks"] = {name: {"ipv4_address": address}}
        worker(rendered)["environment"]["WS_NODE_ADDRESS"] = address

    edit(cluster, change)
    cause = names_first(judge(cluster, *scenarios("external-worker")), "advertised-address")
    assert address in cause["what"]


def test_the_worker_does_not_know_the_heads_name(cluster: Sandbox) -> None:
    edit(cluster, lambda rendered: worker(rendered).pop("extra_hosts"))
    cause = names_first(judge(cluster, *scenarios("external-worker")), "name-unknown")
    assert "extra_hosts" in cause["what"] + cause["remedy"]


def test_the_head_does_not_know_the_workers_name(cluster: Sandbox) -> None:
    containers = [cluster.container(node) for node in ("ray-cpu", "ray-gpu")]
    forget = "grep -v test-ray-worker /etc/hosts > /tmp/hosts; cp /etc/hosts /tmp/hosts.kept; cat /tmp/hosts > /etc/hosts"
    try:
        for container in containers:
            docker("exec", "--user", "root", container, "sh", "-c", forget)
        cause = names_first(judge(cluster, *scenarios("external-worker")), "name-unknown")
        assert "test-ray-worker" in cause["what"]
    finally:
        for container in containers:
            docker("exec", "--user", "root", container, "sh", "-c", "cat /tmp/hosts.kept > /etc/hosts")


def test_the_hosts_address_is_wrong(cluster: Sandbox) -> None:
    wrong = "172.26.254.254"

    def change(rendered: dict[str, Any]) -> None:
        worker(rendered)["extra_hosts"] = [
            f"{text.replace('=', ':').split(':')[0]}:{wrong}" for text in worker(rendered)["extra_hosts"]
        ]

    edit(cluster, change)
    cause = names_first(judge(cluster, *scenarios("external-worker")), "name-wrong", "host-unreachable")
    assert wrong in cause["what"]


# Who may join


def test_the_worker_has_another_token(cluster: Sandbox) -> None:
    other = cluster.folder / "other-token"
    other.write_text("f" * 64)
    other.chmod(0o644)

    def change(rendered: dict[str, Any]) -> None:
        rendered["secrets"]["other"] = {"file": str(other)}
        worker(rendered)["secrets"] = [{"source": "other", "target": "ray_token"}]

    edit(cluster, change)
    cause = names_first(judge(cluster, *scenarios("external-worker")), "token-wrong")
    assert "test-ray-worker" in cause["what"]
    assert "f" * 64 not in json.dumps(cause)


def test_the_client_has_another_token(cluster: Sandbox) -> None:
    other = cluster.folder / "other-token"
    other.write_text("e" * 64)
    other.chmod(0o644)

    def change(rendered: dict[str, Any]) -> None:
        rendered["secrets"]["other"] = {"file": str(other)}
        client(rendered)["secrets"] = [{"source": "other", "target": "ray_token"}]

    edit(cluster, change)
    cause = names_first(judge(cluster, *scenarios("ray-client")), "token-wrong")
    assert "test-ray-client" in cause["what"]


def test_the_client_has_no_token(cluster: Sandbox) -> None:
    def change(rendered: dict[str, Any]) -> None:
        client(rendered).pop("secrets")
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            client(rendered)["environment"].pop(name)

    edit(cluster, change)
    names_first(judge(cluster, *scenarios("ray-client")), "token-missing")


def test_the_worker_has_no_token(cluster: Sandbox) -> None:
    def change(rendered: dict[str, Any]) -> None:
        worker(rendered).pop("secrets")
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            worker(rendered)["environment"].pop(name)

    edit(cluster, change)
    names_first(judge(cluster, *scenarios("external-worker")), "token-missing")


def test_rays_version_differs(cluster: Sandbox) -> None:
    edit(cluster, lambda rendered: worker(rendered).update(image=OTHER_RAY))
    names_first(judge(cluster, *scenarios("external-worker")), "ray-version")


def test_the_clients_python_differs(cluster: Sandbox) -> None:
    edit(cluster, lambda rendered: client(rendered).update(image=OTHER_PYTHON))
    names_first(judge(cluster, *scenarios("ray-client")), "python-version")


# Wrong addresses


def test_head_address_has_the_clients_port(cluster: Sandbox) -> None:
    port = cluster.entries["client"]

    def change(rendered: dict[str, Any]) -> None:
        worker(rendered)["environment"]["HEAD_ADDRESS"] = f"ray-cpu:{port}"

    edit(cluster, change)
    cause = names_first(judge(cluster, *scenarios("external-worker")), "wrong-port-client")
    assert str(port) in cause["what"]
    assert str(cluster.entries["head"]) in cause["remedy"]


def test_ray_client_is_given_the_gcs_port(cluster: Sandbox) -> None:
    def change(rendered: dict[str, Any]) -> None:
        entries = json.loads(client(rendered)["environment"]["WS_CLIENT_ENTRIES"])
        for entry in entries:
            entry["client"] = entry["gcs"]
        client(rendered)["environment"]["WS_CLIENT_ENTRIES"] = json.dumps(entries)

    edit(cluster, change)
    cause = names_first(judge(cluster, *scenarios("ray-client")), "wrong-port-gcs")
    assert str(cluster.entries["client"]) in cause["remedy"]


def test_a_head_option_with_the_clients_port_fails_at_once(cluster: Sandbox) -> None:
    done = cluster.ws("test", "--up", "--head", f"ray-cpu:{cluster.entries['client']}", check=False)
    assert done.returncode in (1, 2)
    assert "Ray Client port" in done.stderr
    assert str(cluster.entries["head"]) in done.stderr
    assert "Traceback" not in done.stderr


# The machine


def test_dev_shm_is_too_small(cluster: Sandbox) -> None:
    edit(cluster, lambda rendered: worker(rendered).update(shm_size="32m"))
    cause = names_first(judge(cluster, *scenarios("external-worker", "path")), "shm-small")
    assert "test-ray-worker" in cause["what"]


def test_a_port_of_the_block_is_taken_on_the_host(cluster: Sandbox) -> None:
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    port = block(cluster)[0] + 3
    with socket.create_server((gateway, port)):
        cause = names_first(judge(cluster, *scenarios("external-worker")), "port-taken")
    assert str(port) in cause["what"]
    assert f"{psutil.Process().name()} (pid {os.getpid()})" in cause["what"]


def test_the_subnet_is_in_use_already(cluster: Sandbox) -> None:
    docker("network", "create", "--subnet", subnet_of_test(cluster), "ws-test-clash")
    try:
        cause = names_first(judge(cluster, *scenarios("external-worker")), "subnet-clash")
        assert "ws-test-clash" in cause["what"]
    finally:
        docker("network", "rm", "ws-test-clash")


# The cluster itself


def test_the_health_server_is_down(cluster: Sandbox) -> None:
    docker("stop", cluster.container("health"))
    try:
        cause = names_first(judge(cluster, *scenarios("services")), "health-down")
        assert cluster.container("health") in cause["what"] + cause["remedy"]
    finally:
        docker("start", cluster.container("health"))


def test_a_candidates_hostname_is_not_in_the_whitelist(cluster: Sandbox) -> None:
    follower = other_than(cluster, cluster.status()["leader"]["name"])
    with replaced(cluster, follower, lambda service: service.update(hostname="ray-elsewhere")):
        names_first(judge(cluster, *scenarios("self-election", "injection")), "not-in-whitelist")


def test_two_nodes_have_one_hostname(cluster: Sandbox) -> None:
    def change(rendered: dict[str, Any]) -> None:
        twin = json.loads(json.dumps(worker(rendered)))
        twin.pop("ports")
        twin["container_name"] += "-twin"
        rendered["services"]["twin"] = twin

    def start_twin() -> None:
        file = str(cluster.folder / "cluster-test.compose.yaml")
        name = ["--project-name", f"{cluster.name}-test", "--file", file]
        docker("compose", *name, "up", "--detach", "--no-deps", "twin")

    edit(cluster, change)
    with once_checked(cluster, "stays up and joins", start_twin) as run:
        cause = names_first(run(*scenarios("external-worker", "stability")), "name-twice")
    assert "test-ray-worker" in cause["what"]


def test_the_clusters_worker_is_paused(cluster: Sandbox) -> None:
    leader = cluster.status()["leader"]["name"]
    follower = other_than(cluster, leader)
    docker("pause", cluster.container(follower))
    try:
        cause = names_first(judge(cluster, *scenarios("self-election")), "node-paused")
        assert follower in cause["what"]
        assert "unpause" in cause["remedy"]
    finally:
        docker("unpause", cluster.container(follower))
        leader_is(cluster, leader, {"ray-cpu", "ray-gpu"})


def test_the_test_worker_is_paused_in_the_middle(cluster: Sandbox) -> None:
    container = f"{cluster.name}-test-worker"
    with once_checked(cluster, "external-worker", lambda: docker("pause", container)) as run:
        cause = names_first(run(*scenarios("external-worker", "stability")), "node-paused")
    assert "test-ray-worker" in cause["what"]


def test_the_head_is_killed_in_the_middle(cluster: Sandbox) -> None:
    leader = cluster.status()["leader"]["name"]
    try:
        with once_checked(cluster, "external-worker", lambda: docker("kill", cluster.container(leader))) as run:
            cause = names_first(run(), "head-lost", "node-exited")
        assert leader in cause["what"]
    finally:
        docker("start", cluster.container(leader))
        leader_is(cluster, other_than(cluster, leader), {"ray-cpu", "ray-gpu"})


def other_than(cluster: Sandbox, leader: str) -> str:
    return {"ray-cpu": "ray-gpu", "ray-gpu": "ray-cpu"}[leader]


@contextmanager
def replaced(cluster: Sandbox, node: str, change: Callable[[Service], None]) -> Iterator[None]:
    """Another container in a node's place, as by an edited compose.yaml; `ws up` puts it right again."""
    path = cluster.folder / "edited.yaml"
    rendered = yaml.safe_load((cluster.folder / "compose.yaml").read_text())
    change(rendered["services"][node])
    path.write_text(yaml.safe_dump(rendered))
    name = ["--project-name", cluster.name, "--project-directory", str(cluster.folder)]
    try:
        docker("compose", *name, "--file", str(path), "up", "--detach", "--no-deps", node)
        yield
    finally:
        docker("rm", "--force", cluster.container(node))
        path.unlink()
        cluster.ws("up")


@contextmanager
def once_checked(cluster: Sandbox, words: str, fault: Callable[[], object]) -> Iterator[Callable[..., dict[str, Any]]]:
    """A run of `ws test` into which `fault` breaks once a line with these words has been printed."""
    caused = threading.Event()

    def run(*arguments: str) -> dict[str, Any]:
        argv = [sys.executable, "-m", "ws", "-C", str(cluster.folder), "test", *arguments]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if words in line and not caused.is_set():
                    caused.set()
                    fault()
        assert "Traceback" not in "".join(said)
        report: dict[str, Any] = json.loads((cluster.folder / ".ws/runs/latest/report.json").read_text())
        assert process.returncode == report["exit_code"], "".join(said)
        return report

    yield run
    assert caused.is_set()
