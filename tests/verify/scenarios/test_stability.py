"""The scenario stability on a site that is made up, with a watch that has seen what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.verify.fake_site import FakeSite, bad
from ws.verify.scenarios import stability
from ws.verify.site import Head
from ws.verify.verdict import Check, Recorder, ScenarioResult

SAME = "the same head leads from begin to end"


@dataclass
class Watch:
    window: float = 65.0
    lived: float | None = 70.0
    troubles: dict[str, list[str]] = field(default_factory=dict)
    has_looked: bool = True
    waited: list[float] = field(default_factory=list)

    def wait(self, until: float) -> None:
        """All is over already."""
        self.waited.append(until)

    def problems(self, name: str | None = None) -> list[str]:
        return [trouble for of, troubles in self.troubles.items() if name in (None, of) for trouble in troubles]

    def alive_for(self, name: str) -> float | None:
        return self.lived


@pytest.fixture
def site() -> FakeSite:
    made = FakeSite()
    made.watch = Watch()
    return made


def checks(site: FakeSite) -> dict[str, Check]:
    made: list[Check] = []
    scenario = stability.STABILITY
    scenario.run(site, Recorder(ScenarioResult(scenario.name, scenario.title), lambda _, check: made.append(check)))
    return {check.what: check for check in made}


def test_what_lived_on_passes(site: FakeSite) -> None:
    found = checks(site)
    assert bad(found) == {}
    assert found[SAME].evidence == "ray-cpu, epoch 3"


@pytest.mark.parametrize(
    ("failed", "troubles", "why"),
    [
        (True, {}, "because other checks have failed already"),
        (False, {"ray-gpu": ["ray-gpu died"]}, "because the watch saw a problem: ray-gpu died"),
        (False, {}, "because the time for it was up"),
    ],
)
def test_why_it_was_not_watched_to_the_end(site: FakeSite, failed: bool, troubles: dict[str, list[str]], why: str) -> None:
    site.failed, site.watch = failed, Watch(lived=12.0, troubles=troubles)
    check = checks(site)["ray-cpu stays alive"]
    assert check.verdict == "inconclusive"
    assert check.evidence == f"alive for 12 s so far; not watched to the end, {why}"


def test_a_node_that_was_not_looked_at_yet_is_not_said_to_be_missing(site: FakeSite) -> None:
    site.failed, site.watch = True, Watch(lived=None, has_looked=False)
    check = checks(site)["ray-cpu stays alive"]
    assert (check.verdict, check.causes) == ("inconclusive", [])
    assert check.evidence == "no candidate has told of the nodes yet; other checks have failed already"


def test_a_node_that_nobody_has_seen_failed(site: FakeSite) -> None:
    site.watch = Watch(lived=None)
    assert checks(site)["ray-cpu stays alive"].evidence == "never seen alive"


@pytest.mark.parametrize(("failed", "seconds"), [(True, 0.0), (False, 65.0)])
def test_after_a_failure_the_first_answer_alone_is_waited_for(site: FakeSite, failed: bool, seconds: float) -> None:
    site.failed = failed
    checks(site)
    assert site.watch.waited == [seconds]


@pytest.mark.parametrize(
    "heads",
    [
        [None, Head("ray-cpu", "ray-cpu:6379", 3)],
        [Head("ray-cpu", "ray-cpu:6379", 0)],
        [Head("ray-gpu", "ray-gpu:6380", 0), Head("ray-cpu", "ray-cpu:6379", 3)],
    ],
)
def test_one_look_without_a_lease_is_no_lost_head(site: FakeSite, heads: list[Head | None]) -> None:
    site.heads = heads
    assert bad(checks(site)) == {}


@pytest.mark.parametrize("now", [None, Head("ray-cpu", "ray-cpu:6379", 4), Head("ray-gpu", "ray-gpu:6380", 4)])
def test_a_head_that_was_lost(site: FakeSite, now: Head | None) -> None:
    site.heads = [now]
    assert bad(checks(site))[SAME][0] == "head-lost"
