"""Proving nodes; processes of this machine play the prober."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node.stage import soon
from ws.errors import CheckFailed
from ws.process import Spawn
from ws.verify import programs
from ws.verify.proof import CHECKS, Proof, prove

# What each part may say; `hang` is a prober that has no more to say and does not end.
PLAYER = """
import json, os, sys, time
params = json.loads(sys.argv[1])
def say(event, **fields): print(json.dumps({"event": event, **fields}), flush=True)
def check(node, check, ok=True, why=None): say("check", node=node, check=check, ok=ok, seconds=0.1, why=why)
def passes(node):
    say("alive", node=node)
    for name in ("task", "pull", "serve", "runtime_env"): check(node, name)
def hang(): time.sleep(600)
"""


class Stage:
    """Plays one part after the other, each time that the prober is run; the last part again and again."""

    def __init__(self, *parts: str) -> None:
        self._parts = [textwrap.dedent(part) for part in parts]
        self.processes: list[subprocess.Popen[str]] = []
        self.argvs: list[list[str]] = []

    def locate(self) -> tuple[str, Spawn]:
        return "ray-cpu:6379", self.spawn

    def spawn(self, argv: list[str]) -> subprocess.Popen[str]:
        part = self._parts[min(len(self.processes), len(self._parts) - 1)]
        process = subprocess.Popen(
            [sys.executable, "-S", "-u", "-c", PLAYER + part, argv[-1]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.argvs.append(argv)
        self.processes.append(process)
        return process

    def params(self, run: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.argvs[run][-1]))

    def expect_ended(self) -> None:
        soon("the end of every prober", lambda: all(process.poll() is not None for process in self.processes))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Threads that read or reap a prober end with it."""
    yield
    names = {"program", "program's end"}
    soon("the end of the threads", lambda: not names & {thread.name for thread in threading.enumerate()})


def failure(stage: Stage, *nodes: str, timeout: float = 0.5, **more: Any) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        prove(nodes or ("a", "b"), stage.locate, timeout=timeout, **more)
    stage.expect_ended()
    return caught.value


def test_nodes_that_pass_every_check_are_proven() -> None:
    stage, events = Stage("passes('a'); passes('b'); say('done', ok=True)"), []
    proof = prove(["a", "b"], stage.locate, timeout=60, on_event=events.append)
    assert proof.missing == []
    assert proof.alive == {"a", "b"}
    assert [event["event"] for event in events] == [*["alive", *["check"] * 4, "proven"] * 2, "done"]
    assert len(stage.processes) == 1
    stage.expect_ended()


def test_the_prober_is_python_with_its_text_and_what_it_must_know() -> None:
    stage = Stage("passes('a'); say('done', ok=True)")
    prove(["a"], stage.locate, timeout=60)
    assert stage.argvs[0][:4] == ["python3", "-u", "-c", programs.text("prober")]
    params = stage.params()
    assert (params["address"], params["nodes"]) == ("ray-cpu:6379", ["a"])
    assert 0 < params["timeout"] <= 60
    stage.expect_ended()


def test_its_stdin_stays_open_for_as_long_as_it_is_listened_to() -> None:
    waits = "import threading; threading.Thread(target=lambda: (sys.stdin.read(), os._exit(9)), daemon=True).start()"
    stage = Stage(f"{waits}\ntime.sleep(0.5); passes('a'); say('done', ok=True)")
    assert prove(["a"], stage.locate, timeout=60).missing == []
    assert len(stage.processes) == 1
    stage.expect_ended()


def test_a_prober_that_dies_is_run_again_where_the_cluster_is_by_then() -> None:
    first, second = Stage("passes('a'); sys.exit('the head went away')"), Stage("passes('b'); say('done', ok=True)")
    places = iter([first.locate(), None, None, ("ray-gpu:6380", second.spawn)])
    proof = prove(["a", "b"], lambda: next(places), timeout=60)
    assert proof.missing == []
    assert second.params()["address"] == "ray-gpu:6380"
    assert second.params()["timeout"] < first.params()["timeout"]
    first.expect_ended()
    second.expect_ended()


def test_a_prober_that_is_dead_before_it_is_listened_to_is_run_again() -> None:
    stage = Stage("sys.exit(1)", "passes('a'); say('done', ok=True)")

    def spawn(argv: list[str]) -> subprocess.Popen[str]:
        process = stage.spawn(argv)
        if len(stage.processes) == 1:
            process.wait()
        return process

    assert prove(["a"], lambda: ("ray-cpu:6379", spawn), timeout=60).missing == []
    assert len(stage.processes) == 2
    stage.expect_ended()


def test_a_node_that_came_back_must_pass_everything_again() -> None:
    parts = """
        passes('a')
        say('alive', node='a')
        check('a', 'task')
        say('done', ok=False)
    """
    error = failure(Stage(parts), "a")
    assert "a: no answer yet: an object pulled by it" in str(error.why)


def test_stray_output_is_no_event_and_tells_where_nothing_else_does() -> None:
    stage = Stage("print('bash: python3: command not found'); print('[1]'); print('7'); sys.exit(127)")
    error = failure(stage, "a")
    assert error.what == "a not proven within 0.5 s"
    assert "a: it has not come alive at the head under its own name" in str(error.why)
    assert "could not connect: bash: python3: command not found" in str(error.why)
    assert "`ws doctor`" in str(error.mend)


