"""Scenarios in their lanes: order, deadlines, what a failure changes, and what is left to the report."""

from __future__ import annotations

import threading

import pytest

from tests.verify.fake_site import FakeSite
from ws.errors import EnvironmentProblem
from ws.verify.runner import picture, run
from ws.verify.scenarios import Scenario
from ws.verify.site import Site
from ws.verify.verdict import Check, Link, Recorder, ScenarioResult, Verdict

LONG = 60.0


def heard_of(_result: ScenarioResult, _check: Check) -> None:
    pass


class Notes:
    """Which scenarios began, in order, and gates that hold them."""

    def __init__(self) -> None:
        self.began: list[str] = []

    def scenario(
        self, name: str, verdict: Verdict = Verdict.PASS, after: threading.Event | None = None, deadline: float = LONG
    ) -> Scenario:
        def body(_site: Site, record: Recorder) -> None:
            self.began.append(name)
            if after:
                assert after.wait(LONG)
            with record.check(f"{name} is fine", "it says so") as check:
                check.verdict, check.evidence = verdict, "seen"

        return Scenario(name, name.title(), deadline, body)


def test_the_report_has_every_scenario_in_the_order_given_and_what_the_site_knows() -> None:
    site, notes = FakeSite(), Notes()
    site.links.append(Link("ray-cpu", "ray-gpu", 1.0, 2.0, 1e9))
    names = ["self-election", "external-worker", "ray-client", "head-override", "links", "stability"]
    heard: list[str] = []
    report = run(site, [notes.scenario(name) for name in names], lambda result, _check: heard.append(result.name))
    assert [scenario.name for scenario in report.scenarios] == names
    assert sorted(heard) == sorted(names)
    assert report.verdict is Verdict.PASS
    assert report.links == site.links
    assert set(report.logs) == set(site.containers)
    assert {node.name for node in report.picture} == set(site.containers)


def test_what_counts_nodes_comes_before_what_makes_them_come_and_go_and_the_window_last() -> None:
    notes = Notes()
    names = ["stability", "head-override", "links", "external-worker", "self-election"]
    run(FakeSite(), [notes.scenario(name) for name in names], heard_of)
    assert set(notes.began[:2]) == {"self-election", "external-worker"}
    assert notes.began[-1] == "stability"


def test_head_override_has_a_lane_of_its_own() -> None:
    notes, linked = Notes(), threading.Event()

    def body(_site: Site, record: Recorder) -> None:
        with record.check("links", "so") as check:
            check.passed("seen")
        linked.set()

    override = notes.scenario("head-override", after=linked)
    report = run(FakeSite(), [override, Scenario("links", "Links", LONG, body)], heard_of)
    assert report.verdict is Verdict.PASS


def test_stability_learns_that_something_has_failed_already() -> None:
    site, notes = FakeSite(), Notes()
    run(site, [notes.scenario("links"), notes.scenario("stability")], heard_of)
    assert not site.failed
    run(site, [notes.scenario("links", Verdict.FAIL), notes.scenario("stability")], heard_of)
    assert site.failed


def test_a_scenario_that_does_not_end_in_time_is_inconclusive_with_what_it_was_at() -> None:
    notes, never = Notes(), threading.Event()

    def body(_site: Site, record: Recorder) -> None:
        with record.check("a task on ray-gpu", "so") as check:
            never.wait(LONG)
            check.passed("too late")

    scenarios = [Scenario("links", "Links", 0.2, body), notes.scenario("transfer")]
    report = run(FakeSite(), scenarios, heard_of)
    never.set()
    (cut,) = report.scenarios[0].checks
    assert (cut.what, cut.verdict) == ("a task on ray-gpu", Verdict.INCONCLUSIVE)
    assert "0.2 s" in cut.evidence
    assert report.scenarios[1].verdict is Verdict.PASS, "the others go on"
    assert report.verdict is Verdict.INCONCLUSIVE


def test_an_error_of_ours_outside_any_check_makes_the_scenario_inconclusive() -> None:
    def body(_site: Site, _record: Recorder) -> None:
        raise EnvironmentProblem("the Docker daemon does not answer", "it hangs")

    report = run(FakeSite(), [Scenario("links", "Links", LONG, body)], heard_of)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.scenarios[0].checks[0].evidence == "the Docker daemon does not answer: it hangs"


def test_a_bug_in_a_scenario_ends_the_run_and_no_other_makes_a_check_any_more() -> None:
    begun, held, ended = threading.Event(), threading.Event(), threading.Event()
    after: list[str] = []

    def override(_site: Site, record: Recorder) -> None:
        begun.set()
        try:
            held.wait(LONG)
            with record.check("too late", "so") as check:
                check.passed("too late")
            after.append("made a check")
        finally:
            ended.set()

    def broken(_site: Site, _record: Recorder) -> None:
        begun.wait(LONG)
        raise ZeroDivisionError

    scenarios = [Scenario("head-override", "Override", LONG, override), Scenario("links", "Links", LONG, broken)]
    with pytest.raises(ZeroDivisionError):
        run(FakeSite(), scenarios, heard_of)
    held.set()
    assert ended.wait(LONG)
    assert after == []


def test_the_picture_tells_the_head_the_networks_and_the_ports_that_lead_in() -> None:
    site = FakeSite()
    nodes = {node.name: node for node in picture(site)}
    assert nodes["ray-cpu"].role == "head"
    assert nodes["ray-gpu"].role == "worker"
    assert nodes["health"].role == "health"
    assert nodes["test-ray-client"].role == "client"
    assert nodes["test-ray-worker"].network == site.expected["test-ray-worker"].network
    assert nodes["ray-cpu"].ports == tuple(sorted(site.containers["ray-cpu"].published))
