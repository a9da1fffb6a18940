"""What holds for every engine: the real agent on real nodes, with `stub_ray.py` in Ray's place."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Sandbox
from tests.node.stage import STUB, soon
from ws.config.load import load
from ws.config.plan import plan
from ws.engine.base import Engine, NodeState, Project
from ws.engine.compose import ComposeEngine
from ws.engine.local import LocalEngine, agent_command
from ws.errors import EnvironmentProblem
from ws.wait import NotYet, wait_for

NAMES = ["ray-cpu", "ray-gpu"]
IMAGE_WITHOUT_RAY = "python:3.12-alpine"


class Place:
    """A project with its engine, one of those that the contract is for."""

    def __init__(self, folder: Path, kind: str, number: int, *, with_ray: bool = True) -> None:
        folder.mkdir(parents=True)
        self._with_ray = with_ray
        self.sandbox = Sandbox.make(folder, number)
        self._notes = folder / "notes"
        self._notes.mkdir(mode=0o777)
        self._ends = ExitStack()
        make = {"compose": self._compose, "local": self._local}[kind]
        self.engine, ray = make()
        notes = "/notes" if kind == "compose" else str(self._notes)
        ray["env"] = {"STUB_RAY_FOLDER": notes}
        config = load(folder / "config.yaml", {}, {"services": {"ray": ray}}).config
        self.project = Project(folder, config, plan(config))

    def _compose(self) -> tuple[Engine, dict[str, Any]]:
        engine = ComposeEngine()
        self._ends.callback(engine.client.close)
        stub = [f"{STUB}:/usr/local/bin/ray:ro"] if self._with_ray else []
        return engine, {"image": IMAGE_WITHOUT_RAY, "volumes": [*stub, f"{self._notes}:/notes"]}

    def _local(self) -> tuple[Engine, dict[str, Any]]:
        folder = self.sandbox.folder / "bin"
        folder.mkdir()
        if self._with_ray:
            (folder / "ray").symlink_to(STUB)

        def command(name: str) -> list[str]:
            return ["env", f"PATH={folder}:{os.defpath}", *agent_command(name)]

        return LocalEngine(command), {}

    def up(self, names: Sequence[str] = NAMES) -> None:
        """As `ws up` does, without the proof."""
        self.engine.prepare(self.project)
        self.engine.check(self.project, names)
        self.engine.up(self.project, names)

    def close(self) -> None:
        try:
            assert self.engine.down(self.project) == []
        finally:
            self._ends.close()

    # What is asked of it

    def states(self) -> dict[str, NodeState]:
        return {state.name: state for state in self.engine.nodes(self.project)}

    def log(self, name: str, **how: Any) -> list[str]:
        return list(self.engine.logs(self.project, name, **how))

    def wait_line(self, name: str, text: str) -> None:
        def logged() -> None:
            lines = self.log(name)
            if not any(text in line for line in lines):
                raise NotYet("\n".join(lines))

        wait_for(f"{text!r} in the log of {name}", logged, timeout=60)

    def run_on(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.engine.exec_command(self.project, name, argv),
            env={**os.environ, **self.engine.exec_environment(self.project, name)},
            input="what came in",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def look(self, name: str) -> dict[str, Any]:
        """What the agent says of itself, asked on its node."""
        return dict(json.loads(self.run_on(name, "python3", self.engine.agent_program, "look").stdout))


KINDS = [pytest.param("local", marks=pytest.mark.slow), pytest.param("compose", marks=pytest.mark.docker)]


@pytest.fixture(params=KINDS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def place(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two nodes that are up; the tests that share them leave them so."""
    with ExitStack() as ends:
        made = Place(tmp_path_factory.mktemp("contract") / "project", kind, 30)
        ends.callback(made.close)
        made.up()
        for name in NAMES:
            made.wait_line(name, "✓ Ray is up")
        yield made


def test_all_that_is_up_is_told_the_health_server_first(place: Place) -> None:
    states = place.engine.nodes(place.project)
    assert [state.name for state in states] == ["health", *NAMES]
    for state in states:
        assert (state.state, state.exit_code, state.restarts) == ("running", None, 0)
        assert not state.ended_badly
        assert state.started_at


def test_up_again_leaves_what_runs_as_it_is(place: Place) -> None:
    before = place.states()
    place.up()
    assert place.states() == before


def test_the_nodes_found_each_other_by_what_the_engine_told_them(place: Place) -> None:
    said = {name: place.look(name) for name in NAMES}
    assert sorted(each["mode"] for each in said.values()) == ["head", "worker"]
    assert {each["name"] for each in said.values()} == set(NAMES)
    assert len({(each["leader"], each["address"], each["epoch"]) for each in said.values()}) == 1


