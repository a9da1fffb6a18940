"""The rate of what comes in whole chunks, and who is looked at."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.transfer.parties import Cluster
from ws.transfer import running
from ws.transfer.events import Event, Progress, Stream
from ws.transfer.outcome import Settings
from ws.transfer.recipient import Recipient
from ws.transfer.sender import Sender
from ws.transfer.ticker import Rate, Ticker
from ws.wait import NotYet, wait_for


def test_chunks_that_are_rarer_than_the_mean_is_long_still_give_the_right_rate() -> None:
    rate = Rate()
    rates = [rate.add(tick / 5, (tick // 40) * 8_000_000) for tick in range(200)]  # 8 MB every 8 s
    assert rates[0] == 0.0
    assert rates[45:] == pytest.approx([1_000_000] * len(rates[45:]), rel=0.01)


def test_a_stall_shows() -> None:
    rate = Rate()
    for tick in range(20):
        rate.add(tick / 5, tick * 1_000_000)
    assert rate.add(3.9, 19_000_000) == pytest.approx(5_000_000)
    assert rate.add(60.0, 19_000_000) < 500_000


class Looking:
    """A ticker over a sender and a recipient that know nothing of the transfer yet."""

    def __init__(self, cluster: Cluster, wanted: Callable[[], str] = lambda: "none") -> None:
        tid = "ab" * 16
        self.sender = Sender(cluster.party, "a", "path", tid, b"", 1)
        self.sender.connect()
        self.recipient = Recipient("b", tid)
        self.recipient.remote = cluster.party("b")
        self.obeyed: list[str] = []
        self.cancelled = threading.Event()
        self.lost = threading.Semaphore(0)
        self.may_revive = threading.Event()
        self.ticker = Ticker(tid, self.sender, [self.recipient], lambda event: None, wanted, self.obey, self.revive)

    def obey(self, wanted: str) -> None:
        self.obeyed.append(wanted)
        if wanted == "cancel":
            self.cancelled.set()

    def revive(self) -> None:
        self.lost.release()
        assert self.may_revive.wait(20)


def test_any_answer_counts_as_heard(cluster: Cluster) -> None:
    """While a recipient hashes what an earlier try left, it knows nothing of the transfer, and says so."""
    looking = Looking(cluster)
    heard = threading.Semaphore(0)
    looking.recipient.hearing.heard = heard.release  # type: ignore[method-assign]
    looking.ticker.start()
    assert heard.acquire(timeout=20)
    calls = cluster.remotes["b"].calls
    cluster.remotes["b"].kill()
    _await_more(calls)  # what it answered before has been heard by then
    while heard.acquire(blocking=False):
        pass
    _await_more(calls)
    assert not heard.acquire(blocking=False)
    looking.may_revive.set()
    looking.ticker.stop()


def test_recipients_are_asked_on_while_the_sender_is_started_anew(cluster: Cluster) -> None:
    looking = Looking(cluster)
    looking.ticker.start()
    assert looking.lost.acquire(timeout=20)
    _await_more(cluster.remotes["b"].calls)
    assert not looking.lost.acquire(blocking=False)
    looking.may_revive.set()
    looking.ticker.stop()


def test_what_ends_it_cancels_the_transfer_and_is_raised(cluster: Cluster) -> None:
    def wanted() -> str:
        raise BrokenPipeError("nobody reads")

    looking = Looking(cluster, wanted)
    looking.ticker.start()
    looking.cancelled.wait(20)
    with pytest.raises(BrokenPipeError):
        looking.ticker.stop()
    assert looking.obeyed == ["cancel"]


def _await_more(items: list[str]) -> None:
    wanted = len(items) + 4

    def look() -> None:
        if len(items) < wanted:
            raise NotYet(f"{len(items)} of {wanted}")

    wait_for("more calls", look, timeout=20, interval=0.05)


def test_a_large_chunk_shows_before_it_is_whole(cluster: Cluster) -> None:
    """At a low rate nothing would move for minutes otherwise."""
    size = 8 << 20
    (cluster.root("a") / "a.bin").write_bytes(bytes(range(256)) * (size // 256))
    seen: list[Progress] = []

    def take(event: Event) -> None:
        if isinstance(event, Progress) and event.coming:
            seen.append(event)
            cluster.remotes["b"].lift_limit(event.transfer)

    settings = Settings(fsync=False, chunk_size=size, limit=1 << 20)
    assert running.Transfer(cluster.party, ("a", "a.bin"), ["b"], settings, Stream(take)).run().state == "done"
    assert seen[0].done == 0
    assert all(event.done + event.coming <= event.total for event in seen)


def test_many_recipients_take_turns_at_being_asked(cluster: Cluster) -> None:
    """All are asked within fifteen looks, and no more often: the questions would slow a large transfer down."""
    tid = "ab" * 16
    sender = Sender(cluster.party, "a", "path", tid, b"", 1)
    sender.connect()
    recipients = [Recipient(f"r{number:02}", tid) for number in range(40)]
    for recipient in recipients:
        recipient.remote = cluster.party(recipient.id)
    looks = threading.Semaphore(0)

    def wanted() -> str:
        looks.release()
        return "none"

    ticker = Ticker(tid, sender, recipients, lambda event: None, wanted, lambda wanted: None, lambda: None)
    before = {recipient.id: len(cluster.remotes[recipient.id].calls) for recipient in recipients}
    ticker.start()
    for _ in range(15):
        assert looks.acquire(timeout=20)
    ticker.stop()
    asked = [len(cluster.remotes[recipient.id].calls) - before[recipient.id] for recipient in recipients]
    assert min(asked) == 1
    assert sum(asked) <= 16 * 3
