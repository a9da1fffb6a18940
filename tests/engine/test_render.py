"""Rendered files, on exact output. The golden ones are those of an empty folder: `ws -C FOLDER render`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.projects import make_project
from ws.config.load import load
from ws.config.plan import official_image, plan
from ws.engine.base import Project
from ws.engine.render import outdated, plain, quoted, render
from ws.errors import UsageError
from ws.resources import packaged

GOLDEN = Path(__file__).with_name("golden")
GOLDEN_IMAGE = "rayproject/ray:2.60.0-py311"

NO_BLOCKS = """
network: {publish_blocks: none, publish_entries: [loopback]}
cluster_test: {enabled: false}
services: {ray: {cpu: {cpus: 2, memory: 1g}, worker: {cpus: 1, memory: 1g, replicas: 3}}}
nodes: {head_whitelist: [ray-cpu]}
"""
NO_ENTRIES = "network: {publish_entries: []}"
EVERYWHERE = "network: {publish_entries: [loopback, gateway, 0.0.0.0], publish_blocks: 0.0.0.0}"
FIXED_ADDRESS = """
host: {ip_address: 192.168.7.7}
network: {publish_entries: [loopback, gateway, 192.168.7.7], external_nodes: [lab-worker]}
"""
ODD_NAMES = """
project: {name: "0123"}
network: {name: "true"}
services:
  health: {image: "1.2"}
  ray:
    image: registry:5000/team/ray@sha256-x
    env: {GREETING: 'say "hi" for $5 and ${WS_CORES} #1', EMPTY: "", NUMBER: 007}
    volumes: ["./data dir:/data:ro"]
