"""`ws doctor`: each thing that can be missing is a finding with its mend, and nothing that is missing raises."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from tests.engine.fake_daemon import daemon
from tests.projects import make_project
from ws.config.load import load
from ws.config.plan import official_image
from ws.engine import doctor_docker, doctor_images, doctor_machine, doctor_project
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.doctor import examine
from ws.engine.doctor_finding import Finding
from ws.engine.doctor_images import Content, by_tag, judge, look_into
from ws.engine.machine import Machine
from ws.engine.render import render
from ws.engine.token import ensure_token
from ws.errors import CommandFailed, StillRunning
from ws.process import Completed

GIB = 2**30
HERE = Content("2.60.0", "3.11.7")
PLAIN = Machine(cores=4, memory=64 * GIB, gateway="172.17.0.1", gpu=False)
OF_ITS_OWN = """
project: {name: d-test-doctor}
network: {name: d-test-doctor, subnet: 172.27.210.0/24, port_base: 27300}
cluster_test: {enabled: false}
services:
  health: {port: 27290}
  ray:
    cpu: {cpus: 1, memory: 1g, head_port: 27291, dashboard_port: 27292, client_port: 27293}
    gpu: {cpus: 1, memory: 1g, gpus: 0, head_port: 27294, dashboard_port: 27295, client_port: 27296}
