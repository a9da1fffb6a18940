"""What `ws verify` makes of the nodes that it watches and of their links; no Ray is started here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from ws.errors import Inconclusive
from ws.verify.outside_cluster import Address, Outside
from ws.verify.outside_local import NO_TOKEN, LocalRuns
from ws.verify.outside_look import Life, Node, Outlook
from ws.verify.outside_moves import _judge_links, _sample
from ws.verify.outside_watch import check_stability
from ws.verify.verdict import Check, Link, Recorder, ScenarioResult, Verdict


class Told(LocalRuns):
    """Runs a script in place of whatever program is asked for."""

    def __init__(self, script: str) -> None:
        super().__init__(NO_TOKEN)
        self._script = script

    def spawn(self, node: str, argv: object) -> object:  # type: ignore[override]
        return super().spawn(node, ["python3", "-u", "-c", self._script])


SAME = '{"event": "same"}'
WAIT, PULSE = "import sys; sys.stdin.read()", f"import time\nwhile True: time.sleep(0.02); print({SAME!r})"


def outlook(*events: str, then: str = WAIT, clock: Callable[[], float] = time.monotonic) -> Outlook:
    lines = "\n".join(f"print({event!r})" for event in events)
    eyes = Outlook(Told(f"{lines}\n{then}"), "ray://host:1", "nodes", clock=clock)
    eyes.start()
    return eyes


def nodes_event(wanted: bool = False, **alive: bool) -> str:
    rest = {"head": False, "address": "10.0.0.1", "cpus": 2.0, "why": "unexpected", "wanted": wanted}
    return json.dumps({"event": "nodes", "nodes": [{"name": n, "id": n, "alive": a, **rest} for n, a in alive.items()]})


def test_a_node_that_dies_stays_in_mind() -> None:
    eyes = outlook(nodes_event(a=True, b=True, c=True), nodes_event(a=True, b=False), nodes_event(a=True, b=True, c=True))
    try:
        while len(eyes.await_nodes()) > 1:
            pass
        assert {life.node.name: life.trouble for life in eyes.lives()} == {
            "a": "",
            "b": "marked dead (unexpected)",
            "c": "gone from the cluster's list of nodes",
        }
    finally:
        eyes.close()


def test_a_node_that_was_told_to_end_is_no_trouble_unless_it_is_the_head() -> None:
    head = Node("a", "a", True, True, "10.0.0.1", 1.0, "", False)
    for node, trouble in ((head, True), (replace(head, head=False), False)):
        life = Life(node, since=10.0)
        life.take(node, 30.0)
        life.take(replace(node, alive=False, wanted=True, why="it was told to"), 40.0)
        assert (life.seconds, bool(life.trouble), bool(life.left)) == (20.0, trouble, not trouble)


def test_a_silence_counts_as_lost_and_not_as_time_alive() -> None:
    now = [100.0]
    eyes = outlook(nodes_event(a=True), clock=lambda: now[0])
    try:
        eyes.await_nodes()
        now[0] += 10.0
        assert eyes.lost == ""
        now[0] += 55.0
        assert "65 s" in eyes.lost
        assert [life.seconds for life in eyes.lives()] == [0.0]
        with pytest.raises(Inconclusive, match="nothing was heard"):
            eyes.await_nodes()
    finally:
        eyes.close()


def test_a_pulse_counts_as_time_alive() -> None:
    eyes = outlook(nodes_event(a=True), then=PULSE)
    try:
        while not any(life.seconds for life in eyes.lives()):
            eyes.await_nodes()
    finally:
        eyes.close()


def test_late_joiners_and_nodes_that_leave_as_wanted_do_not_spoil_the_run() -> None:
    """By the address of a GCS elsewhere, for which no driver can be had here."""
    outside = Outside(Address("gcs", "192.0.2.1", 6379), NO_TOKEN, 0.5)
    late = f"time.sleep(0.2); print({nodes_event(wanted=True, a=True, b=False, c=True)!r})"
    outside.outlook = outlook(nodes_event(a=True, b=True), then=f"import time; {late}\n{PULSE}")
    result = ScenarioResult("stability", "")
    try:
        check_stability(outside, Recorder(result, lambda *_: None))
    finally:
        outside.outlook.close()
    assert [(check.what, check.verdict) for check in result.checks] == [
        (f"{name} stays alive", Verdict.PASS) for name in ("a", "b", "c")
    ]
    assert ["as wanted" in check.evidence for check in result.checks] == [False, True, False]
    assert "it joined while others were watched" in result.checks[2].evidence


def test_the_window_is_that_of_the_heads_settings() -> None:
    told = {
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_health_check_failure_threshold": "2",
    }
    outside = Outside(Address("client", "192.0.2.1", 10001), NO_TOKEN)
    outside.outlook = outlook(json.dumps({"event": "settings", "environment": told}))
    try:
        assert outside.window == 4.0
    finally:
        outside.outlook.close()
    assert Outside(Address("client", "192.0.2.1", 10001), NO_TOKEN, 7.0).window == 7.0


# Links


def link(source: str, target: str, bandwidth: float | None, trouble: str = "") -> Link:
    return Link(source, target, 1.0, 2.0, bandwidth, trouble)


def judged(*links: Link) -> Check:
    """What is said of the links from `a`."""
    outside = Outside(Address("client", "192.0.2.1", 1), NO_TOKEN, 5.0)
    outside.outlook = Outlook(LocalRuns(NO_TOKEN), "", "nodes")
    check = Check("", "")
    _judge_links(outside, check, "a", ["b"], {(one.source, one.target): one for one in links}, {})
    return check


def test_the_slower_direction_of_a_lopsided_link_is_named() -> None:
    slow = judged(link("a", "b", 10e6), link("b", "a", 300e6))
    assert [found.key for found in slow.causes] == ["link-slow"]
    assert judged(link("a", "b", 300e6), link("b", "a", 10e6)).verdict is Verdict.PASS


def test_a_dead_link_fails_and_one_that_was_not_measured_is_inconclusive() -> None:
    assert [found.key for found in judged(link("a", "b", None, "no answer")).causes] == ["link-dead"]
    assert judged(link("b", "a", 300e6)).verdict is Verdict.INCONCLUSIVE


def test_many_nodes_have_a_sample_of_their_links_measured() -> None:
    names = [f"node-{number}" for number in range(24)]
    sample = _sample(names)
    assert (len(set(sample)), sample[0]) == (10, names[0])
    assert _sample(names[:10]) == names[:10]


def test_a_refusal_is_why_no_node_is_seen() -> None:
    eyes = outlook('{"event": "refused", "why": "ConnectionError: no"}')
    try:
        with pytest.raises(Inconclusive, match="ConnectionError: no"):
            eyes.await_nodes()
    finally:
        eyes.close()


def test_a_program_that_breaks_is_why_no_node_is_seen() -> None:
    eyes = Outlook(Told("raise SystemExit('ValueError: broken')"), "ray://host:1", "nodes")
    eyes.start()
    try:
        with pytest.raises(Inconclusive, match="ValueError: broken"):
            eyes.await_nodes()
    finally:
        eyes.close()
