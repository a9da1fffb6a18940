"""A cancelled transfer leaves nothing unfinished, or says where it may have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.transfer.faulty import FIRST, MIDDLE, RECIPIENTS, SENDER, give, left_over
from tests.transfer.parties import Cluster, NodeRemote
from ws.transfer import ending, hearing, running
from ws.transfer.events import Cancelled, Event, Progress, RecipientFailed, Stream
from ws.transfer.outcome import Outcome, Settings

NOTHING: dict[str, list[str]] = {node: [] for node in RECIPIENTS}


class Cancelling:
    """A transfer that `wanted` ends; what `on_event` does, and all that is told."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.wanted = "none"
        self.told: list[Event] = []

    def run(self, on_event: Callable[[Event], None], *, keep_partial: bool = False) -> Outcome:
        settings = Settings(fsync=False, chunk_size=256 << 10, limit=1 << 20, keep_partial=keep_partial)
        stream = Stream(self.told.append, on_event)
        source = (SENDER, "a.bin")
        party = self.cluster.party
        ran = running.Transfer(party, source, RECIPIENTS, settings, stream, lambda: self.wanted, retry_pause=0.01)
        return ran.run()

    def cancel_when_one_failed(self, event: Event) -> None:
        if isinstance(event, RecipientFailed):
            self.wanted = "cancel"

    @property
    def left_at(self) -> tuple[str, ...]:
        (cancelled,) = [event for event in self.told if isinstance(event, Cancelled)]
        return cancelled.left_at


def once_it_runs(event: Event) -> bool:
    return isinstance(event, Progress) and event.recipient == FIRST and event.done > 0


@pytest.mark.parametrize("keep", [False, True])
def test_what_failed_earlier_leaves_nothing_either(cluster: Cluster, keep: bool) -> None:
    """It has ended at its node, and what had come is kept for a next try; the user wants none."""
    give(cluster)
    cancelling = Cancelling(cluster)

    def take(event: Event) -> None:
        cancelling.cancel_when_one_failed(event)
        if once_it_runs(event):
            cluster.remotes[FIRST].party.finish(event.transfer, True)

    assert cancelling.run(take, keep_partial=keep).state == "cancelled"
    left = ["a.bin.part", "a.bin.part.journal"] if keep else []
    assert left_over(cluster) == dict.fromkeys(RECIPIENTS, left)
    assert cancelling.left_at == ()


def test_who_does_not_confirm_that_nothing_is_left_is_named(cluster: Cluster) -> None:
    give(cluster)
    cancelling = Cancelling(cluster)

    def take(event: Event) -> None:
        if once_it_runs(event) and FIRST not in cluster.gone:
            cluster.gone.add(FIRST)
            cluster.remotes[FIRST].kill()
            cancelling.wanted = "cancel"

    assert cancelling.run(take).state == "cancelled"
    assert "a.bin.part" in left_over(cluster)[FIRST]
    assert left_over(cluster)[MIDDLE] == []
    assert cancelling.left_at == (FIRST,)


def test_what_is_left_of_another_transfer_stays(cluster: Cluster) -> None:
    """A recipient that could not even accept has nothing of this one."""
    give(cluster)
    there = cluster.root(FIRST)
    for name in ("a.bin.part", "a.bin"):
        (there / name).write_bytes(b"mine")
    cancelling = Cancelling(cluster)
    assert cancelling.run(cancelling.cancel_when_one_failed).state == "cancelled"
    assert left_over(cluster) == {**NOTHING, FIRST: ["a.bin", "a.bin.part"]}
    assert cancelling.left_at == ()


def test_a_sender_that_falls_silent_at_its_hashes_does_not_hold_up_a_cancel(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "ENDING_FOR", 0.5)
    monkeypatch.setattr(ending, "FAREWELL", 0.5)
    give(cluster, size=1 << 20)
    cancelling = Cancelling(cluster)

    def freeze(remote: NodeRemote, method: str) -> None:
        if method == "hashes":
            remote.frozen.set()
            cancelling.wanted = "cancel"

    def on_start(remote: NodeRemote) -> None:
        if remote.id == SENDER:
            remote.before = lambda method: freeze(remote, method)

    cluster.on_start = on_start
    assert cancelling.run(lambda event: None).state == "cancelled"
    assert left_over(cluster) == NOTHING


def test_what_a_subscriber_raises_cancels_it_and_is_raised(cluster: Cluster) -> None:
    give(cluster)
    cancelling = Cancelling(cluster)

    def take(event: Event) -> None:
        if once_it_runs(event) or isinstance(event, Cancelled):
            raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        cancelling.run(take)
    assert cancelling.told[-1].kind == "cancelled"
    assert left_over(cluster) == NOTHING
