"""A peer that is gone when it is asked: what was claimed for it is fetched from another."""

from __future__ import annotations

from typing import Any

from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.onnode.pulling import Puller


class Layout:
    count, chunk_size = 6, 1


class Sink:
    layout = Layout()

    def __init__(self) -> None:
        self.had: list[int] = []

    def is_missing(self, index: int) -> bool:
        return index not in self.had


class Link:
    """Brings what it is asked for; `dead`: it can't be asked."""

    depth = 2

    def __init__(self, name: str, sink: Sink, *, dead: bool) -> None:
        self.name, self._sink, self._dead = name, sink, dead

    def ask(self, index: int) -> None:
        if self._dead:
            raise PeerFailed(TransferProblem(LOST, f"{self.name} does not answer"))

    def receive(self, index: int) -> None:
        self._sink.had.append(index)

    def goodbye(self) -> None: ...
    def shut(self) -> None: ...
    def close(self) -> None: ...


def test_what_was_claimed_for_a_peer_that_can_not_be_asked_comes_from_another() -> None:
    sink = Sink()

    def links(peer: Any, *_: Any) -> Link:
        return Link(peer["name"], sink, dead=peer["name"] == "dead")

    peers = [{"name": "dead", "actor": 1}, {"name": "origin", "actor": 1, "origin": True}]
    Puller(sink, b"t" * 16, b"s" * 32, peers, links=links, patience=2.0).run()
    assert sorted(sink.had) == list(range(Layout.count))
