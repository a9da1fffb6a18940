"""The report for CI servers."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hypothesis import example, given
from hypothesis import strategies as st

from tests.verify.report.made_up import failing, inconclusive, passing
from ws.verify.report.as_junit import render
from ws.verify.report.visible import visible
from ws.verify.verdict import Cause, Check, Report, ScenarioResult, Verdict

ANY_TEXT = st.text(st.characters(codec=None, categories=None))


def read(report: Report) -> Element:
    return ElementTree.fromstring(render(report))


def numbers(element: Element) -> tuple[str | None, ...]:
    return tuple(element.get(name) for name in ("tests", "failures", "errors", "skipped"))


def test_a_suite_for_each_scenario_and_a_case_for_each_check() -> None:
    root = read(passing())
    assert numbers(root) == ("7", "0", "0", "0")
    assert [suite.get("name") for suite in root] == ["self-election", "external-worker", "links", "stability"]
    case = root[1][0]
    assert (case.get("classname"), case.get("name")) == ("ws.external-worker", "a task on test-ray-worker")
    assert case.get("time") == "0.300"
    assert [child.tag for child in case] == ["system-out"]


def test_a_failure_has_its_first_cause_as_message_and_everything_as_text() -> None:
    root = read(failing())
    assert numbers(root) == ("7", "2", "0", "0")
    failure = root.find("./testsuite[@name='external-worker']/testcase/failure")
    assert failure is not None
    assert failure.get("type") == "port-blocked"
    assert str(failure.get("message")).startswith("port 31049 (object manager)")
    text = str(failure.text)
    for part in (
        "How: 16 MiB from ray-cpu",
        "<object>\nno byte in 20 s & more",
        "Cause: port 31049",
        "Mend: set `shm_size`",
    ):
        assert part in text


def test_what_was_not_observed_is_an_error_and_never_skipped() -> None:
    root = read(inconclusive())
    assert numbers(root) == ("7", "0", "2", "0")
    messages = [error.get("message") for error in root.iter("error")]
    assert messages == ["docker exec in test-ray-worker did not answer within 20 s", "no check was made"]


def test_a_run_without_scenarios_is_no_pass() -> None:
    assert numbers(read(Report(0.0))) == ("1", "0", "1", "0")


@given(ANY_TEXT, ANY_TEXT)
@example("\r", "")
def test_any_text_survives(evidence: str, words: str) -> None:
    checks = [
        Check(words, words, Verdict.PASS, evidence),
        Check(words, words, Verdict.FAIL, evidence, [Cause(words, words, words)]),
    ]
    passed, failed = read(Report(0.0, [ScenarioResult(words, words, checks)])).iter("testcase")
    assert passed.get("name") == visible(words)
    assert (passed[0].text or "") == visible(evidence)
    assert visible(evidence) in str(failed[0].text)
    assert failed[0].get("message") == visible(words)