def test_the_log_is_that_of_the_node_with_its_last_lines_on_demand(place: Place) -> None:
    for name in NAMES:
        lines = place.log(name)
        assert f"Hostname: {name}" in lines
        assert place.log(name, tail=2) == lines[-2:]
        assert place.log(name, tail=0) == []
    assert any("health server on" in line for line in place.log("health"))


def test_a_command_runs_on_its_node_with_stdin_stdout_and_exit_code(place: Place) -> None:
    done = place.run_on("ray-gpu", "sh", "-c", 'cat; echo " on $HEAD_WHITELIST" "$1"; echo oops >&2; exit 7', "sh", "a  b")
    assert done.stdout == "what came in on ray-cpu,ray-gpu a  b\n"
    assert done.stderr == "oops\n"
    assert done.returncode == 7


def test_the_token_reaches_a_command_as_a_file(place: Place) -> None:
    done = place.run_on("ray-cpu", "sh", "-c", 'echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" $(cat "$RAY_AUTH_TOKEN_PATH")')
    assert done.stdout.split() == ["token", place.project.token_path.read_text(encoding="utf-8")]


def test_every_entry_leads_in(place: Place) -> None:
    entries = place.engine.entries(place.project)
    assert set(entries) == {"dashboard", "client", "gcs", "health"}
    with urllib.request.urlopen(place.engine.health_url(place.project), timeout=30) as answer:
        assert answer.read() == b"OK\n"
    assert entries["health"] == place.engine.health_url(place.project)
    leader = place.look("ray-cpu")["leader"]
    for kind in ("dashboard", "client", "gcs"):
        host, _, port = entries[kind].rpartition("//")[2].partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection, connection.makefile() as lines:
            assert lines.readline().startswith(leader)


def test_a_node_that_is_not_there_has_no_log(place: Place) -> None:
    with pytest.raises(EnvironmentProblem, match="no-such-node"):
        place.log("no-such-node")


def test_up_of_one_node_leaves_it_as_it_is(place: Place) -> None:
    before = place.states()
    place.up(["ray-gpu"])
    assert place.states() == before


class TestAlone:
    """Each with nodes of its own."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "project"

    def test_from_nothing_to_nothing(self, kind: str, folder: Path) -> None:
        """Nothing is up; one node of two, the other one, too; down, and down again."""
        with ExitStack() as ends:
            place = Place(folder, kind, 31)
            ends.callback(place.close)
            assert place.engine.nodes(place.project) == []
            assert place.engine.down(place.project) == []
            place.up(["ray-gpu"])
            assert list(place.states()) == ["health", "ray-gpu"]
            place.up(["ray-cpu"])
            assert list(place.states()) == ["health", *NAMES]
            place.wait_line("ray-gpu", "✓ Ray is up")
            following = place.engine.logs(place.project, "ray-gpu", follow=True)
            assert next(following) == "Hostname: ray-gpu"
            assert place.engine.down(place.project) == []
            assert "✓ stopped" in list(following)[-1]
            assert place.engine.nodes(place.project) == []
            assert place.engine.down(place.project) == []
            place.engine.check(place.project, NAMES)

    def test_a_node_that_exits_at_start_is_told_with_its_exit_code_and_log(self, kind: str, folder: Path) -> None:
        with ExitStack() as ends:
            place = Place(folder, kind, 31, with_ray=False)
            ends.callback(place.close)
            place.up(["ray-cpu"])

            def ended() -> bool:
                state = place.states()["ray-cpu"]
                return state.ended_badly and state.exit_code in (2, 127)

            soon("the end of the node", ended)
            assert any("✗ no `ray` on the PATH" in line for line in place.log("ray-cpu"))
            assert place.states()["health"].state == "running"
            assert set(place.engine.entries(place.project)) >= {"health"}

    def test_a_port_that_is_taken_is_named_before_anything_starts(self, kind: str, folder: Path) -> None:
        with ExitStack() as ends:
            place = Place(folder, kind, 31)
            ends.callback(place.close)
            place.engine.prepare(place.project)
            port = place.project.plan.node("ray-cpu").entry.client
            with (
                socket.create_server(("127.0.0.1", port)),
                pytest.raises(EnvironmentProblem, match=rf"port {port}\b.* taken"),
            ):
                place.engine.check(place.project, NAMES)
            place.engine.check(place.project, NAMES)
            assert place.engine.nodes(place.project) == []
