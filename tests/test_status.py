"""`ws status`, from real answers over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.fake_engine import NOWHERE, FakeEngine, answering, dashboard_answers, ray_node
from tests.projects import make_project
from ws.engine.base import NodeState, Project
from ws.engine.token import ensure_token
from ws.status import gather, lines

RUNNING = [NodeState(name, "running", started_at=1000.0) for name in ("health", "ray-cpu", "ray-gpu")]
LEASE = {"holder": "ray-cpu", "address": "ray-cpu:6379", "epoch": 7, "held_for": 61.5}
BOTH = dashboard_answers(
    ray_node("ray-cpu", head=True),
    ray_node("ray-gpu"),
    usage={"CPU": [2.5, 8.0], "memory": [2.0**30, 16.0 * 2**30], "node:ray-cpu": [0.0, 1.0]},
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path)
    ensure_token(made.token_path)
    return made


def gathered(
    project: Project, states: list[NodeState], lease: dict[str, Any] | None, dashboard: dict[str, Any] | None
) -> dict[str, Any]:
    token = project.token_path.read_text(encoding="utf-8")
    with answering({"/lease": {"lease": lease}}, token) as health, answering(dashboard or {}, token) as board:
        entries = {"dashboard": board if dashboard is not None else NOWHERE, "gcs": "127.0.0.1:6379", "health": health}
        return gather(FakeEngine(states, health, entries), project)


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in found["nodes"]}


def test_a_healthy_cluster(project: Project) -> None:
    found = gathered(project, RUNNING, LEASE, BOTH)
    assert json.loads(json.dumps(found)) == found
    assert found["problems"] == []
    assert found["leader"] == {"name": "ray-cpu", "address": "ray-cpu:6379", "epoch": 7, "held_for": 61.5}
    assert [(row["name"], row["role"], row["ray"]) for row in found["nodes"]] == [
        ("health", "health", "serving"),
        ("ray-cpu", "head", "alive"),
        ("ray-gpu", "worker", "alive"),
    ]
    assert found["resources"] == {
        "CPU": {"used": 2.5, "total": 8.0},
        "memory": {"used": 2.0**30, "total": 16.0 * 2**30},
    }
    text = "\n".join(lines(found))
    assert "ray-cpu leads for 62 s (epoch 7)" in text
    assert "CPU: 2.5 of 8 used" in text
    assert "memory: 1.0 GiB of 16.0 GiB used" in text
    assert "gcs        127.0.0.1:6379" in text
    assert "!" not in text


def test_nothing_runs(project: Project) -> None:
    found = gather(FakeEngine(), project)
    assert found["nodes"] == []
    assert lines(found) == ["nothing of this project is running"]


def test_a_node_that_came_back_is_alive_though_its_old_record_is_dead(project: Project) -> None:
    board = dashboard_answers(ray_node("ray-cpu", head=True), ray_node("ray-gpu"), ray_node("ray-gpu", alive=False))
    assert by_name(gathered(project, RUNNING, LEASE, board))["ray-gpu"]["ray"] == "alive"


def test_a_node_that_ray_lost_is_dead_and_has_no_resources(project: Project) -> None:
    board = dashboard_answers(ray_node("ray-cpu", head=True), ray_node("ray-gpu", alive=False))
    found = gathered(project, RUNNING, LEASE, board)
    row = by_name(found)["ray-gpu"]
    assert (row["state"], row["ray"], row["cpus"]) == ("running", "dead", None)


def test_a_node_that_has_not_joined_has_no_word_of_ray(project: Project) -> None:
    board = dashboard_answers(ray_node("ray-cpu", head=True))
    assert by_name(gathered(project, RUNNING, LEASE, board))["ray-gpu"]["ray"] == ""


def test_no_leader_is_a_problem_and_the_rest_is_shown(project: Project) -> None:
    found = gathered(project, RUNNING, None, BOTH)
    assert found["leader"] is None
    assert found["problems"] == ["no candidate leads"]
    assert {row["role"] for row in found["nodes"]} == {"health", "worker"}
    assert lines(found)[-1] == "! no candidate leads"


@pytest.mark.parametrize(
    ("board", "problem"),
    [
        (None, "does not answer"),
        ({}, "answers 404"),
        ({"/api/v0/nodes": b"<html>"}, "is no Ray dashboard"),
        ({"/api/v0/nodes": {"hello": "there"}}, "is no Ray dashboard"),
        ({"/api/v0/nodes": [1, 2]}, "is no Ray dashboard"),
        ({**BOTH, "/api/cluster_status": {"data": None}}, "is no Ray dashboard"),
        ({"/api/v0/nodes": 401}, "refuses the token"),
    ],
)
def test_a_dashboard_that_can_not_be_asked_is_a_problem_and_no_more(
    project: Project, board: dict[str, Any] | None, problem: str
) -> None:
    found = gathered(project, RUNNING, LEASE, board)
    assert found["leader"]["name"] == "ray-cpu"
    assert len(found["nodes"]) == 3
    (told,) = found["problems"]
    assert problem in told


def test_a_cluster_without_candidates_has_no_dashboard_to_ask(project: Project) -> None:
    found = gather(FakeEngine(RUNNING[1:], addresses={"health": NOWHERE}), project)
    assert "no candidate leads" in found["problems"]
    assert found["resources"] == {}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (119.0, "119 s"), (120.0, "2 min"), (7199.0, "120 min"), (9000.0, "2.5 h")]
)
def test_durations_for_people(project: Project, seconds: float, shown: str) -> None:
    found = gathered(project, RUNNING, {**LEASE, "held_for": seconds}, BOTH)
    assert f"leads for {shown} (epoch 7)" in "\n".join(lines(found))
