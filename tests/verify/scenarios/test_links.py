"""The scenario links on a site that is made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.verify.fake_site import FakeSite, bad, performed
from ws.verify.programs import Event
from ws.verify.scenarios import links

SLOW = "the link between ray-cpu and test-ray-worker carries, both ways"


class LinkedSite(FakeSite):
    """Links of 250 MB/s but for `speeds`, a list for each look; `dead` ones carry nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.speeds: dict[tuple[str, str], list[float]] = {}
        self.dead: set[tuple[str, str]] = set()
        self.says("links", self.measured)

    def measured(self, params: Mapping[str, Any]) -> Sequence[Event]:
        names = params["nodes"]
        return [self.link(one, other) for one in names for other in names if one != other]

    def link(self, source: str, target: str) -> Event:
        way = (source, target)
        speeds = self.speeds.get(way, [250e6])
        speed = speeds.pop(0) if len(speeds) > 1 else speeds[0]
        found = {"median_ms": 0.8, "p99_ms": 2.0, "bandwidth": speed, "trouble": ""}
        if way in self.dead:
            found = {"median_ms": None, "p99_ms": None, "bandwidth": None, "trouble": "calls: no answer within 4 s"}
        return {"event": "link", "source": source, "target": target, "calls": 50, "bytes": 1, **found}


def test_every_pair_is_measured_both_ways_and_shown() -> None:
    site = LinkedSite()
    checks = performed(links, site)
    assert bad(checks) == {}
    assert len(site.links) == 6
    assert "ray-cpu → ray-gpu: median 0.8 ms, p99 2 ms, 250 MB/s" in (
        checks["the link between ray-cpu and ray-gpu carries, both ways"].evidence
    )


def test_a_lopsided_link_is_named() -> None:
    site = LinkedSite()
    site.speeds["test-ray-worker", "ray-cpu"] = [20e6]
    checks = performed(links, site)
    assert bad(checks) == {SLOW: ["link-slow"]}
    assert "test-ray-worker → ray-cpu" in checks[SLOW].causes[0].what


def test_a_link_that_is_slow_once_is_measured_again_and_passes() -> None:
    site = LinkedSite()
    site.speeds["test-ray-worker", "ray-cpu"] = [20e6, 30e6, 240e6]
    assert bad(performed(links, site)) == {}
    assert next(link for link in site.links if link.source == "test-ray-worker").bandwidth == 240e6


def test_a_difference_among_fast_links_is_none_and_so_is_a_slow_network() -> None:
    site = LinkedSite()
    site.speeds["test-ray-worker", "ray-cpu"] = [110e6]
    site.speeds["ray-cpu", "test-ray-worker"] = [2000e6]
    site.speeds["ray-gpu", "ray-cpu"] = [10e6]
    site.speeds["ray-cpu", "ray-gpu"] = [12e6]
    assert bad(performed(links, site)) == {}


def test_a_dead_link_is_named() -> None:
    site = LinkedSite()
    site.dead.add(("ray-cpu", "test-ray-worker"))
    checks = performed(links, site)
    assert bad(checks)[SLOW][0] == "link-dead"
    assert "ray-cpu to test-ray-worker" in checks[SLOW].causes[0].what


def test_a_dead_link_has_its_nodes_cause_where_there_is_one() -> None:
    site = LinkedSite()
    site.dead.add(("ray-cpu", "test-ray-worker"))
    site.change("test-ray-worker", published=frozenset())
    assert bad(performed(links, site))[SLOW][0] == "block-not-published"


def test_a_driver_that_breaks_or_a_cluster_without_a_head() -> None:
    site = LinkedSite()
    site.says("links", [site.link("ray-cpu", "ray-gpu"), {"event": "broken", "why": "Error: lost"}])
    assert bad(performed(links, site)) == {"every link can be measured": ["inconclusive"]}
    site.says("links", [{"event": "broken", "why": "Failed to register worker: No available ports."}])
    assert bad(performed(links, site)) == {"every link can be measured": ["worker-ports"]}
    site.heads, site.lease_answer = [None], {}
    assert "no-leader" in bad(performed(links, site))["every link can be measured"]
