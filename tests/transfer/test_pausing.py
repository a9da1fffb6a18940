"""A pause holds whenever it is asked for: before anything is accepted, and while a node is started anew."""

from __future__ import annotations

import threading

from tests.transfer.faulty import FIRST, RECIPIENTS, SENDER, SLOW, assert_all_have, give
from tests.transfer.parties import Cluster, NodeRemote
from ws.transfer import running
from ws.transfer.events import Event, Progress, Stream
from ws.transfer.outcome import Outcome, Settings


class Pausing:
    """A transfer and what is wanted of it. Once paused, a node is looked at a few times before it may go on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.wanted = "none"
        self.paused = threading.Event()
        self.pulled_meanwhile: bool | None = None
        self.looks = 0

    def run(self, **options: float) -> Outcome:
        settings = Settings(fsync=False, chunk_size=256 << 10, **options)
        stream = Stream(self.take)
        source = (SENDER, "a.bin")
        party = self.cluster.party
        ran = running.Transfer(party, source, RECIPIENTS, settings, stream, lambda: self.wanted, retry_pause=0.01)
        return ran.run()

    def take(self, event: Event) -> None:
        if event.kind == "paused":
            self.paused.set()

    def watch(self, remote: NodeRemote) -> None:
        """From when it has accepted."""

        def before(method: str) -> None:
            if method == "accept":
                self.wanted = "pause"
                assert self.paused.wait(20)
            if method == "progress" and self.paused.is_set() and "accept" in remote.calls:
                self.looks += 1
                if self.looks == 5:
                    self.pulled_meanwhile = "pull" in remote.calls
                    self.wanted = "none"

        remote.before = before


def test_what_is_paused_before_it_is_accepted_does_not_begin(cluster: Cluster) -> None:
    content = give(cluster)
    pausing = Pausing(cluster)
    cluster.on_start = lambda remote: pausing.watch(remote) if remote.id == FIRST else None
    outcome = pausing.run()
    assert pausing.pulled_meanwhile is False
    assert_all_have(cluster, outcome, content)


def test_a_node_that_is_started_anew_during_a_pause_waits_as_well(cluster: Cluster) -> None:
    content = give(cluster)

    class Killing(Pausing):
        def take(self, event: Event) -> None:
            if isinstance(event, Progress) and event.done and event.recipient == FIRST and not self.paused.is_set():
                self.wanted = "pause"
            if event.kind == "paused":
                cluster.on_start = self.watch
                cluster.remotes[FIRST].kill()
                self.paused.set()

    killing = Killing(cluster)
    outcome = killing.run(**SLOW)
    assert killing.pulled_meanwhile is False
    assert_all_have(cluster, outcome, content)


def test_the_sender_is_told_too_as_it_may_be_the_one_that_pushes(cluster: Cluster) -> None:
    give(cluster)
    pausing = Pausing(cluster)
    cluster.on_start = lambda remote: pausing.watch(remote) if remote.id == FIRST else None
    pausing.run()
    calls = cluster.remotes[SENDER].calls
    assert calls.index("pause") < calls.index("resume")