"""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ws-t-") as name:
        yield Path(name)


def of(findings: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def only(findings: list[Finding], subject: str) -> Finding:
    (finding,) = of(findings, subject)
    return finding


def assert_each_has_its_mend(findings: list[Finding]) -> None:
    assert findings
    assert [finding for finding in findings if finding.verdict != "ok" and not finding.mend] == []


def test_marks() -> None:
    assert [Finding("x", verdict, "y").mark for verdict in ("ok", "warn", "fail")] == ["✓", "!", "✗"]


@pytest.mark.parametrize("engine", ["auto", "compose"])
def test_without_docker_it_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    findings = examine(make_project(tmp_path), engine)
    assert_each_has_its_mend(findings)
    finding = only(findings, "Docker Engine")
    assert "no Docker daemon answers at unix:///nonexistent" in finding.text
    assert finding.verdict == ("fail" if engine == "compose" else "warn")
    assert only(findings, "engine").verdict == ("fail" if engine == "compose" else "ok")
    assert bool(of(findings, "memory")) is (engine == "auto")


def test_an_engine_that_is_too_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, short: Path) -> None:
    with daemon(short / "docker.sock", {"ApiVersion": "1.40", "Version": "19.03.15"}) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        findings = examine(make_project(tmp_path), "compose")
    assert "Docker Engine 19.03.15 is too old" in only(findings, "Docker Engine").text


def test_a_daemon_that_breaks_down_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, short: Path) -> None:
    """It tells its version, and answers 500 to everything else."""
    with daemon(short / "docker.sock", {"ApiVersion": "1.45", "Version": "26"}) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        findings = examine(make_project(tmp_path, OF_ITS_OWN), "compose")
    assert_each_has_its_mend(findings)
    assert only(findings, "Docker Engine").verdict == "ok"
    assert "only the version is here" in only(findings, "memory").text
    assert only(findings, "token").verdict == "ok"


def test_compose_that_is_missing_means_local_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, short: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with daemon(short / "docker.sock", {"ApiVersion": "1.45", "Version": "26"}) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        findings = examine(make_project(tmp_path), "auto")
    assert only(findings, "Compose").verdict == "warn"
    assert only(findings, "engine").text == "auto takes local processes"


@pytest.mark.docker
def test_a_machine_with_everything(tmp_path: Path) -> None:
    findings = examine(make_project(tmp_path, OF_ITS_OWN), "compose")
    assert_each_has_its_mend(findings)
    for subject in ("Docker Engine", "Compose", "engine", "ports", "subnet", "memory", "shared memory", "token", "exposure"):
        assert only(findings, subject).verdict == "ok", subject
    assert not list(tmp_path.glob(".*")), "nothing was written"


@pytest.mark.docker
def test_a_port_and_a_subnet_that_are_taken(tmp_path: Path, docker_client: docker.DockerClient) -> None:
    pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="172.27.210.128/25")])
    network = docker_client.networks.create("d-test-doctor-overlap", ipam=pool)
    try:
        with socket.create_server(("127.0.0.1", 27294)):
            findings = examine(make_project(tmp_path, OF_ITS_OWN), "compose")
    finally:
        network.remove()
    assert f"is taken by {psutil.Process().name()} (pid {os.getpid()})" in only(findings, "ports").text
    assert "d-test-doctor-overlap" in only(findings, "subnet").text
    assert [finding.verdict for finding in findings if finding.subject in ("ports", "subnet")] == ["fail", "fail"]


def test_the_local_engine(tmp_path: Path) -> None:
    findings = examine(make_project(tmp_path, OF_ITS_OWN), "local")
    assert_each_has_its_mend(findings)
    assert not of(findings, "Docker Engine")
    assert only(findings, "engine").text == "local processes, as asked"
    assert only(findings, "Ray and Python").verdict == "ok"
    assert only(findings, "ports").verdict == "ok"


def test_the_local_engine_with_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 27292)):
        finding = only(examine(make_project(tmp_path, OF_ITS_OWN), "local"), "ports")
    assert finding.verdict == "fail"
    assert "27292" in finding.text
    assert f"(pid {os.getpid()})" in finding.text
    assert finding.mend


# Images


@pytest.mark.parametrize(
    ("content", "verdicts", "told"),
    [
        (Content("2.60.0", "3.11.7"), ["ok"], "has Ray 2.60.0 and Python 3.11.7"),
        (Content("2.60.0", "3.11.2"), ["ok"], "(here 3.11.7: near enough)"),
        (Content("2.60.0", "3.11"), ["ok"], "Python 3.11"),
        (Content("2.60.0", "3.12.7"), ["fail"], "here is Python 3.11.7"),
        (Content("2.59.0", "3.11.7"), ["fail"], "here is Ray 2.60.0"),
        (Content("", "3.11.7"), ["fail"], "has no Ray"),
        (Content("2.60.0", "3.11.7", numpy=False), ["ok", "warn"], ""),
        (Content("2.60.0", "3.11.7", numpy=True), ["ok"], ""),
    ],
)
def test_an_image_against_what_runs_here(content: Content, verdicts: list[str], told: str) -> None:
    findings = list(judge("my/ray:1", content, HERE))
    assert [finding.verdict for finding in findings] == verdicts
    assert told in findings[0].text
    assert_each_has_its_mend(findings)
    if verdicts == ["fail"]:
        assert f"WS_SERVICES__RAY__IMAGE={official_image()}" in str(findings[0].mend)


def test_the_mend_for_another_python_is_a_command() -> None:
    (finding,) = judge("my/ray:1", Content("2.60.0", "3.12.1"), HERE)
    assert "uv python pin 3.12" in str(finding.mend)


@pytest.mark.parametrize(
    ("image", "content"),
    [
        ("rayproject/ray:2.60.0-py311", Content("2.60.0", "3.11")),
        ("rayproject/ray:2.60.0-py39-gpu", Content("2.60.0", "3.9")),
        ("registry:5000/rayproject/ray:2.60.0.abcdef-py312-cpu", Content("2.60.0", "3.12")),
        ("my/ray:1", None),
        ("rayproject/ray:latest", None),
    ],
)
def test_an_official_tag_tells_what_is_in_it(image: str, content: Content | None) -> None:
    assert by_tag(image) == content


def test_an_image_that_can_not_tell() -> None:
    def fails(argv: Any, **_: Any) -> Completed:
        raise CommandFailed(argv, 127, "exec: /bin/sh: no such file")

    for runner, text in ((fails, "no such file"), (lambda *_, **__: Completed(0, "hello", ""), "does not tell")):
        finding = look_into("my/image:1", runner)
        assert isinstance(finding, Finding)
        assert text in finding.text
        assert finding.mend


def test_an_image_that_takes_too_long_is_no_failure_and_its_container_goes() -> None:
    calls: list[list[str]] = []

    def hangs(argv: list[str], *, timeout: float, **_: Any) -> Completed:
        calls.append(argv)
        if argv[1] == "run":
            raise StillRunning(argv, -1, f"still running after {timeout:g} s")
        return Completed(0, "", "")

    finding = look_into("my/image:1", hangs)
    assert isinstance(finding, Finding)
    assert (finding.verdict, finding.text) == ("warn", "my/image:1 could not be looked at within 20 s")
    (named,) = [word.removeprefix("--name=") for word in calls[0] if word.startswith("--name=")]
    assert calls[1] == ["docker", "rm", "--force", named]


@pytest.mark.parametrize(
    ("version", "told"), [("26.1.5+dfsg1", True), ("27.5.1", True), ("28.0.0", False), ("29.1", False), ("dev", False)]
)
def test_published_ports_of_older_engines_can_be_reached_from_the_network_segment(version: str, told: bool) -> None:
    class Answering:
        def version(self) -> dict[str, str]:
            return {"Version": version, "ApiVersion": "1.45"}

    compose = ComposeEngine(runner=lambda *_, **__: Completed(0, "2.26.1", ""))
    vars(compose)["client"] = Answering()
    found = of(list(doctor_docker.engine(compose)), "published ports")
    assert bool(found) is told
    assert [(finding.verdict, "firewall" in str(finding.mend)) for finding in found] == [("warn", True)] * told


@pytest.mark.docker
def test_the_real_image_is_looked_into_within_its_time(docker_client: docker.DockerClient) -> None:
    tags = [tag for image in docker_client.images.list() for tag in image.tags]
    if official_image() not in tags:
        pytest.skip(f"{official_image()} is not here")
    before = {container.id for container in docker_client.containers.list(all=True)}
    content = look_into(official_image())
    assert isinstance(content, Content), content
    assert content.ray == doctor_images.HERE.ray
    assert content.minor == doctor_images.HERE.minor
    mine = [
        container
        for container in docker_client.containers.list(all=True, ignore_removed=True)
        if container.id not in before and container.attrs["Config"]["Entrypoint"] == ["/bin/sh"]
    ]
    assert mine == []


@pytest.mark.docker
def test_an_image_that_is_missing_is_judged_by_its_tag(tmp_path: Path) -> None:
    image = "d-test/ray:2.59.0-py310"
    project = make_project(tmp_path, f"{OF_ITS_OWN.replace('ray:', f'ray: # {image}', 1)}".replace("# ", "\n    image: ", 1))
    compose = ComposeEngine()
    findings = list(doctor_images.examine(compose, project))
    compose.client.close()
    assert f"{image} is not on this machine yet" in only(findings, "images").text
    assert "ws image build" in str(only(findings, "images").mend)
    assert "2.59.0" in only(findings, "Ray and Python").text


# The machine


def test_memory_that_does_not_suffice(tmp_path: Path) -> None:
    plan = make_project(tmp_path).plan
    assert next(iter(doctor_machine.memory(plan, 64 * GIB))).verdict == "ok"
    (finding,) = doctor_machine.memory(plan, 8 * GIB)
    assert finding.verdict == "warn"
    assert "16.0 GiB" in finding.text
    name, _, value = str(finding.mend).rpartition(" ")[2].partition("=")
    assert name == "WS_SERVICES__RAY__CPU__MEMORY"
    assert 2 * int(value.removesuffix("m")) * 2**20 <= 8 * GIB * 0.95


def test_a_mend_for_memory_and_shared_memory_is_taken_by_the_config(tmp_path: Path) -> None:
    """What is advised holds when it is done."""
    config = "services: {ray: {cpu: {memory: 8g, shm_size: 1g, object_store_memory: 512m}}}"
    (finding,) = doctor_machine.shm_of_containers(make_project(tmp_path, config).plan)
    assert finding.verdict == "warn"
    assert "less than 30%" in finding.text
    name, _, value = str(finding.mend).partition(",")[0].partition("=")
    again = make_project(tmp_path, config, {name: value})
    assert [finding.verdict for finding in doctor_machine.shm_of_containers(again.plan)] == ["ok"]


def test_shared_memory_of_this_machine(tmp_path: Path) -> None:
    free = psutil.disk_usage("/dev/shm").free
    small = make_project(tmp_path, "services: {ray: {cpu: {memory: 512m}}}")
    large = make_project(tmp_path, f"services: {{ray: {{cpu: {{memory: {4 * free}b}}}}}}")
    assert [finding.verdict for finding in doctor_machine.shm_of_machine(small.plan)] == ["ok"]
    (finding,) = doctor_machine.shm_of_machine(large.plan)
    assert finding.verdict == "warn"
    assert str(finding.mend).startswith("sudo mount -o remount,size=")


def test_the_disk_under_docker(tmp_path: Path) -> None:
    (finding,) = doctor_machine.docker_disk({"DockerRootDir": str(tmp_path)}, pulling=False)
    assert str(tmp_path) in finding.text
    assert list(doctor_machine.docker_disk({"DockerRootDir": "/no/such/folder"}, pulling=True)) == []


@pytest.mark.parametrize(
    ("wish", "runtime", "verdict", "told"),
    [
        ("auto", True, "ok", "reserved for ray-gpu"),
        ("false", True, "ok", "not used by ray-gpu"),
        ("true", False, "fail", "can't start"),
        ("false", False, "ok", "plain node with 0 GPUs"),
    ],
)
def test_gpus(tmp_path: Path, wish: str, runtime: bool, verdict: str, told: str) -> None:
    project = make_project(tmp_path, f"host: {{gpu: {wish}}}")
    (finding,) = doctor_machine.gpu(project, Machine(4, 64 * GIB, "172.17.0.1", gpu=runtime))
    assert finding.verdict == verdict
    assert told in finding.text
    assert_each_has_its_mend([finding])


def test_no_node_wants_gpus(tmp_path: Path) -> None:
    project = make_project(tmp_path, "services: {ray: {cpu: {}}}\nnodes: {head_whitelist: [ray-cpu]}")
    assert list(doctor_machine.gpu(project, PLAIN)) == []


# The project


def test_the_token(tmp_path: Path) -> None:
    project = make_project(tmp_path)

    def found() -> Finding:
        (finding,) = doctor_project.token(project)
        return finding

    assert (found().verdict, "ws up" in found().text) == ("ok", True)
    ensure_token(project.token_path)
    assert found().verdict == "ok"
    project.state.chmod(0o755)
    assert (found().verdict, found().mend) == ("fail", f"chmod 700 {project.state}")
    project.state.chmod(0o700)
    project.token_path.write_text("\n", encoding="utf-8")
    assert (found().verdict, "is empty" in found().text) == ("warn", True)
    project.token_path.unlink()
    project.token_path.mkdir()
    assert (found().verdict, "is no token file" in found().text) == ("fail", True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_token() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        project = make_project(Path(name))
        ensure_token(project.token_path)
        program = f"""
