"""`.env`: what belongs to one machine, and the lines that are the user's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.projects import make_project
from ws.engine.environment import resolved
from ws.engine.machine import Machine, environment, in_effect, wants_gpu, warnings, write
from ws.engine.render import render

GIB = 2**30
SMALL = Machine(cores=2, memory=8 * GIB, gateway="172.17.0.1", gpu=False)
LARGE = Machine(cores=64, memory=512 * GIB, gateway="172.18.0.1", gpu=True)
BOTH = "services: {ray: {cpu: {cpus: 2, memory: 6g}, gpu: {cpus: 4, memory: 2g}}}"


def test_a_large_machine_limits_cpus_and_leaves_memory_to_the_config(tmp_path: Path) -> None:
    values = environment(make_project(tmp_path), LARGE)
    assert values["WS_CORES"] == "64"
    assert values["WS_GATEWAY"] == "172.18.0.1"
    assert values["WS_CPU_CPU_LIMIT"] == values["WS_GPU_CPU_LIMIT"] == "4"
    assert not [name for name in values if name.endswith(("_MEMORY", "_SHM", "_STORE"))]


@pytest.mark.parametrize(("cores", "limited"), [(1, []), (2, []), (3, ["cpu"]), (4, ["cpu"]), (5, ["cpu", "gpu"])])
def test_only_nodes_with_fewer_cpus_than_the_machine_has_cores_are_limited(
    tmp_path: Path, cores: int, limited: list[str]
) -> None:
    values = environment(make_project(tmp_path, BOTH), Machine(cores, 512 * GIB, "172.17.0.1", False))
    assert [key for key in ("cpu", "gpu") if f"WS_{key.upper()}_CPU_LIMIT" in values] == limited


def test_memory_is_shared_in_proportion_where_there_is_too_little(tmp_path: Path) -> None:
    project = make_project(tmp_path, "services: {ray: {cpu: {memory: 12g}, gpu: {memory: 4g}}}")
    values = environment(project, SMALL)
    cpu, gpu = int(values["WS_CPU_MEMORY"]), int(values["WS_GPU_MEMORY"])
    assert cpu + gpu <= SMALL.memory * 0.95
    assert cpu + gpu > SMALL.memory * 0.94
    assert cpu / gpu == pytest.approx(3)
    for key, memory in (("CPU", cpu), ("GPU", gpu)):
        assert int(values[f"WS_{key}_STORE"]) < int(values[f"WS_{key}_SHM"]) < memory
        assert int(values[f"WS_{key}_SHM"]) > 0.3 * memory


def test_the_tests_workers_have_limits_of_their_own_and_take_no_share_of_the_nodes(tmp_path: Path) -> None:
    on, off = (
        environment(make_project(tmp_path, f"cluster_test: {{enabled: {word}}}"), SMALL) for word in ("true", "false")
    )
    assert {name: value for name, value in on.items() if not name.endswith("_TEST")} == off
    assert on["WS_CPU_LIMIT_TEST"] == "1"
    assert int(on["WS_STORE_TEST"]) < int(on["WS_SHM_TEST"]) < int(on["WS_MEMORY_TEST"]) < 2 * GIB
    assert list(environment(make_project(tmp_path), LARGE))[-1] == "WS_CPU_LIMIT_TEST"


def test_what_compose_fills_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path)
    (tmp_path / ".env").write_text("# mine\nWS_TEST_HEAD_ADDRESS='ray-gpu:6380'\nWS_CORES=7\n", encoding="utf-8")
    monkeypatch.setenv("WS_MEMORY_TEST", "5")
    values = in_effect(project, SMALL)
    assert (values["WS_TEST_HEAD_ADDRESS"], values["WS_CORES"], values["WS_MEMORY_TEST"]) == ("ray-gpu:6380", "2", "5")
    assert resolved("${WS_TEST_HEAD_ADDRESS:-ray-cpu:6379}", values) == "ray-gpu:6380"
    assert resolved("${WS_NOBODY_SETS_THIS:-8}", {"WS_NOBODY_SETS_THIS": ""}) == "8"
    assert resolved("costs $5 and ${WS_CORES:-1}", values) == "costs $5 and ${WS_CORES:-1}"


def test_replicas_share_one_set_of_variables_and_count_each(tmp_path: Path) -> None:
    project = make_project(tmp_path, "services: {ray: {cpu: {memory: 2g}, worker: {memory: 2g, replicas: 7}}}")
    assert int(environment(project, SMALL)["WS_WORKER_MEMORY"]) <= SMALL.memory * 0.95 / 8


def test_paths_below_the_project_folder_are_relative(tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "ray-ep.sh").write_text("", encoding="utf-8")
    values = environment(make_project(tmp_path), SMALL)
    assert values["WS_TEMPLATE_DIR"] == "./template"
    assert values["WS_TOKEN_FILE"] == "./.ws/token"
    assert Path(values["WS_NODE_DIR"], "__main__.py").exists()


@pytest.mark.parametrize(
    ("wish", "runtime", "gpus"),
    [("auto", True, True), ("auto", False, False), ("true", False, True), ("false", True, False)],
)
def test_gpus_where_they_are_wished_and_there(tmp_path: Path, wish: str, runtime: bool, gpus: bool) -> None:
    project = make_project(tmp_path, f"host: {{gpu: {wish}}}")
    machine = Machine(4, 64 * GIB, "172.17.0.1", gpu=runtime)
    assert wants_gpu(project, machine) is gpus
    assert environment(project, machine).get("COMPOSE_FILE") == ("compose.yaml:compose.gpu.yaml" if gpus else None)
    assert any("plain node with 0 GPUs" in warning for warning in warnings(project, machine)) is not gpus


def test_too_little_memory_is_a_warning(tmp_path: Path) -> None:
    assert any("16 GiB of memory, this host has 8 GiB" in text for text in warnings(make_project(tmp_path), SMALL))
    assert not any("memory" in text for text in warnings(make_project(tmp_path), LARGE))


def test_the_users_lines_are_kept(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nHTTP_PROXY=http://proxy:3128\n\nA=b", encoding="utf-8")
    assert write(path, {"WS_CORES": "2"}) is True
    assert write(path, {"WS_CORES": "2"}) is False
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}ADDED=later\n", encoding="utf-8")
    assert write(path, {"WS_CORES": "8"}) is True
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# mine\nHTTP_PROXY=http://proxy:3128\n\nA=b\n")
    assert "ADDED=later\n" in text
    assert text.count("WS_CORES") == 1
    assert "WS_CORES=8\n" in text


def test_a_lost_end_mark_loses_none_of_the_users_lines(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write(path, {"WS_CORES": "2", "COMPOSE_FILE": "compose.yaml"})
    cut = path.read_text(encoding="utf-8").replace("# <<< written by ws", "MINE=1")
    path.write_text(cut, encoding="utf-8")
    write(path, {"WS_CORES": "8"})
    text = path.read_text(encoding="utf-8")
    assert "MINE=1" in text
    assert text.count("WS_CORES") == 1
    assert "COMPOSE_FILE" not in text


def test_the_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    assert write(tmp_path / ".env", {"WS_CORES": "2"}) is True
    assert (tmp_path / ".env").read_text(encoding="utf-8").splitlines()[1] == "WS_CORES=2"


@pytest.mark.docker
@pytest.mark.parametrize("name", ["plain", "with space", "with # hash", "with $dollar", "with 'quote", 'with "quotes"'])
def test_compose_reads_the_same_values(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    project = make_project(folder)
    (folder / "compose.yaml").write_text(render(project)["compose.yaml"], encoding="utf-8")
    values = {**environment(project, SMALL), "WS_NODE_DIR": str(folder / "node")}
    write(folder / ".env", values)
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    accepted = json.loads(done.stdout)
    node = accepted["services"]["ray-cpu"]
    assert node["mem_limit"] == values["WS_CPU_MEMORY"]
    assert node["environment"]["WS_OBJECT_STORE_MEMORY"] == values["WS_CPU_STORE"]
    assert not node.get("cpus")
    sources = {volume["target"]: volume["source"].replace("$$", "$") for volume in node["volumes"]}
    assert sources["/opt/ws/node"] == str(folder / "node")
    assert accepted["secrets"]["ray_token"]["file"].replace("$$", "$") == str(folder / ".ws" / "token")