"""
CONFIGS = {
    "default": "",
    "no blocks": NO_BLOCKS,
    "no entries": NO_ENTRIES,
    "everywhere": EVERYWHERE,
    "fixed address": FIXED_ADDRESS,
    "odd names": ODD_NAMES,
}


def compose_of(project: Project) -> dict[str, Any]:
    loaded = yaml.safe_load(render(project)["compose.yaml"])
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml", "cluster-test.compose.yaml"])
def test_the_default_config_renders_exactly_this(tmp_path: Path, name: str) -> None:
    expected = (GOLDEN / name).read_text(encoding="utf-8").replace(GOLDEN_IMAGE, official_image())
    assert render(make_project(tmp_path))[name] == expected


def test_the_packaged_config_is_the_default_one(tmp_path: Path) -> None:
    config = load(packaged("config.yaml"), {}, {}).config
    assert render(Project(tmp_path, config, plan(config))) == render(make_project(tmp_path))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_nothing_of_this_machine_is_in_the_files(tmp_path: Path, config: str) -> None:
    folders = [tmp_path / "one", tmp_path / "another"]
    for folder in folders:
        folder.mkdir()
    one, another = (render(make_project(folder, config)) for folder in folders)
    assert one == another
    for text in one.values():
        assert not any(path in text for path in (str(tmp_path), str(Path.cwd()), sys.prefix, str(packaged("template"))))


def test_without_port_blocks_only_entries_of_candidates_are_published(tmp_path: Path) -> None:
    services = compose_of(make_project(tmp_path, NO_BLOCKS))["services"]
    assert list(services) == ["health", "ray-cpu", "ray-worker", "ray-worker-2", "ray-worker-3"]
    assert services["health"]["ports"] == ["127.0.0.1:8080:8080"]
    assert services["ray-cpu"]["ports"] == ["127.0.0.1:6379:6379", "127.0.0.1:8265:8265", "127.0.0.1:10001:10001"]
    assert all("ports" not in services[name] for name in list(services)[2:])
    assert "workers=" not in services["ray-worker"]["environment"]["WS_NODE_PORTS"]
    assert "extra_hosts" not in services["ray-cpu"]


def test_replicas_differ_in_names_addresses_and_ports_alone(tmp_path: Path) -> None:
    services = compose_of(make_project(tmp_path, NO_BLOCKS))["services"]
    second, third = services["ray-worker-2"], services["ray-worker-3"]
    assert second["container_name"] == "cslr-exp-platform-ray-worker-2"
    assert second["hostname"] == "ray-worker-2"
    assert second["networks"] != third["networks"]
    assert second["environment"]["WS_NODE_PORTS"] != third["environment"]["WS_NODE_PORTS"]
    of_its_own = {"WS_NODE_PORTS", "RAY_HEAD_PORT", "RAY_DASHBOARD_PORT", "RAY_CLIENT_PORT"}
    assert {k: v for k, v in second["environment"].items() if k not in of_its_own} == {
        k: v for k, v in third["environment"].items() if k not in of_its_own
    }
    assert second["mem_limit"] == third["mem_limit"] == "${WS_WORKER_MEMORY:-1073741824}"


def test_nodes_are_told_the_roots_of_transfers(tmp_path: Path) -> None:
    config = "services: {ray: {transfer_roots: [~/in, /$data], cpu: {}, gpu: {transfer_roots: [/scratch]}}}"
    files = render(make_project(tmp_path, config))
    services = yaml.safe_load(files["compose.yaml"])["services"]
    told = {name: services[name]["environment"]["WS_TRANSFER_ROOTS"] for name in ("ray-cpu", "ray-gpu")}
    assert told == {"ray-cpu": "~/in:/$$data", "ray-gpu": "/scratch"}
    test = yaml.safe_load(files["cluster-test.compose.yaml"])["services"]
    assert test["test-ray-worker"]["environment"]["WS_TRANSFER_ROOTS"] == "~/in:/$$data"
    assert "WS_TRANSFER_ROOTS" not in render(make_project(tmp_path))["compose.yaml"]


def test_no_entries_means_no_ports_at_the_health_server(tmp_path: Path) -> None:
    services = compose_of(make_project(tmp_path, NO_ENTRIES))["services"]
    assert "ports" not in services["health"]
    assert services["ray-cpu"]["ports"] == ["${WS_GATEWAY:-172.17.0.1}:31000-31023:31000-31023"]


def test_an_address_is_published_once(tmp_path: Path) -> None:
    assert compose_of(make_project(tmp_path, EVERYWHERE))["services"]["health"]["ports"] == ["0.0.0.0:8080:8080"]
    fixed = compose_of(make_project(tmp_path, FIXED_ADDRESS))["services"]
    assert fixed["health"]["ports"] == ["127.0.0.1:8080:8080", "192.168.7.7:8080:8080"]
    assert fixed["ray-cpu"]["extra_hosts"] == [
        f"{name}:192.168.7.7" for name in ("test-ray-worker", "test-ray-joiner", "lab-worker")
    ]


def test_the_worker_of_the_cluster_test_knows_the_cluster_through_this_host(tmp_path: Path) -> None:
    files = render(make_project(tmp_path, FIXED_ADDRESS))
    services = yaml.safe_load(files["cluster-test.compose.yaml"])["services"]
    worker = services["test-ray-worker"]
    assert worker["extra_hosts"] == [f"{name}:192.168.7.7" for name in ("health", "ray-cpu", "ray-gpu", "lab-worker")]
    assert worker["ports"] == ["192.168.7.7:31048-31063:31048-31063"]
    assert worker["environment"]["HEAD_ADDRESS"] == "${WS_TEST_HEAD_ADDRESS:-ray-cpu:6379}"
    nodes = yaml.safe_load(files["compose.yaml"])["services"]
    same = ("HEAD_WHITELIST", "HEALTH_URL", "LEASE_TTL", "WS_CANDIDATES", "RAY_AUTH_TOKEN_PATH", "WAIT_FOR_HEAD")
    assert all(worker["environment"][name] == nodes["ray-cpu"]["environment"][name] for name in same)
    assert services["test-ray-joiner"]["profiles"] == ["joiner"]
    entries = json.loads(services["test-ray-client"]["environment"]["WS_CLIENT_ENTRIES"])
    assert entries[1] == {"name": "ray-gpu", "gcs": 6380, "client": 10002, "dashboard": 8266}


def test_without_the_cluster_test_there_is_no_file_for_it(tmp_path: Path) -> None:
    assert list(render(make_project(tmp_path, NO_BLOCKS))) == ["compose.yaml"]


def test_without_blocks_or_candidates_the_test_worker_publishes_nothing_and_follows_head_address(tmp_path: Path) -> None:
    config = """
    network: {publish_blocks: none}
    nodes: {head_whitelist: [far], head_address: "far:6379"}
    """
    worker = yaml.safe_load(render(make_project(tmp_path, config))["cluster-test.compose.yaml"])["services"][
        "test-ray-worker"
    ]
    assert "ports" not in worker
    assert worker["environment"]["HEAD_ADDRESS"] == "${WS_TEST_HEAD_ADDRESS:-far:6379}"


def test_files_are_outdated_until_they_are_written_and_again_when_the_config_changes(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert outdated(project) == ["compose.yaml", "compose.gpu.yaml", "cluster-test.compose.yaml"]
    for name, text in render(project).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert outdated(project) == []
    assert outdated(make_project(tmp_path, "network: {port_base: 40000}")) == ["compose.yaml", "cluster-test.compose.yaml"]


def test_a_template_of_the_project_wins(tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "compose.yaml.jinja2").write_text("name: {{ project }}\n", encoding="utf-8")
    assert render(make_project(tmp_path))["compose.yaml"] == "name: cslr-exp-platform\n"


@pytest.mark.parametrize(("template", "line"), [("a\n{% if %}\n", "line 2"), ("{{ no_such_name }}\n", "no_such_name")])
def test_a_broken_template_says_where(tmp_path: Path, template: str, line: str) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "compose.yaml.jinja2").write_text(template, encoding="utf-8")
    with pytest.raises(UsageError, match=r"compose\.yaml\.jinja2") as caught:
        render(make_project(tmp_path))
    assert line in str(caught.value)


@pytest.mark.parametrize("text", ["plain", 'a "b"', "$HOME", "ü", "back\\slash", "# no comment", "a: b", "${WS", ""])
def test_quoted_survives_yaml(text: str) -> None:
    assert yaml.safe_load(quoted(text)).replace("$$", "$") == text


@pytest.mark.parametrize("text", ["ray-network", "python:3.12-alpine", "rayproject/ray:2.60.0-py311", "a.b_c"])
def test_names_are_left_plain(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize("text", ["123", "1e3", "0x10", "true", "No", "null", "1.2", "registry:5000/x:1", "-"])
def test_names_that_yaml_would_misread_are_quoted(text: str) -> None:
    assert plain(text) == f'"{text}"'


@pytest.mark.docker
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_compose_accepts_the_files_as_they_are(tmp_path: Path, config: str) -> None:
    project = make_project(tmp_path, config)
    for name, text in render(project).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    together = [name for name in render(project) if name != "cluster-test.compose.yaml"]
    for files in (["compose.yaml"], together):
        accepted = accepted_by_compose(tmp_path, files)
        assert list(accepted["services"]) == sorted(["health", *(node.hostname for node in project.plan.nodes)])
        assert accepted["name"] == project.plan.project
        addresses = [service["networks"].popitem()[1]["ipv4_address"] for service in accepted["services"].values()]
        assert len(set(addresses)) == len(addresses)


@pytest.mark.docker
@pytest.mark.parametrize("config", ["", EVERYWHERE, FIXED_ADDRESS, ODD_NAMES])
def test_compose_accepts_the_file_of_the_cluster_test(tmp_path: Path, config: str) -> None:
    project = make_project(tmp_path, config)
    (tmp_path / "cluster-test.compose.yaml").write_text(render(project)["cluster-test.compose.yaml"], encoding="utf-8")
    accepted = accepted_by_compose(tmp_path, ["cluster-test.compose.yaml"])
    assert accepted["name"] == f"{project.plan.project}-test"
    # The joiner has a profile of its own, so that a plain `up` leaves it out.
    assert sorted(accepted["services"]) == ["test-ray-client", "test-ray-worker"]


@pytest.mark.docker
def test_compose_hands_the_users_values_on_unchanged(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(render(make_project(tmp_path, ODD_NAMES))["compose.yaml"], encoding="utf-8")
    node = accepted_by_compose(tmp_path, ["compose.yaml"])["services"]["ray-cpu"]
    # `config` doubles each $ again, so that its own output can be read as a Compose file.
    environment = {name: value.replace("$$", "$") for name, value in node["environment"].items()}
    assert environment["GREETING"] == 'say "hi" for $5 and ${WS_CORES} #1'
    assert environment["EMPTY"] == ""
    assert environment["NUMBER"] == "007"
    assert node["image"] == "registry:5000/team/ray@sha256-x"
    assert {volume["target"]: volume.get("read_only", False) for volume in node["volumes"]}["/data"] is True
    assert node["labels"]["org.cslr-exp-platform.project"] == "0123"


def accepted_by_compose(folder: Path, files: list[str]) -> dict[str, Any]:
    arguments = [part for name in files for part in ("-f", name)]
    done = subprocess.run(
        ["docker", "compose", *arguments, "config", "--format", "json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    accepted = json.loads(done.stdout)
    assert isinstance(accepted, dict)
    return accepted
