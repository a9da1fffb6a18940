"""`ws nodes` against answers of a dashboard over HTTP; real clusters are in tests/cluster/test_real.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_dashboard_look import answers, listed, node
from tests.engine.fake_engine import answering
from ws.cli import run
from ws.cli.nodes import _in_words
from ws.cluster.nodes import Actor, Node, NodeChange, NodeState, SeenNode

RAY_VARIABLES = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "CASTRAY_CONFIG")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # a token may be in ~/.ray
    for name in RAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def two() -> dict[str, Any]:
    return answers(node("head", head=True), node("b"), node("old", alive=False))


def test_the_table_shows_every_node(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(two()) as url:
        assert run(["nodes", "--address", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["NODE", "NAME", "HOST", "ADDRESS", "ROLE", "STATE"]
    assert lines[1].split() == ["ray_node_1", "name-head", "machine", "10.0.0.7", "head", "alive", "2.5/4", "1", "a1"]
    assert lines[2].split()[:6] == ["ray_node_2", "name-b", "machine", "10.0.0.7", "worker", "alive"]
    assert lines[2].split()[6] == "?/4"
    assert lines[3].split() == ["ray_node_3", "name-old", "machine", "10.0.0.7", "worker", "dead", "0"]


def test_actors_that_nobody_tells_of_are_no_zero(capsys: pytest.CaptureFixture[str]) -> None:
    with answering({**two(), "/api/v0/actors": 500}) as url:
        assert run(["nodes", "--address", url]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[6:] == ["2.5/4", "?"]
        assert run(["nodes", "--address", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][0]["actors"] is None


def test_a_line_of_a_change_tells_what_changed_and_none_repeats_the_last() -> None:
    seen = SeenNode("a", "name-a", "10.0.0.7", alive=True, head=True, total={"CPU": 4.0, "memory": 8.0}, free={"CPU": 4.0})
    idle = Node(1, NodeState.alive, seen)
    stored = replace(idle, seen=replace(seen, free={"CPU": 4.0, "memory": 3.0}))
    casting = replace(idle, actors=(Actor("id", "m.CastingNode", "external_node_1", "castray", "a"),))
    assert _in_words(NodeChange(idle, stored)) == ""
    assert _in_words(NodeChange(idle, casting)) == "ray_node_1 (name-a) changed: 1 actor (external_node_1), CPU 4/4 free"


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(two()) as url:
        assert run(["nodes", "--address", url, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "connected"
    assert told["cluster"] == {"session": "session_1", "ray_version": "2.60.0", "python_version": "3.11.7"}
    assert [each["id"] for each in told["nodes"]] == ["ray_node_1", "ray_node_2", "ray_node_3"]
    assert told["nodes"][0]["casting_nodes"] == ["a1"]


def test_the_config_names_the_address_and_the_environment_wins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config_external_cluster.json"
    with answering(two()) as url, answering(answers(node("other", head=True))) as other:
        config.write_text(json.dumps({"ray_cluster": {"address": url}}))
        assert run(["nodes", "--config", str(config)]) == 0
        shown = capsys.readouterr()
        assert "name-head" in shown.out
        assert f"{url} is the address that the config names" in shown.err
        monkeypatch.setenv("RAY_ADDRESS", other)
        assert run(["nodes", "--config", str(config)]) == 0
        shown = capsys.readouterr()
        assert "name-other" in shown.out
        assert "RAY_ADDRESS names" in shown.err


def test_a_token_comes_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    there = {**two(), "/api/authentication_mode": {"authentication_mode": "token"}}
    with answering(there, "secret") as url:
        assert run(["nodes", "--address", url, "--token-file", str(tmp_path / "none")]) == 4
        assert "can't be read" in capsys.readouterr().err
        file.write_text("other")
        assert run(["nodes", "--address", url, "--token-file", str(file)]) == 4
        assert "other" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--address", "no address"], 2, "is no address"),
        (["--config", "/nowhere/at/all.json"], 2, "can't be read"),
        (["--address", "127.0.0.1:1"], 4, "nothing listens there"),
    ],
)
def test_what_goes_wrong_is_said_without_a_traceback(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, what: str
) -> None:
    assert run(["nodes", *arguments]) == code
    shown = capsys.readouterr()
    assert what in shown.err
    assert shown.out == ""
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_shows_changes_until_it_is_interrupted(as_json: bool) -> None:
    there = two()
    environ = {key: value for key, value in os.environ.items() if key not in RAY_VARIABLES}
    with answering(there) as url:
        argv = [sys.executable, "-m", "ws", "nodes", "--address", url, "--watch", *(["--json"] if as_json else [])]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
            assert process.stdout
            first = process.stdout.readline()
            assert (json.loads(first)["event"] == "nodes") if as_json else first.startswith("NODE")
            there["/api/v0/nodes"] = listed(node("head", head=True), node("b", alive=False))
            dead = next(line for line in process.stdout if "name-b" in line and "dead" in line)
            if as_json:
                told = json.loads(dead)
                assert (told["event"], told["node"]["id"], told["node"]["state"]) == ("dead", "ray_node_2", "dead")
            else:
                assert "ray_node_2 (name-b) dead" in dead
            there["/api/version"] = 500
            lost = next(line for line in process.stdout if "degraded" in line)
            assert "answers 500" in lost
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr
            assert "Traceback" not in process.stderr.read()


def test_watching_ends_where_trying_again_is_vain() -> None:
    there = two()
    environ = {key: value for key, value in os.environ.items() if key not in RAY_VARIABLES}
    with answering(there) as url:
        argv = [sys.executable, "-m", "ws", "nodes", "--address", url, "--watch"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ) as process:
            assert process.stdout
            assert process.stderr
            assert process.stdout.readline().startswith("NODE")
            there["/api/version"] = 401
            assert process.wait(60) == 4
            assert "failed: " in process.stdout.read()
            assert "refuses the token" in process.stderr.read()
