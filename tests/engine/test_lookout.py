"""Looking at a cluster: who leads, by a real lease server and without one; and what is said of a node that died."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.fake_engine import FakeEngine, answering
from tests.projects import make_project
from ws.engine.base import NodeState, Project
from ws.engine.lookout import Leader, Lookout
from ws.engine.token import ensure_token
from ws.errors import CheckFailed, EnvironmentProblem
from ws.node.health import HttpService, lease_routes
from ws.node.lease import LeaseBook

RUNNING = [NodeState(name, "running") for name in ("health", "ray-cpu", "ray-gpu")]
LEADS = {"name": "ray-gpu", "state": "worker", "mode": "worker", "address": "ray-cpu:6379", "leader": "ray-cpu", "epoch": 3}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = make_project(tmp_path)
    ensure_token(made.token_path)
    return made


@pytest.fixture
def book() -> LeaseBook:
    return LeaseBook()


@pytest.fixture
def health(project: Project, book: LeaseBook) -> Iterator[str]:
    """The address of a real lease server, with the project's token."""
    service = HttpService(lease_routes(book), "127.0.0.1", 0, project.token_path.read_text(encoding="utf-8"))
    service.start()
    yield f"http://127.0.0.1:{service.port}"
    service.stop()


def test_the_holder_of_the_lease_leads(project: Project, health: str, book: LeaseBook) -> None:
    book.acquire("ray-gpu", "one", "ray-gpu:6380", 10)
    engine = FakeEngine(RUNNING, health)
    leader = Lookout(engine, project).leader()
    assert leader is not None
    assert (leader.name, leader.address, leader.epoch) == ("ray-gpu", "ray-gpu:6380", 1)
    assert leader.held_for is not None
    assert leader.held_for >= 0
    assert engine.asked == []


def test_without_a_lease_nobody_leads_and_no_candidate_is_bothered(project: Project, health: str) -> None:
    engine = FakeEngine(RUNNING, health, printed={"ray-gpu": json.dumps(LEADS)})
    assert Lookout(engine, project).leader() is None
    assert engine.asked == []


def test_without_a_health_server_the_candidates_are_asked_and_not_too_often(project: Project) -> None:
    engine = FakeEngine(RUNNING, printed={"ray-cpu": "", "ray-gpu": json.dumps(LEADS)})
    lookout = Lookout(engine, project)
    assert lookout.leader() == Leader("ray-cpu", "ray-cpu:6379", 3)
    assert [name for name, _ in engine.asked] == ["ray-cpu", "ray-gpu"]
    assert engine.asked[0][1][:2] == ("python3", "/the/agent")
    assert lookout.leader() == Leader("ray-cpu", "ray-cpu:6379", 3), "the answer of just now"
    assert len(engine.asked) == 2


def test_many_who_ask_at_once_share_one_answer_of_the_candidates(project: Project) -> None:
    engine = FakeEngine(RUNNING, printed={"ray-cpu": json.dumps(LEADS)})
    lookout = Lookout(engine, project)
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda _: lookout.leader(), range(8)))
    assert answers == [Leader("ray-cpu", "ray-cpu:6379", 3)] * 8


