"""Bookkeeping of nodes' lives on streams that are made up, and a watch over processes that play the program."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node.stage import soon
from ws.errors import EnvironmentProblem
from ws.process import Completed
from ws.verify.site import Expected
from ws.verify.stability import Lives, StabilityWatch, window

NAMES = ("ray-cpu", "ray-gpu", "test-ray-worker")


def test_the_window_by_rays_defaults_and_by_what_the_head_was_told() -> None:
    assert window({}) == 65.0
    told = {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "3",
    }
    assert window(told) == 9.0
    assert window({"RAY_health_check_period_ms": "", "RAY_health_check_timeout_ms": "soon"}) == 65.0


# Lives


def node(name: str, number: int = 1, alive: bool = True, why: str = "") -> dict[str, Any]:
    return {"name": name, "id": f"{name}-{number}", "alive": alive, "why": why}


def nodes(*some: dict[str, Any]) -> dict[str, Any]:
    return {"event": "nodes", "nodes": list(some)}


SAME = {"event": "same"}


def test_a_life_counts_from_when_it_was_first_seen_to_the_last_answer() -> None:
    lives = Lives(NAMES)
    assert lives.alive_for("ray-cpu") is None
    lives.take(nodes(node("ray-cpu")), 10.0)
    assert lives.alive_for("ray-cpu") == 0.0
    lives.take(SAME, 12.0)
    lives.take(nodes(node("ray-cpu"), node("ray-gpu")), 14.0)
    assert (lives.alive_for("ray-cpu"), lives.alive_for("ray-gpu"), lives.alive_for("test-ray-worker")) == (4.0, 0.0, None)
    assert lives.troubles == {}


def test_time_in_which_nobody_answers_counts_for_nothing_until_the_same_nodes_are_seen_again() -> None:
    lives = Lives(NAMES)
    lives.take(nodes(node("ray-cpu")), 10.0)
    lives.take({"event": "lost", "why": "gone"}, 30.0)
    assert (lives.alive_for("ray-cpu"), lives.lost) == (0.0, "gone")
    lives.take(nodes(node("ray-cpu")), 31.0)
    assert (lives.alive_for("ray-cpu"), lives.lost) == (21.0, "")


def test_a_node_of_an_earlier_run_that_is_not_found_dead_yet_is_nobodys_problem() -> None:
    lives = Lives(NAMES, frozenset({"test-ray-worker-1"}))
    lives.take(nodes(node("test-ray-worker", 1)), 0.0)
    assert lives.alive_for("test-ray-worker") is None
    lives.take(nodes(node("test-ray-worker", 1), node("test-ray-worker", 2)), 5.0)
    lives.take(nodes(node("test-ray-worker", 1, alive=False), node("test-ray-worker", 2)), 15.0)
    assert lives.troubles == {}
    assert lives.alive_for("test-ray-worker") == 10.0


def test_a_node_that_died_is_a_problem_for_good_though_it_comes_back() -> None:
    lives = Lives(NAMES)
    lives.take(nodes(node("ray-gpu")), 0.0)
    lives.take(nodes(node("ray-gpu", alive=False, why="missed too many health checks")), 15.0)
    assert lives.troubles == {"ray-gpu": ["ray-gpu was alive for 15 s, and died: missed too many health checks"]}
    assert lives.alive_for("ray-gpu") is None
    lives.take(nodes(node("ray-gpu", alive=False), node("ray-gpu", 2)), 20.0)
    lives.take(SAME, 21.0)
    assert len(lives.troubles["ray-gpu"]) == 1
    assert lives.alive_for("ray-gpu") == 1.0


def test_a_node_that_no_gcs_knows_any_more_is_a_problem() -> None:
    lives = Lives(NAMES)
    lives.take(nodes(node("ray-cpu"), node("ray-gpu")), 0.0)
    lives.take(nodes(node("ray-gpu", 2)), 5.0)  # a new head, with a new GCS
    assert lives.troubles == {
        "ray-cpu": ["ray-cpu was alive for 5 s, and vanished: no GCS knows it"],
        "ray-gpu": ["ray-gpu was alive for 5 s, and vanished: no GCS knows it"],
    }


def test_two_living_nodes_of_one_name_are_a_problem_and_the_dead_of_earlier_runs_are_none() -> None:
    lives = Lives(NAMES)
    lives.take(nodes(node("ray-cpu", 1, alive=False), node("ray-cpu", 2), node("somebody", 3)), 0.0)
    assert lives.troubles == {}
    lives.take(nodes(node("ray-cpu", 2), node("ray-cpu", 3)), 1.0)
    assert lives.troubles == {"ray-cpu": ["2 living nodes are named ray-cpu: ray-cpu-2, ray-cpu-3"]}


Look = dict[str, dict[int, bool]]
looks = st.lists(
    st.tuples(
        st.floats(0.1, 20.0),
        st.one_of(
            st.none(),
            st.dictionaries(st.sampled_from(NAMES), st.dictionaries(st.integers(1, 3), st.booleans(), max_size=3)),
        ),
    ),
    max_size=25,
)


@given(looks)
def test_of_any_stream_a_break_is_a_problem_and_an_unbroken_life_has_its_whole_length(
    stream: list[tuple[float, Look | None]],
) -> None:
    """A model that keeps the whole past, against the bookkeeping; None is a GCS that does not answer."""
    lives, now, past = Lives(NAMES), 0.0, list[tuple[float, Look]]()
    for pause, look in stream:
        now += pause
        if look is None:
            lives.take({"event": "lost", "why": "no answer"}, now)
            continue
        past.append((now, look))
        lives.take(nodes(*(node(name, n, alive) for name, ids in look.items() for n, alive in ids.items())), now)
    for name in NAMES:
        seen = [(when, {n for n, alive in look.get(name, {}).items() if alive}) for when, look in past]
        pairs = list(itertools.pairwise(seen))
        broken = any(before - after for (_, before), (_, after) in pairs)
        double = any(len(living) > 1 for _, living in seen)
        assert bool(lives.troubles.get(name)) == (broken or double)
        lived = lives.alive_for(name)
        if not seen or not seen[-1][1]:
            assert lived is None
        elif not broken and not double:
            assert lived == seen[-1][0] - next(when for when, living in seen if living)
        else:
            assert lived is not None
            assert 0.0 <= lived <= now


# The watch

PLAYER = """
import json, os, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
def say(event, **fields): print(json.dumps({"event": event, **fields}), flush=True)
def node(name, alive=True): return {"name": name, "id": name + "-1", "alive": alive, "why": "" if alive else "late"}
def go_on():
    while True: say("same"); time.sleep(0.05)