def test_stray_output_between_events_does_no_harm() -> None:
    stage = Stage("print('a warning of Ray'); passes('a'); print('{\"no\": \"event\"}'); say('done', ok=True)")
    assert prove(["a"], stage.locate, timeout=60).missing == []
    stage.expect_ended()


def test_why_the_driver_could_not_connect_is_told() -> None:
    error = failure(Stage("say('connecting', why='ConnectionError: too early'); sys.exit(1)"), "a")
    assert "the driver that should prove them could not connect: ConnectionError: too early" in str(error.why)


def test_at_the_deadline_each_node_that_lacks_something_is_told_with_what_and_why() -> None:
    parts = """
        passes('good')
        for node in ('pulls not', 'serves not', 'no environment', 'no task', 'silent'): say('alive', node=node)
        check('pulls not', 'task'); check('pulls not', 'pull', False, 'ObjectFetchTimedOutError')
        for name in ('task', 'pull'): check('serves not', name)
        check('serves not', 'serve', False, 'ObjectFetchTimedOutError')
        for name in ('task', 'pull', 'serve'): check('no environment', name)
        check('no environment', 'runtime_env', False, 'RuntimeEnvSetupError')
        check('no task', 'task', False, 'no answer in time')
        check('silent', 'task'); check('silent', 'pull')
        say('done', ok=False)
    """
    nodes = ("good", "pulls not", "serves not", "no environment", "no task", "silent", "dead")
    asked: list[str] = []
    error = failure(Stage(parts), *nodes, evidence=lambda node: asked.append(node) or f"{node} | its last line")
    assert error.what == f"{', '.join(nodes[1:])} not proven within 0.5 s"
    why = str(error.why).splitlines()
    assert why == [
        "pulls not: an object pulled by it failed (ObjectFetchTimedOutError); likely the object-manager port of another "
        "node is not reachable from it",
        "serves not: an object served by it failed (ObjectFetchTimedOutError); likely its object-manager port is not "
        "reachable from the head",
        "no environment: a task with a runtime_env on it failed (RuntimeEnvSetupError); likely its runtime-env agent's "
        "port is not reachable, or the agent died",
        "no task: a task on it failed (no answer in time); likely its node-manager or worker ports are not reachable from "
        "the head",
        "silent: no answer yet: an object served by it",
        "dead: it has not come alive at the head under its own name",
        *(f"{node} | its last line" for node in nodes[1:4]),
    ]
    assert asked == list(nodes[1:4])


def test_a_prober_that_hangs_past_the_deadline_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws.verify.proof._LATENESS", 0.5)
    stage = Stage("say('alive', node='a'); hang()")
    assert "a: no answer yet: a task on it" in str(failure(stage, "a", timeout=0.3).why)
    assert len(stage.processes) == 1


def test_a_prober_that_is_done_but_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws.verify.programs._LEAVE", 0.3)
    stage = Stage("passes('a'); say('done', ok=True); hang()")
    assert prove(["a"], stage.locate, timeout=60).missing == []
    stage.expect_ended()


def test_without_a_leader_nothing_is_run() -> None:
    asked: list[float] = []
    with pytest.raises(CheckFailed) as caught:
        prove(["a"], lambda: asked.append(time.monotonic()), timeout=0.5)
    assert len(asked) > 1
    assert caught.value.why == "a: it has not come alive at the head under its own name"


class DiedError(Exception):
    """What `watch` raises where a node has died."""


def test_when_a_node_has_died_the_proof_ends_at_once_and_the_prober_with_it() -> None:
    stage = Stage("say('alive', node='a'); hang()")
    watched: list[int] = []

    def watch() -> None:
        watched.append(len(stage.processes))
        if len(watched) > 3:
            raise DiedError

    with pytest.raises(DiedError):
        prove(["a"], stage.locate, timeout=3600, watch=watch)
    assert watched == [0, 1, 1, 1]
    stage.expect_ended()
    assert stage.processes[0].returncode == -9


def test_what_has_died_already_is_found_before_anything_is_run() -> None:
    stage = Stage("hang()")

    def watch() -> None:
        raise DiedError

    with pytest.raises(DiedError):
        prove(["a"], stage.locate, timeout=3600, watch=watch)
    assert stage.processes == []


def test_what_a_listener_raises_ends_the_prober_too() -> None:
    stage = Stage("say('alive', node='a'); hang()")

    def interrupt(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove(["a"], stage.locate, timeout=3600, on_event=interrupt)
    stage.expect_ended()


def test_a_node_is_proven_by_all_checks_and_no_fewer() -> None:
    proof = Proof(("a",))
    proof.take({"event": "alive", "node": "a"})
    for check in CHECKS:
        assert not proof.proven("a")
        proof.take({"event": "check", "node": "a", "check": check, "ok": True})
    assert proof.proven("a")
    assert proof.lack("a") == "nothing"
    proof.take({"event": "check", "node": "a", "check": "pull", "ok": False, "why": "gone"})
    assert proof.missing == ["a"]
