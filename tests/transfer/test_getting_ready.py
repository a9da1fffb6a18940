"""A recipient that takes long to get ready: the others do not wait for it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.transfer.faulty import FIRST, LAST, MIDDLE, RECIPIENTS, assert_all_have, give, send
from tests.transfer.parties import Cluster, NodeRemote
from ws.transfer import hearing, running
from ws.transfer.events import Event, Planned, RecipientDone, Stream
from ws.transfer.outcome import Settings


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_TOGETHER", 0.2)


def hold_up(cluster: Cluster, node: str) -> threading.Event:
    """It does not answer `accept` before the event, as one that has much to hash, or a disk that hangs."""
    go_on = threading.Event()

    def slow_down(remote: NodeRemote) -> None:
        accept = remote.party.accept

        def accept_late(tid: str, spec: Any) -> dict[str, Any]:
            assert go_on.wait(30)
            return accept(tid, spec)

        if remote.id == node:
            made_up: Any = remote.party
            made_up.accept = accept_late

    cluster.on_start = slow_down
    return go_on


@pytest.mark.parametrize("late", RECIPIENTS)
def test_the_others_have_it_before_the_late_one_begins(cluster: Cluster, late: str) -> None:
    content = give(cluster)
    go_on = hold_up(cluster, late)
    told: list[Event] = []

    def take(event: Event) -> None:
        told.append(event)
        if {each.recipient for each in told if isinstance(each, RecipientDone)} == set(RECIPIENTS) - {late}:
            go_on.set()

    outcome = send(cluster, take)
    assert_all_have(cluster, outcome, content)
    planned = [[route.recipient for route in event.routes] for event in told if isinstance(event, Planned)]
    assert planned == [[node for node in RECIPIENTS if node != late], [late]]
    assert [event.recipient for event in told if isinstance(event, RecipientDone)][-1] == late


def test_who_is_refused_late_fails_alone(cluster: Cluster) -> None:
    content = give(cluster)
    (cluster.root(MIDDLE) / "a.bin").write_bytes(b"other")
    go_on = hold_up(cluster, MIDDLE)
    outcome = send(cluster, lambda event: go_on.set() if isinstance(event, RecipientDone) else None)
    assert [problem["code"] for problem in outcome.problems.values()] == ["exists"]
    assert [(cluster.root(node) / "a.bin").read_bytes() for node in (FIRST, LAST)] == [content] * 2


def test_who_never_gets_ready_does_not_hold_up_a_cancel(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers everything else, so that it does not count as silent."""
    monkeypatch.setattr(hearing, "ENDING_AT_MOST", 0.3)
    give(cluster)
    go_on = hold_up(cluster, LAST)
    done: set[str] = set()

    def take(event: Event) -> None:
        if isinstance(event, RecipientDone):
            done.add(event.recipient)

    def wanted() -> str:
        return "cancel" if done == {FIRST, MIDDLE} else "none"

    settings = Settings(fsync=False, chunk_size=256 << 10)
    try:
        ran = running.Transfer(cluster.party, ("ray_node_1", "a.bin"), RECIPIENTS, settings, Stream(take), wanted)
        outcome = ran.run()
    finally:
        go_on.set()
    assert outcome.state == "cancelled"
    assert set(outcome.receipts) == {FIRST, MIDDLE}