both = [node("ray-cpu"), node("ray-gpu")]
"""
GOOD = "say('nodes', nodes=both); go_on()"


class Cluster:
    """Two candidates, a joiner and a client; each candidate plays its own parts, the last one again and again."""

    def __init__(self, **parts: Sequence[str]) -> None:
        self.parts = {name.replace("_", "-"): list(of) for name, of in parts.items()}
        self.processes: list[subprocess.Popen[str]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []

    known_before = frozenset({"ray-gpu-0"})

    @property
    def expected(self) -> Mapping[str, Expected]:
        roles = {"ray-cpu": "candidate", "ray-gpu": "candidate", "joiner": "joiner", "client": "client", "health": "health"}
        slow = {"RAY_health_check_failure_threshold": "10"}
        return {
            name: Expected(name, name, role, "net", entries={"head": 6379}, environment=slow if name == "ray-gpu" else {})
            for name, role in roles.items()
        }

    def spawn(self, node: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        self.asked.append((node, json.loads(argv[-1])))
        parts = self.parts[node]
        part = parts.pop(0) if len(parts) > 1 else parts[0]
        if not part:
            raise EnvironmentProblem(f"no container {node}")
        pipe = subprocess.PIPE
        argv = [sys.executable, "-S", "-u", "-c", PLAYER + part]
        self.processes.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True))
        return self.processes[-1]

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        raise NotImplementedError


@contextmanager
def watching(cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> Iterator[StabilityWatch]:
    watch = StabilityWatch(cluster, clock)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
        soon("the end of every program", lambda: all(process.poll() is not None for process in cluster.processes))
        assert "stability" not in {thread.name for thread in threading.enumerate()}


def test_the_window_is_the_longest_of_the_candidates() -> None:
    assert StabilityWatch(Cluster()).window == 130.0


def test_it_ends_well_once_every_node_was_alive_for_long_enough() -> None:
    cluster = Cluster(ray_cpu=[GOOD])
    with watching(cluster) as watch:
        watch.wait(0.5)
        assert watch.problems() == []
        assert all((watch.alive_for(name) or 0) >= 0.5 for name in ("ray-cpu", "ray-gpu"))
        assert watch.alive_for("joiner") is None
    assert cluster.asked == [("ray-cpu", {"address": "ray-cpu:6379", "pulse": True})]
    assert watch.problems() == []


def test_the_first_answer_is_waited_for_and_no_more() -> None:
    late = "time.sleep(0.3); say('nodes', nodes=both[:1]); go_on()"
    with watching(Cluster(ray_cpu=[late])) as watch:
        assert not watch.has_looked
        watch.wait(0.0)
        assert watch.has_looked
        assert watch.alive_for("ray-cpu") is not None
        assert watch.alive_for("ray-gpu") is None


def test_it_ends_at_once_when_a_node_dies() -> None:
    dies = "say('nodes', nodes=both); say('nodes', nodes=[both[0], node('ray-gpu', alive=False)]); go_on()"
    with watching(Cluster(ray_cpu=[dies])) as watch:
        began = time.monotonic()
        watch.wait(3600)
        assert time.monotonic() - began < 60
        assert watch.problems("ray-cpu") == []
        assert watch.problems("ray-gpu") == watch.problems() == ["ray-gpu was alive for 0 s, and died: late"]


@pytest.mark.parametrize(
    "gone", ["", "sys.exit(1)", "say('lost', why='killed'); sys.exit(1)", "say('nodes', nodes=both); sys.exit(1)"]
)
def test_where_a_candidate_is_gone_it_goes_on_with_another(gone: str) -> None:
    cluster = Cluster(ray_cpu=[gone], ray_gpu=[GOOD])
    with watching(cluster) as watch:
        watch.wait(0.3)
        assert watch.problems() == []
        assert (watch.alive_for("ray-cpu") or 0) >= 0.3
    assert [name for name, _ in cluster.asked] == ["ray-cpu", "ray-gpu"]


def test_a_candidate_that_falls_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws.verify.stability._SILENCE", 0.5)
    cluster = Cluster(ray_cpu=["say('nodes', nodes=both); time.sleep(3600)"], ray_gpu=[GOOD])
    with watching(cluster) as watch:
        soon("the other", lambda: [name for name, _ in cluster.asked] == ["ray-cpu", "ray-gpu"])
        soon("an answer", lambda: (watch.alive_for("ray-cpu") or 0) > 0.5)
        assert watch.problems() == []


def test_that_nobody_answers_is_a_problem_of_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws.verify.stability._PATIENCE", 0.5)
    with watching(Cluster(ray_cpu=["sys.exit('no python here')"], ray_gpu=[""])) as watch:
        watch.wait(3600)
        (problem,) = watch.problems("ray-cpu")
        assert problem.startswith("no candidate has told of the nodes for ")
        soon("a reason", lambda: "no answer" not in watch.problems()[0])
        assert watch.alive_for("ray-cpu") is None


def test_a_node_that_never_comes_holds_nobody_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws.verify.stability._SILENCE", 2.0)
    with watching(Cluster(ray_cpu=["say('nodes', nodes=both[:1]); go_on()"])) as watch:
        began = time.monotonic()
        watch.wait(0.2)
        assert 2.0 <= time.monotonic() - began < 60
        assert (watch.alive_for("ray-gpu"), watch.problems()) == (None, [])


def test_one_that_was_never_started_knows_nothing() -> None:
    watch = StabilityWatch(Cluster())
    assert (watch.problems(), watch.alive_for("ray-cpu")) == ([], None)
    watch.stop()
