"""Looking through a helper process: the parent's side over programs that do what they are told."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.stage import LONG, soon
from tests.ports import free_port
from ws.cluster import helper
from ws.cluster.helper import HelperSource, Way, init_arguments
from ws.cluster.look import Look, Starting
from ws.cluster.versions import Mismatch
from ws.errors import EnvironmentProblem
from ws.process import start

NODE = {
    "node_id": "n1",
    "name": "ray-cpu",
    "address": "10.0.0.1",
    "alive": True,
    "head": True,
    "total": {"CPU": 1.0},
    "free": None,
    "labels": {},
    "hostname": "machine",
    "port": 7000,
}
LOOK = {"session": "", "ray": "2.60.0", "python": "3.11.7", "dashboard": "10.0.0.1:8265", "nodes": [NODE], "actors": None}
STAY = "import sys; sys.stdin.read()"


class Helpers:
    """Starts `program` in the helper's place, and keeps every process."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.started: list[subprocess.Popen[str]] = []
        self.argv: list[list[str]] = []

    def __call__(self, argv: list[str]) -> subprocess.Popen[str]:
        self.argv.append(argv)
        self.started.append(start([sys.executable, "-u", "-c", self.program]))
        return self.started[-1]


@contextlib.contextmanager
def source(helpers: Helpers, way: Way | None = None) -> Iterator[HelperSource]:
    made = HelperSource(way or Way("local"), "", helpers)
    try:
        yield made
    finally:
        made.close()
        for process in helpers.started:
            process.wait(30)


def lines(*answers: dict[str, Any], before: str = "", then: str = STAY) -> str:
    return "\n".join([before, *(f"print({json.dumps(answer)!r}, flush=True)" for answer in answers), then])


def looked(eyes: HelperSource) -> Look:
    """The next look, however long the program takes to start."""
    deadline = time.monotonic() + LONG
    while True:
        with contextlib.suppress(*([EnvironmentProblem] if time.monotonic() < deadline else [])):
            return eyes.look()


def failed(eyes: HelperSource) -> EnvironmentProblem:
    while True:
        try:
            eyes.look()
        except Starting:
            continue
        except EnvironmentProblem as problem:
            return problem


def test_a_look_comes_through_whatever_else_ray_prints() -> None:
    helpers = Helpers(lines({"look": LOOK}, before="print('a warning of Ray'); print('{no json')"))
    with source(helpers) as eyes:
        seen = looked(eyes)
    assert seen.dashboard == "10.0.0.1:8265"
    assert seen.actors is None
    assert seen.cluster.session == "n1"
    assert [(node.name, node.port, node.head) for node in seen.nodes] == [("ray-cpu", 7000, True)]


def test_each_look_is_had_once_and_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_NEXT_LOOK", 0.2)
    helpers = Helpers(lines({"look": LOOK}))
    with source(helpers) as eyes:
        looked(eyes)
        assert failed(eyes).what == "the helper process is silent"
        soon("a stuck helper's end", lambda: failed(eyes) and len(helpers.started) > 1)
        assert looked(eyes).nodes


def test_a_helper_that_is_starting_is_waited_for_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_NEXT_LOOK", 0.05)
    with source(Helpers(STAY)) as eyes:
        with pytest.raises(Starting):
            eyes.look()
        monkeypatch.setattr(helper, "_FIRST_LOOK", 0.0)
        assert failed(eyes).what == "the helper process is silent"


def test_a_problem_is_told_and_the_next_look_starts_anew() -> None:
    helpers = Helpers(lines({"problem": "RpcError: timed out"}))
    with source(helpers) as eyes:
        problem = failed(eyes)
        assert (problem.what, problem.why) == ("the cluster does not answer", "RpcError: timed out")
        helpers.program = lines({"look": LOOK})
        assert looked(eyes).nodes
        assert len(helpers.started) == 2


def test_other_versions_are_a_mismatch() -> None:
    with source(Helpers(lines({"mismatch": {"ray": "2.9.3", "python": "3.10.1"}}))) as eyes:
        problem = failed(eyes)
    assert isinstance(problem, Mismatch)
    assert "ray:2.9.3-py310" in str(problem.mend)


def test_one_that_aborts_takes_nothing_along_and_its_last_words_are_told() -> None:
    helpers = Helpers("import os; print('a fatal error of Ray', flush=True); os.abort()")
    with source(helpers) as eyes:
        problem = failed(eyes)
    assert problem.what == "the helper process ended with exit code -6"
    assert problem.why == "a fatal error of Ray"


def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "_GRACE", 0.2)
    helpers = Helpers(lines({"look": LOOK}, then="import time\nwhile True: time.sleep(60)"))
    with source(helpers) as eyes:
        looked(eyes)
    assert helpers.started[0].wait(30) == -9


def test_where_nothing_listens_no_helper_is_started() -> None:
    helpers = Helpers(STAY)
    began = time.monotonic()
    with (
        source(helpers, Way("gcs", f"127.0.0.1:{free_port()}")) as eyes,
        pytest.raises(EnvironmentProblem, match="no way to"),
    ):
        eyes.look()
    assert helpers.started == []
    assert time.monotonic() - began < 10


def test_after_the_end_none_is_started() -> None:
    helpers = Helpers(STAY)
    eyes = HelperSource(Way("local"), "", helpers)
    eyes.close()
    with pytest.raises(EnvironmentProblem, match="was ended"):
        eyes.look()
    assert helpers.started == []


def test_a_token_is_in_the_environment_and_never_in_the_arguments() -> None:
    helpers = Helpers(STAY)
    eyes = HelperSource(Way("local"), "hunter2", helpers)
    with contextlib.suppress(EnvironmentProblem):
        eyes.look()
    eyes.close()
    assert "hunter2" not in str(helpers.argv)
    assert helper._environment("hunter2") == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "hunter2"}
    assert helper._environment("") == {"RAY_AUTH_MODE": "disabled"}


def test_somebody_elses_cluster_is_given_variables_at_most_and_no_folder() -> None:
    assert init_arguments() == {}
    assert init_arguments("castray", {"A": "1"}) == {"namespace": "castray", "runtime_env": {"env_vars": {"A": "1"}}}


def test_the_program_runs_as_text_with_the_standard_library_and_ray_alone() -> None:
    text = Path(helper.__file__).with_name("looker.py").read_text(encoding="utf-8")
    assert "import ws" not in text
    assert "from ws" not in text
