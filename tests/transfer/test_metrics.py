from __future__ import annotations

import re

from tests.transfer.made_up import ID, MIB, planned, progress, receipt, started, whole
from ws.transfer.events import Cancelled, Event, Finished, Paused, RecipientDone, RecipientFailed, Resumed
from ws.transfer.metrics import Metrics

_LINE = re.compile(r'(# (HELP|TYPE) \w+ .+)|(\w+(\{\w+="([^"\\\n]|\\.)*"(,\w+="([^"\\\n]|\\.)*")*\})? \S+)')


def counted(*events: Event) -> dict[str, float]:
    metrics = Metrics()
    for event in events:
        metrics.record(event)
    text = metrics.text()
    assert text.endswith("\n")
    lines = text.splitlines()
    assert [line for line in lines if not _LINE.fullmatch(line)] == []
    values = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in values}


def test_a_whole_transfer() -> None:
    assert counted(*whole()) == {
        'ws_transfer_bytes_total{plane="stream"}': 100 * MIB,
        'ws_transfer_chunks_total{plane="stream"}': 13,
        "ws_transfer_retries_total": 1,
        'ws_transfer_failures_total{code="no-space"}': 1,
        "ws_transfer_rate_bytes_per_second": 0,
        'ws_transfers{state="paused"}': 0,
        'ws_transfers{state="running"}': 0,
        'ws_transfers_total{state="failed"}': 1,
    }


def test_what_runs_now() -> None:
    running = [started(), planned(), progress(0), progress(10 * MIB, rate=5e6), progress(0, "ray_node_3", rate=1e6)]
    values = counted(*running)
    assert values['ws_transfer_bytes_total{plane="stream"}'] == 10 * MIB
    assert values["ws_transfer_rate_bytes_per_second"] == 6e6
    assert values['ws_transfers{state="running"}'] == 1
    values = counted(*running, Paused(transfer=ID))
    assert (values['ws_transfers{state="running"}'], values['ws_transfers{state="paused"}']) == (0, 1)
    assert values["ws_transfer_rate_bytes_per_second"] == 0
    assert counted(*running, Paused(transfer=ID), Resumed(transfer=ID))['ws_transfers{state="running"}'] == 1
    assert counted(*running, Cancelled(transfer=ID))['ws_transfers_total{state="cancelled"}'] == 1


def test_bytes_that_were_in_place_were_not_sent() -> None:
    done = RecipientDone(transfer=ID, recipient="ray_node_2", receipt=receipt(had=40 * MIB, chunks=8))
    events = [started(), planned(), progress(40 * MIB), progress(70 * MIB), done, Finished(transfer=ID, state="done")]
    assert counted(*events)['ws_transfer_bytes_total{plane="stream"}'] == 60 * MIB
    assert counted(started(), planned(), done)['ws_transfer_bytes_total{plane="stream"}'] == 60 * MIB


def test_a_counter_never_falls() -> None:
    """Chunks that were found to be wrong are missing again."""
    values = counted(started(), planned(), progress(0), progress(20 * MIB), progress(10 * MIB), progress(20 * MIB))
    assert values['ws_transfer_bytes_total{plane="stream"}'] == 20 * MIB


def test_retries_within_an_attempt_count_too() -> None:
    """Only attempts are told as they happen; a receipt has all."""
    events = [event for event in whole() if not isinstance(event, RecipientDone)]
    done = RecipientDone(transfer=ID, recipient="ray_node_2", receipt=receipt(retries=3))
    assert counted(*events[:-1], done, events[-1])["ws_transfer_retries_total"] == 3


def test_labels_are_escaped() -> None:
    values = counted(RecipientFailed(transfer=ID, recipient="a", problem={"code": 'a"b\\c\nd'}))
    assert values['ws_transfer_failures_total{code="a\\"b\\\\c\\nd"}'] == 1
