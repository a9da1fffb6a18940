"""The command line without a cluster: help, wrong use, exit codes, and the commands that only look."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.engine.fake_daemon import daemon
from ws.cli import run

COMMANDS = [
    [],
    ["init"],
    ["config"],
    ["config", "show"],
    ["config", "schema"],
    ["render"],
    ["up"],
    ["down"],
    ["ps"],
    ["status"],
    ["logs"],
    ["exec"],
    ["test"],
    ["verify"],
    ["nodes"],
    ["discover"],
    ["send"],
    ["fetch"],
    ["transfers"],
    ["transfers", "show"],
    ["transfers", "cancel"],
    ["transfers", "pause"],
    ["transfers", "resume"],
    ["doctor"],
    ["image"],
    ["image", "build"],
]
NO_DOCKER = "unix:///nonexistent"


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Ws = Callable[..., Ended]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ws:
    """Runs a command line in an empty folder, without Docker and without settings of the caller's."""
    for name in os.environ:
        if name.startswith("WS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)
    monkeypatch.chdir(tmp_path)

    def run_line(*argv: str) -> Ended:
        code = run(list(argv))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run_line


# Use, right and wrong


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(ws: Ws, command: list[str], flag: str) -> None:
    ended = ws(*command, flag)
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith(f"Usage: {' '.join(['ws', *command])} ")


def test_the_version_names_ray(ws: Ws) -> None:
    ended = ws("--version")
    assert ended.code == 0
    assert re.fullmatch(r"ws \d+\.\d+\.\d+\S* \(Ray \d+\.\d+\.\d+\)\n", ended.out)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["up", "--nope"], "--nope"),
        (["nope"], "nope"),
        (["up", "--workers", "many"], "--workers"),
        (["up", "--workers", "-1"], "--workers"),
        (["up", "--engine", "cloud"], "cloud"),
        (["up", "--head-port", "70000"], "--head-port"),
        (["exec", "ray-cpu"], "CMD"),
        (["-C", "no-such-folder", "ps"], "no-such-folder"),
        (["--config", "no-such-file.yaml", "config", "show"], "no-such-file.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_exit_code_2_on_stderr(ws: Ws, argv: list[str], told: str) -> None:
    ended = ws(*argv)
    assert ended.code == 2
    assert ended.out == ""
    assert told in ended.err


def test_an_unknown_node_is_told_with_the_nearest_name(ws: Ws) -> None:
    ended = ws("up", "ray-gpux")
    assert ended.code == 2
    assert "there is no node 'ray-gpux'" in ended.err
    assert "nodes: ray-cpu, ray-gpu" in ended.err
    assert "→ did you mean ray-gpu?" in ended.err


def test_problems_of_the_config_come_all_at_once(ws: Ws, tmp_path: Path) -> None:
    config = "network:\n  subnt: 172.28.0.0/16\n  port_base: 99999\nservices:\n  ray:\n    cpu:\n      memory: much\n"
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    ended = ws("render")
    assert ended.code == 2
    assert "the configuration has 3 problems" in ended.err
    for line, path in ((2, "network.subnt"), (3, "network.port_base"), (7, "services.ray.cpu.memory")):
        assert re.search(rf"config\.yaml:{line} {re.escape(path)}: ", ended.err), ended.err
    assert "did you mean subnet?" in ended.err
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


def test_a_variable_with_a_mistake_is_named(ws: Ws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WS_SERVICES__RAY__CPU__HEAD_PORT", "nonsense")
    ended = ws("config", "show")
    assert ended.code == 2
    assert "WS_SERVICES__RAY__CPU__HEAD_PORT" in ended.err


# Without Docker


def test_no_docker_is_one_error_with_its_mend(ws: Ws) -> None:
    ended = ws("up", "--engine", "compose")
    assert ended.code == 4
    assert ended.out == ""
    what, why, mend = ended.err.splitlines()
    assert what == f"✗ no Docker daemon answers at {NO_DOCKER}"
    assert why == "  DOCKER_HOST leads there"
    assert mend.startswith("→ ")
    assert "ws up --engine local" in mend


@pytest.mark.parametrize("argv", [["image", "build"], ["down", "--engine", "compose"], ["ps", "--engine", "compose"]])
def test_what_needs_docker_says_so(ws: Ws, argv: list[str]) -> None:
    ended = ws(*argv)
    assert ended.code == 4
    assert ended.err.startswith("✗ no Docker daemon answers")


def test_a_daemon_that_breaks_down_is_no_bug_of_ours(ws: Ws, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ws-t-") as folder,
        daemon(Path(folder) / "docker.sock", {"ApiVersion": "1.45", "Version": "26"}) as host,
    ):
        monkeypatch.setenv("DOCKER_HOST", host)
        ended = ws("up", "--engine", "compose")
    assert ended.code == 4
    assert "✗ the Docker daemon refused, or broke off\n" in ended.err
    assert "only the version is here" in ended.err


@pytest.mark.parametrize("argv", [["status"], ["logs"], ["exec", "ray-cpu", "--", "hostname"]], ids=" ".join)
def test_nothing_runs(ws: Ws, argv: list[str]) -> None:
    ended = ws(*argv)
    assert ended.code == 4
    assert "nothing of this project is running" in ended.err
    assert "→ ws up starts it" in ended.err


def test_ps_of_nothing_is_an_empty_table(ws: Ws) -> None:
    ended = ws("ps")
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)
    assert json.loads(ws("ps", "--json").out) == []


def test_status_of_nothing_is_json_all_the_same(ws: Ws) -> None:
    ended = ws("status", "--json")
    assert ended.code == 4
    assert json.loads(ended.out)["nodes"] == []


def test_down_of_nothing_is_fine(ws: Ws) -> None:
    assert ws("down").code == 0


def test_up_does_not_start_where_a_port_is_taken(ws: Ws, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "services: {ray: {cpu: {head_port: 27380}}}\nnodes: {head_whitelist: [ray-cpu]}\n", encoding="utf-8"
    )
    with socket.create_server(("127.0.0.1", 27380)):
        ended = ws("up", "--engine", "local")
    assert ended.code == 4
    assert "27380" in ended.err
    assert f"(pid {os.getpid()})" in ended.err
    assert json.loads(ws("ps", "--json").out) == []


# A project folder


def test_render_without_docker_makes_the_token_and_the_schema_too(ws: Ws, tmp_path: Path) -> None:
    assert ws("render").code == 0
    token = tmp_path / ".ws" / "token"
    assert len(token.read_text(encoding="utf-8")) == 64
    schema = json.loads((tmp_path / ".ws" / "config.schema.json").read_text(encoding="utf-8"))
    assert schema == json.loads(ws("config", "schema").out)
    before = token.read_text(encoding="utf-8")
    ws("render")
    assert token.read_text(encoding="utf-8") == before


def test_init_then_render_then_check(ws: Ws, tmp_path: Path) -> None:
    ended = ws("init")
    assert ended.code == 0
    for name in ("config.yaml", "template/compose.yaml.jinja2", "template/ray-ep.sh", "images/ray/Dockerfile"):
        assert f"✓ {name}" in ended.out
        assert (tmp_path / name).is_file()
    assert os.access(tmp_path / "template" / "ray-ep.sh", os.R_OK)
    assert (tmp_path / ".ws").stat().st_mode & 0o777 == 0o700

    before = ws("render", "--check")
    assert before.code == 1
    assert "compose.yaml, compose.gpu.yaml" in before.err
    assert "ws render" in before.err
    assert not (tmp_path / "compose.yaml").exists()

    names = ("compose.yaml", "compose.gpu.yaml", "cluster-test.compose.yaml")
    assert ws("render").out == "".join(f"✓ {name}\n" for name in names)
    assert ws("render").out == "".join(f"· {name} (unchanged)\n" for name in names)
    assert (ws("render", "--check").code, ws("render", "--check").out) == (0, "in step\n")

    with (tmp_path / "template" / "compose.yaml.jinja2").open("a", encoding="utf-8") as template:
        template.write("# of my own\n")
    assert ws("render", "--check").code == 1


def test_init_keeps_what_is_there(ws: Ws, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("project: {name: mine}\n", encoding="utf-8")
    assert "· config.yaml (kept: it is there already)" in ws("init").out
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == "project: {name: mine}\n"
    assert ws("init", "--force").code == 0
    assert "cslr-exp-platform" in (tmp_path / "config.yaml").read_text(encoding="utf-8")


def test_another_folder_and_another_config_file(ws: Ws, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "mine.yaml").write_text("project: {name: mine}\n", encoding="utf-8")
    assert ws("-C", "there", "--config", "mine.yaml", "render").code == 0
    assert (tmp_path / "there" / "compose.yaml").read_text(encoding="utf-8").count("mine-ray-cpu") == 1
    assert not (tmp_path / "compose.yaml").exists()


def test_the_config_in_effect(ws: Ws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text("services: {ray: {env: {API_KEY: abc123}, cpu: {cpus: 2}}}\n", encoding="utf-8")
    monkeypatch.setenv("WS_SERVICES__RAY__CPU__MEMORY", "5g")
    ended = ws("config", "show")
    assert ended.code == 0
    shown = yaml.safe_load(ended.out)
    assert shown["services"]["ray"]["cpu"]["cpus"] == 2
    assert shown["services"]["ray"]["cpu"]["memory"] == "5g"
    assert shown["project"]["name"] == "cslr-exp-platform"


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["yaml", "json"])
def test_a_secret_in_the_config_is_not_shown(ws: Ws, tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "config.yaml").write_text("services: {ray: {env: {API_KEY: abc123}, cpu: {}}}\n", encoding="utf-8")
    ended = ws("config", "show", *flags)
    assert ended.code == 0
    assert "abc123" not in ended.out + ended.err
    assert "***" in ended.out


def test_the_config_as_json(ws: Ws) -> None:
    shown = json.loads(ws("config", "show", "--json").out)
    assert shown["network"]["subnet"] == "172.28.0.0/16"
    assert shown["services"]["ray"]["gpu"]["head_port"] == 6380


def test_the_schema_is_one_and_holds_for_the_packaged_config(ws: Ws, tmp_path: Path) -> None:
    schema = json.loads(ws("config", "schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    ws("init")
    config = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(config, schema)
    assert json.loads((tmp_path / ".ws" / "config.schema.json").read_text(encoding="utf-8")) == schema


# Doctor


def test_doctor_without_docker_and_without_a_config(ws: Ws) -> None:
    ended = ws("doctor")
    assert "! Docker Engine: no Docker daemon answers at unix:///nonexistent" in ended.out
    assert "✓ engine: auto takes local processes" in ended.out
    assert "  → " in ended.out


def test_doctor_for_containers_without_docker_fails(ws: Ws) -> None:
    ended = ws("doctor", "--engine", "compose")
    assert ended.code == 1
    assert "✗ Docker Engine" in ended.out


def test_doctor_for_programs(ws: Ws) -> None:
    findings: list[dict[str, Any]] = json.loads(ws("doctor", "--json", "--engine", "local").out)
    assert {"subject", "verdict", "text", "mend"} == set(findings[0])
    assert {finding["verdict"] for finding in findings} <= {"ok", "warn", "fail"}


# Ends


def test_a_bug_of_ours_is_exit_code_70_with_its_traceback_in_a_file(ws: Ws, monkeypatch: pytest.MonkeyPatch) -> None:
    def unforeseen(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no one thought of this")

    monkeypatch.setattr("ws.engine.init.write_project", unforeseen)
    ended = ws("init")
    assert ended.code == 70
    assert ended.out == ""
    assert "a bug in ws: ZeroDivisionError: no one thought of this" in ended.err
    assert "Traceback" not in ended.err
    path = Path(re.findall(r"(/\S+ws-bug-\S+\.txt)", ended.err)[0])
    try:
        assert "in unforeseen" in path.read_text(encoding="utf-8")
    finally:
        path.unlink()


def test_an_interrupt_is_exit_code_130(ws: Ws, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ws.engine.init.write_project", interrupted)
    ended = ws("init")
    assert ended.code == 130
    assert ended.err.strip() == "interrupted"


def process(*argv: str, folder: Path, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ws", *argv],
        cwd=folder,
        env={**os.environ, "DOCKER_HOST": NO_DOCKER, **(env or {})},
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_as_a_process_the_code_is_its_own(tmp_path: Path) -> None:
    done = process("up", "--engine", "compose", folder=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.splitlines()) == 3


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = process("config", "schema", folder=tmp_path, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_for_terminals_that_want_it(tmp_path: Path, env: dict[str, str], coloured: bool) -> None:
    ours, theirs = os.openpty()
    environment = {"TERM": "xterm", "NO_COLOR": "", **env}
    try:
        done = process("up", "ray-gpux", folder=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=theirs)
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1(65536).decode()
    assert done.returncode == 2
    assert "there is no node 'ray-gpux'" in shown
    assert ("\x1b[" in shown) is coloured


def test_completion_is_offered(ws: Ws) -> None:
    assert "--show-completion" in ws("--help").out


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from ws.cli import run; run(['--help']); run(['send', '--help']);"
        "print([name for name in ('ray', 'sqlite3', 'rich', 'ws.transfer.history') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == "[]\n"


def test_ray_is_not_imported_by_commands_that_do_not_talk_to_it(tmp_path: Path) -> None:
    program = (
        "import sys; from ws.cli import run; run(['render']); run(['ps']); run(['doctor', '--engine', 'local']);"
        "print('ray' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "DOCKER_HOST": NO_DOCKER},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.splitlines()[-1] == "False", done.stderr
