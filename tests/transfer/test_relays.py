"""Relays that have it already, and what is behind them where the sender can't be dialled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.transfer.faulty import FIRST, HERE, LAST, MIB, MIDDLE, RECIPIENTS, SENDER, assert_all_have, give, held, send
from tests.transfer.parties import Cluster
from ws.transfer import running
from ws.transfer.events import Event, Planned, RecipientDone


def first_is_ahead(cluster: Cluster, then: Callable[[str], None]) -> Callable[[Event], None]:
    """The first one has no limit, nor who is planned anew; `then` gets the transfer's id when the first has all."""

    def take(event: Event) -> None:
        if isinstance(event, Planned):
            for node in [FIRST] if len(event.routes) == len(RECIPIENTS) else RECIPIENTS:
                cluster.remotes[node].lift_limit(event.transfer)
        if isinstance(event, RecipientDone) and event.recipient == FIRST:
            then(event.transfer)

    return take


def let_go(cluster: Cluster, tid: str) -> None:
    for node in (MIDDLE, LAST):
        cluster.remotes[node].lift_limit(tid)


def test_a_relay_that_has_it_is_asked_on_and_does_not_drop_out(cluster: Cluster) -> None:
    """What nobody asks for ends on a node after a while, and those behind it would have nobody."""
    content = give(cluster)
    since: list[int] = []

    def watch(tid: str) -> None:
        since.append(0)

        def count(method: str) -> None:
            since[0] += method == "progress"
            if since[0] == 3:
                let_go(cluster, tid)

        cluster.remotes[FIRST].before = count

    outcome = send(cluster, first_is_ahead(cluster, watch), source=HERE, limit=MIB)
    assert_all_have(cluster, outcome, content)
    assert since[0] >= 3


def test_a_relay_that_has_it_and_dropped_out_is_replaced_by_the_sender_that_dials(cluster: Cluster) -> None:
    content = give(cluster)

    def drop(tid: str) -> None:
        cluster.remotes[FIRST].party.finish(tid, True)
        let_go(cluster, tid)

    outcome = send(cluster, first_is_ahead(cluster, drop), source=HERE, limit=MIB)
    assert_all_have(cluster, outcome, content)


def test_one_that_reaches_the_recipient_but_serves_it_no_more_is_asked_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is alive and dials, so that a plan has it as the source; it answers that it knows nothing of the transfer."""
    monkeypatch.setattr(running, "_PATIENCE", 1.5)
    content = give(cluster)

    def drop(tid: str) -> None:
        cluster.remotes[FIRST].party.finish(tid, True)
        cluster.remotes[MIDDLE].kill()

    outcome = send(cluster, first_is_ahead(cluster, drop), source=HERE, limit=MIB)
    assert_all_have(cluster, outcome, content)
    assert cluster.remotes[FIRST].calls.count("serve_by_dialling") == 1
    assert outcome.receipts[MIDDLE].path == (HERE, MIDDLE)


@pytest.mark.parametrize("deaf", [set(), {SENDER}])
def test_a_sender_behind_nat_stands_in_for_a_relay_that_keeps_files_of_its_own(cluster: Cluster, deaf: set[str]) -> None:
    cluster.deaf = deaf
    top = cluster.root(SENDER) / "top"
    top.mkdir()
    for name in ("big", "last"):
        (top / name).write_bytes(name.encode() * MIB)
    own = cluster.root(FIRST) / "top"
    own.mkdir()
    (own / "big").write_bytes(b"my own")
    outcome = send(cluster, name="top")
    assert outcome.state == "done", outcome
    assert held(cluster, "top/big") == {FIRST: b"my own", **dict.fromkeys((MIDDLE, LAST), b"big" * MIB)}
