"""The scenario transfer on a site that is made up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.verify.fake_site import FakeSite, bad, performed
from ws.verify.programs import Event
from ws.verify.scenarios import transfer

CLIENT, WORKER = "test-ray-client", "test-ray-worker"
DIGEST = "ab" * 32
FILE = {"event": "file", "bytes": 16 << 20, "sha256": DIGEST}
SENT = "a file of 16 MiB is sent"
ACROSS = f"the file arrives unchanged: ray-cpu → {WORKER}"


def hop(source: str, target: str, **fields: Any) -> Event:
    return {
        "event": "hop",
        "source": source,
        "target": target,
        "ok": True,
        "sha256": DIGEST,
        "seconds": 0.5,
        "detail": "",
        **fields,
    }


@pytest.fixture
def site() -> FakeSite:
    made = FakeSite()
    made.logs[CLIENT] = ""
    made.answer("ray.__version__", "{}")
    for host, port in (("ray-cpu", 10001), ("ray-gpu", 10002)):
        made.port(host, port, speaks="client", token="right")
    made.says("transfer", [FILE, hop("outside", "ray-cpu"), hop("ray-cpu", WORKER), hop(WORKER, "outside")])
    return made


def test_in_across_and_out(site: FakeSite) -> None:
    checks = performed(transfer, site)
    assert bad(checks) == {}
    assert len(checks) == 4
    assert DIGEST[:16] in checks[ACROSS].evidence


def test_what_arrives_is_something_else(site: FakeSite) -> None:
    other = hop("ray-cpu", WORKER, ok=False, sha256="cd" * 32, detail="what arrived has another SHA-256")
    site.says("transfer", [FILE, hop("outside", "ray-cpu"), other])
    assert bad(performed(transfer, site)) == {
        ACROSS: ["data-differs"],
        f"the file arrives unchanged: {WORKER} → outside": ["inconclusive"],
    }


def test_a_hop_that_hangs_has_the_nodes_cause(site: FakeSite) -> None:
    hung = hop("ray-cpu", WORKER, ok=False, sha256=None, detail="no answer within 30 s")
    site.says("transfer", [FILE, hop("outside", "ray-cpu"), hung])
    seen = site.containers[WORKER]
    site.change(WORKER, published=frozenset(place for place in seen.published if not place.endswith(":31049")))
    checks = performed(transfer, site)
    assert bad(checks)[ACROSS] == ["port-blocked"]
    assert "object_manager" in checks[ACROSS].causes[0].what


def test_a_hop_that_was_too_slow_once_is_tried_again(site: FakeSite) -> None:
    runs: list[int] = []
    well = [FILE, hop("outside", "ray-cpu"), hop("ray-cpu", WORKER), hop(WORKER, "outside")]
    slow = [FILE, hop("outside", "ray-cpu", ok=False, sha256=None, detail="connecting: no answer within 30 s")]

    def said(_: object) -> list[Event]:
        runs.append(1)
        return slow if len(runs) == 1 else well

    site.says("transfer", said)
    assert bad(performed(transfer, site)) == {}
    site.says("transfer", slow)
    assert set(map(tuple, bad(performed(transfer, site)).values())) == {("inconclusive",)}


def test_a_client_that_does_not_get_in(site: FakeSite) -> None:
    site.says("transfer", [FILE, hop("outside", "ray-cpu", ok=False, sha256=None, detail="connecting: it hung")])
    site.port("ray-cpu", 10001, speaks="client", token="wrong")
    assert bad(performed(transfer, site))["the file arrives unchanged: outside → ray-cpu"] == ["token-wrong"]


def test_a_program_that_breaks(site: FakeSite) -> None:
    site.says("transfer", [{"event": "broken", "why": "ImportError: no ray"}])
    site.change(CLIENT, state="paused")
    found = bad(performed(transfer, site))
    assert found[SENT] == ["node-paused"]
    assert found[ACROSS] == ["inconclusive"]


def test_without_a_second_node_it_stays_on_the_head(site: FakeSite) -> None:
    for name in (WORKER, "test-ray-joiner", "ray-gpu"):
        del site.expected[name]
    site.says("transfer", [FILE, hop("outside", "ray-cpu"), hop("ray-cpu", "ray-cpu"), hop("ray-cpu", "outside")])
    assert bad(performed(transfer, site)) == {}


def test_without_a_head_or_a_client(site: FakeSite) -> None:
    site.heads, site.lease_answer = [None], {}
    assert bad(performed(transfer, site)) == {"a file goes in, across and out": ["no-leader"]}
    del site.expected[CLIENT]
    assert bad(performed(transfer, site)) == {"a file goes in, across and out": ["inconclusive"]}
