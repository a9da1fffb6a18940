"""What receipts tell after retries, and where something was there before."""

from __future__ import annotations

import time

from tests.transfer.faulty import CHUNK, FIRST, MIB, SLOW, assert_all_have, give, in_the_middle, send
from tests.transfer.parties import Cluster
from ws.transfer.events import Event, Planned

CHUNKS = 6 * MIB // CHUNK


def test_after_a_node_was_started_anew_all_that_was_sent_is_counted(cluster: Cluster) -> None:
    """What the first attempt brought was not there before."""
    content = give(cluster)
    planned: list[float] = []
    took: list[float] = []

    def kill(tid: str) -> None:
        took.append(time.monotonic() - planned[0])
        cluster.remotes[FIRST].kill()

    def take(event: Event) -> None:
        if isinstance(event, Planned):
            planned.append(time.monotonic())
        middle(event)

    middle = in_the_middle(cluster, kill)
    outcome = send(cluster, take, **SLOW)
    assert_all_have(cluster, outcome, content)
    assert {(receipt.had, receipt.chunks) for receipt in outcome.receipts.values()} == {(0, CHUNKS)}
    killed = outcome.receipts[FIRST]
    assert killed.retries >= 1
    assert killed.seconds >= round(took[0], 3)


def test_what_was_there_is_not_among_the_chunks_received(cluster: Cluster) -> None:
    content = give(cluster)
    send(cluster, in_the_middle(cluster, lambda tid: cluster.remotes[FIRST].party.finish(tid, True)), **SLOW)
    again = send(cluster)
    assert_all_have(cluster, again, content)
    receipt = again.receipts[FIRST]
    assert 0 < receipt.had < len(content)
    assert receipt.had + receipt.chunks * CHUNK == len(content)


def test_a_file_that_is_there_whole_has_no_chunks_received(cluster: Cluster) -> None:
    content = give(cluster)
    (cluster.root(FIRST) / "a.bin").write_bytes(content)
    outcome = send(cluster)
    assert_all_have(cluster, outcome, content)
    assert (outcome.receipts[FIRST].had, outcome.receipts[FIRST].chunks) == (len(content), 0)