import os
from pathlib import Path
from tests.projects import make_project
from ws.engine.doctor_project import token
project = make_project(Path({name!r}))
os.setuid(65534)
for finding in token(project):
    print(finding.verdict, finding.text, finding.mend, sep="\\n")
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    state = project.state
    assert done.stdout.splitlines() == [
        "fail",
        f"{state} belongs to root",
        f'sudo chown -R "$USER" {state}',
    ], done.stderr


def test_rendered_files(tmp_path: Path) -> None:
    def found(project: Project) -> Finding:
        (finding,) = doctor_project.rendered(project)
        return finding

    project = make_project(tmp_path)
    assert found(project).verdict == "ok"
    for name, text in render(project).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert "in step" in found(project).text
    changed = found(make_project(tmp_path, "network: {port_base: 40000}"))
    assert (changed.verdict, changed.mend) == ("warn", "ws render")
    assert "compose.yaml" in changed.text


def test_what_the_config_warned_of_is_a_finding_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = load(None, {"WS_NETWORK__PUBLISH_ENTRIES": "[0.0.0.0]", "WS_NETWORK__PORT_BASE": "32720"})
    (opened,) = doctor_project.exposed(loaded.exposure)
    assert (opened.verdict, "every machine that reaches any address" in opened.text) == ("warn", True)
    assert [finding.verdict for finding in doctor_project.exposed(())] == ["ok"]
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    findings = examine(make_project(tmp_path), "compose", loaded.warnings, loaded.exposure)
    assert_each_has_its_mend(findings)
    assert "from 32768 on" in only(findings, "config").text


def test_local_nodes_listen_everywhere_and_no_config_changes_that(tmp_path: Path) -> None:
    loaded = load(None, {"WS_NETWORK__PUBLISH_ENTRIES": "[0.0.0.0]"})
    findings = examine(make_project(tmp_path, OF_ITS_OWN), "local", loaded.warnings, loaded.exposure)
    assert "raylets listen on every address" in only(findings, "exposure").text
    assert only(findings, "config").verdict == "ok"


def test_an_engine_behind_a_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reached:
        def version(self) -> dict[str, str]:
            return {"Version": "26", "ApiVersion": "1.45"}

    compose = ComposeEngine(runner=lambda *_, **__: Completed(0, "2.26.1", ""))
    vars(compose)["client"] = Reached()
    monkeypatch.setenv("DOCKER_HOST", "tcp://build-server:2376")
    findings = list(doctor_docker.engine(compose))
    assert [finding.verdict for finding in of(findings, "Docker Engine")] == ["ok", "warn"]
    assert "does not see this project's files" in of(findings, "Docker Engine")[1].text
