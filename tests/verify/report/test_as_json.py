"""The report for programs."""

from __future__ import annotations

import json

from tests.verify.report.made_up import failing, passing
from ws.verify.report.as_json import document
from ws.verify.verdict import Report


def test_its_fields_are_those_that_the_docs_promise() -> None:
    found = document(failing())
    assert list(found) == ["started", "seconds", "verdict", "exit_code", "about", "scenarios", "links", "nodes"]
    scenario = found["scenarios"][1]
    assert list(scenario) == ["name", "title", "verdict", "seconds", "checks"]
    assert list(scenario["checks"][1]) == ["what", "how", "verdict", "evidence", "seconds", "causes"]
    assert [list(cause) for cause in scenario["checks"][1]["causes"]] == [["key", "what", "remedy"]] * 2
    assert list(found["links"][0]) == ["source", "target", "median_ms", "p99_ms", "bandwidth", "trouble"]
    assert list(found["nodes"][0]) == ["name", "role", "network", "address", "ports"]


def test_it_is_json_and_its_values_are_those_of_the_run() -> None:
    found = json.loads(json.dumps(document(failing())))
    assert (found["started"], found["seconds"]) == ("2026-11-21T15:04:05Z", 81.3)
    assert (found["verdict"], found["exit_code"]) == ("fail", 1)
    assert [scenario["verdict"] for scenario in found["scenarios"]] == ["pass", "fail", "fail", "pass"]
    assert found["scenarios"][1]["checks"][1]["causes"][1]["key"] == "shm-small"
    assert found["links"][1]["median_ms"] is None
    assert found["nodes"][0]["ports"] == ["172.17.0.1:8080", "127.0.0.1:8080"]


def test_a_pass_and_a_run_without_scenarios_are_told_apart() -> None:
    assert document(passing())["verdict"] == "pass"
    empty = document(Report(0.0))
    assert (empty["verdict"], empty["exit_code"]) == ("inconclusive", 3)
