"""What a reader wants first."""

from __future__ import annotations

from tests.verify.report.made_up import failing, inconclusive, passing
from ws.verify.report.headlines import headlines


def test_a_cause_comes_once_with_all_that_it_explains_and_the_first_named_come_first() -> None:
    found = headlines(failing())
    assert [item.title for item in found] == [
        "One port of a node's block is blocked",
        "A link carries nothing",
        "`/dev/shm` is too small",
    ]
    assert found[0].checks == [("check-2-2", "an object to it"), ("check-3-1", "all links")]


def test_a_failure_without_a_cause_and_what_was_not_seen_are_there_too() -> None:
    report = inconclusive()
    report.scenarios[0].checks[0].failed("two leases")
    assert [(item.kind, item.what) for item in headlines(report)] == [
        ("unexplained", "two leases"),
        ("unseen", "docker exec in test-ray-worker did not answer within 20 s"),
        ("unseen", "no check was made"),
    ]


def test_a_pass_has_none() -> None:
    assert headlines(passing()) == []
