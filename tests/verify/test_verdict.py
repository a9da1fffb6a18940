"""How checks are collected, and how their verdicts combine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws.errors import CommandFailed, EnvironmentProblem
from ws.verify.verdict import Abandoned, Cause, Check, Recorder, Report, ScenarioResult, Verdict, combined

FAULT = Cause("port-blocked", "31049 is blocked", "publish it")


def recorder() -> tuple[Recorder, list[Check]]:
    heard: list[Check] = []
    return Recorder(ScenarioResult("links", "Links"), lambda _result, check: heard.append(check)), heard


@given(st.lists(st.sampled_from(Verdict), min_size=1))
def test_one_failure_fails_all_and_what_was_not_seen_never_passes(verdicts: list[Verdict]) -> None:
    verdict = combined(verdicts)
    assert (verdict is Verdict.FAIL) == (Verdict.FAIL in verdicts)
    assert (verdict is Verdict.PASS) == (set(verdicts) == {Verdict.PASS})


def test_nothing_checked_is_no_pass() -> None:
    assert combined([]) is Verdict.INCONCLUSIVE
    assert Report(started=0).exit_code == 3


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.PASS, 0), (Verdict.FAIL, 1), (Verdict.INCONCLUSIVE, 3)])
def test_exit_codes(verdict: Verdict, code: int) -> None:
    result = ScenarioResult("a", "A", [Check("x", "y", verdict, "z")])
    assert Report(started=0, scenarios=[result]).exit_code == code


def test_a_check_tells_what_came_out_and_is_heard_of() -> None:
    record, heard = recorder()
    with record.check("one", "so") as check:
        check.passed("fine")
    with record.check("two", "so") as check:
        check.failed("refused", FAULT)
    with record.check("three", "so") as check:
        check.unseen("nobody to ask")
    assert [check.verdict for check in heard] == [Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE]
    assert heard == record.result.checks
    assert heard[1].causes == [FAULT]
    assert record.result.verdict is Verdict.FAIL


def test_an_error_of_ours_makes_a_check_inconclusive_with_the_error_as_evidence() -> None:
    record, heard = recorder()
    with record.check("one", "so"):
        raise EnvironmentProblem("the dashboard does not answer", "refused")
    with record.check("two", "so"):
        raise CommandFailed(["docker"], 1, "no such container")
    assert heard[0].evidence == "the dashboard does not answer: refused"
    assert [check.verdict for check in heard] == [Verdict.INCONCLUSIVE] * 2
    assert all(check.evidence for check in heard)


def test_a_check_without_a_verdict_is_a_bug_of_ours() -> None:
    record, _ = recorder()
    with pytest.raises(AssertionError, match="no verdict"), record.check("one", "so"):
        pass


def test_no_verdict_goes_without_evidence() -> None:
    record, heard = recorder()
    with pytest.raises(AssertionError, match="without evidence"), record.check("one", "so") as check:
        check.passed("")
    assert heard == []


def test_closed_between_two_checks_it_is_the_next_one_that_was_not_seen() -> None:
    record, heard = recorder()
    with record.check("one", "so") as check:
        check.passed("fine")
    record.close("not seen to its end")
    assert [(check.what, check.verdict) for check in heard] == [
        ("one", Verdict.PASS),
        ("what comes next", Verdict.INCONCLUSIVE),
    ]


def test_once_closed_what_was_under_way_is_inconclusive_and_nothing_more_is_taken() -> None:
    record, heard = recorder()
    with pytest.raises(Abandoned), record.check("one", "so") as check:
        record.close("not seen to its end")
        check.passed("too late")
    with pytest.raises(Abandoned), record.check("two", "so"):
        raise AssertionError("not reached")
    assert [(check.what, check.verdict, check.evidence) for check in heard] == [
        ("one", Verdict.INCONCLUSIVE, "not seen to its end")
    ]
