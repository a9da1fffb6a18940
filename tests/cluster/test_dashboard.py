"""The dashboard's API, from real answers over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.fake_engine import NOWHERE, answering, dashboard_answers, ray_node
from ws.cluster.dashboard import Dashboard
from ws.errors import EnvironmentProblem

LOGS = {
    "result": True,
    "msg": "",
    "data": {"result": {"raylet": ["raylet.out", "raylet.err"], "dashboard": ["dashboard_agent.log"], "folder": ["old/"]}},
}
ANSWERS: dict[str, Any] = {
    **dashboard_answers(ray_node("ray-cpu", head=True)),
    "/api/version": {"version": "4", "ray_version": "2.60.0", "ray_commit": "abc", "session_name": "session"},
    "/api/v0/logs": LOGS,
    "/api/v0/logs/file": b"one\ntwo\n",
}


def test_the_version_is_that_of_the_head() -> None:
    with answering(ANSWERS) as url:
        assert Dashboard(url, "").version() == "2.60.0"


def test_a_token_that_can_not_be_sent_is_not_shown() -> None:
    with answering(ANSWERS) as url, pytest.raises(EnvironmentProblem) as caught:
        Dashboard(url, "two\nlines").version()
    assert "lines" not in str(caught.value) + str(caught.value.why)


def test_log_files_are_listed_without_folders() -> None:
    with answering(ANSWERS, "secret") as url:
        assert Dashboard(url, "secret").log_files("node") == ["dashboard_agent.log", "raylet.err", "raylet.out"]


def test_a_log_file_is_read_as_it_is() -> None:
    with answering(ANSWERS, "secret") as url:
        assert Dashboard(url, "secret").log_file("node", "raylet.out") == b"one\ntwo\n"


@pytest.mark.parametrize(("token", "refuses"), [("secret", True), ("", False)])
def test_a_stranger_is_refused_where_there_is_a_token(token: str, refuses: bool) -> None:
    with answering(ANSWERS, token) as url:
        assert Dashboard(url, token).refuses_strangers() is refuses


def test_an_agent_that_does_not_answer_is_an_error_that_names_the_path() -> None:
    with answering({"/api/v0/logs": 500}) as url, pytest.raises(EnvironmentProblem, match="answers 500 to /api/v0/logs"):
        Dashboard(url, "").log_files("node")


@pytest.mark.parametrize("answer", [{}, {"data": None}, [], {"data": {"result": ["raylet.out"]}}, b"<html>"])
def test_what_is_no_dashboard_is_told(answer: object) -> None:
    with answering({"/api/v0/logs": answer}) as url, pytest.raises(EnvironmentProblem, match="no Ray dashboard"):
        Dashboard(url, "").log_files("node")


def test_a_dashboard_that_is_away_is_told() -> None:
    with pytest.raises(EnvironmentProblem, match="does not answer"):
        Dashboard(NOWHERE, "").refuses_strangers()