def test_an_answer_of_the_candidates_is_not_kept_for_long(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ws.engine.lookout._ASK_CANDIDATES_EVERY", 0.0)
    engine = FakeEngine(RUNNING, printed={"ray-cpu": json.dumps(LEADS)})
    lookout = Lookout(engine, project)
    assert lookout.leader() is not None
    engine.printed = {"ray-cpu": "", "ray-gpu": ""}
    assert lookout.leader() is None


@pytest.mark.parametrize("printed", ["", "no JSON", "[]", "null", '{"mode": null, "address": null}'])
def test_an_agent_that_knows_no_leader_is_no_error(project: Project, printed: str) -> None:
    engine = FakeEngine(RUNNING, printed={"ray-cpu": printed, "ray-gpu": printed})
    assert Lookout(engine, project).leader() is None
    assert Lookout(engine, project).driver(["ray-cpu"]) is None


def test_only_candidates_that_run_are_asked(project: Project) -> None:
    states = [NodeState("health", "exited", 1), NodeState("ray-cpu", "exited", 137), NodeState("ray-gpu", "running")]
    engine = FakeEngine(states, printed={"ray-gpu": json.dumps(LEADS)})
    leader = Lookout(engine, project).leader()
    assert leader is not None
    assert leader.name == "ray-cpu"
    assert [name for name, _ in engine.asked] == ["ray-gpu"]


def test_a_health_server_that_speaks_nonsense_is_as_good_as_none(project: Project) -> None:
    with answering({"/lease": {"lease": "nonsense"}}) as url:
        engine = FakeEngine(RUNNING, url, printed={"ray-cpu": json.dumps(LEADS)})
        assert Lookout(engine, project).leader() == Leader("ray-cpu", "ray-cpu:6379", 3)


@pytest.mark.parametrize(("names", "place"), [(["ray-cpu", "ray-gpu"], "ray-gpu"), (["ray-cpu"], "ray-gpu")])
def test_a_driver_runs_at_the_head_where_it_is_ours(
    project: Project, health: str, book: LeaseBook, names: list[str], place: str
) -> None:
    book.acquire("ray-gpu", "one", "ray-gpu:6380", 10)
    engine = FakeEngine(RUNNING, health, printed={place: "from the driver"})
    found = Lookout(engine, project).driver(names)
    assert found is not None
    address, spawn = found
    assert address == "ray-gpu:6380"
    process = spawn(["python3", "-"])
    assert process.communicate(timeout=20)[0].strip() == "from the driver"
    assert engine.asked == [(place, ("python3", "-"))]


def test_a_node_that_ended_is_told_with_the_tail_of_its_log(project: Project) -> None:
    lines = [f"line {number}" for number in range(100)]
    states = [NodeState("ray-cpu", "running"), NodeState("ray-gpu", "exited", 137, detail="out of memory")]
    lookout = Lookout(FakeEngine(states, lines={"ray-gpu": lines}), project)
    lookout.require_alive(["ray-cpu"])
    with pytest.raises(CheckFailed) as caught:
        lookout.require_alive(["ray-cpu", "ray-gpu"])
    assert caught.value.what == "ray-gpu ended with exit code 137 (out of memory)"
    why = str(caught.value.why).splitlines()
    assert why[-1] == "ray-gpu | line 99"
    assert len(why) == 25
    assert "ws logs ray-gpu" in str(caught.value.mend)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (NodeState("health", "restarting", 2, restarts=3), "health ended with exit code 2, and was started again 3 times"),
        (NodeState("health", "running", restarts=1), "health ended with an error, and was started again 1 time"),
    ],
)
def test_the_health_server_counts_and_restarts_are_told(project: Project, state: NodeState, text: str) -> None:
    engine = FakeEngine([], lines={"health": ["why"]})
    lookout = Lookout(engine, project)
    engine.states = [state]
    with pytest.raises(CheckFailed) as caught:
        lookout.require_alive(["ray-cpu"])
    assert caught.value.what == text


def test_a_restart_of_long_ago_is_no_failure_of_now(project: Project) -> None:
    engine = FakeEngine([NodeState("ray-cpu", "running", 137, restarts=2)])
    lookout = Lookout(engine, project)
    lookout.require_alive(["ray-cpu"])
    engine.states = [NodeState("ray-cpu", "running", restarts=0)]
    lookout.require_alive(["ray-cpu"])
    engine.states = [NodeState("ray-cpu", "running", restarts=1)]
    with pytest.raises(CheckFailed, match="started again 1 time"):
        lookout.require_alive(["ray-cpu"])


@pytest.mark.parametrize(
    "state", [NodeState("ray-cpu", "exited", 0), NodeState("ray-cpu", "created"), NodeState("ray-cpu", "paused")]
)
def test_what_has_not_failed_is_no_error(project: Project, state: NodeState) -> None:
    Lookout(FakeEngine([state]), project).require_alive(["ray-cpu"])


def test_a_log_that_can_not_be_read_hides_no_error(project: Project) -> None:
    with pytest.raises(CheckFailed, match="exit code 1") as caught:
        Lookout(FakeEngine([NodeState("ray-cpu", "exited", 1)]), project).require_alive(["ray-cpu"])
    assert "no log: there is no log of ray-cpu" in str(caught.value.why)


def test_the_token_is_that_of_the_project_or_empty(project: Project, tmp_path: Path) -> None:
    lookout = Lookout(FakeEngine(), project)
    assert len(lookout.token().reveal()) == 64
    project.token_path.unlink()
    assert not lookout.token()
    project.token_path.mkdir()
    with pytest.raises(EnvironmentProblem, match="is in the way"):
        lookout.token()
