"""What may go wrong with wires, peers and nodes, each caused for real in a whole transfer along a chain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.transfer.faulty import (
    FIRST,
    HERE,
    LAST,
    MIB,
    MIDDLE,
    NODES,
    RECIPIENTS,
    SENDER,
    SLOW,
    assert_all_have,
    give,
    in_the_middle,
    send,
)
from tests.transfer.onnode.proxy import Proxy
from tests.transfer.parties import Cluster, NodeRemote
from ws.transfer import running
from ws.transfer.events import Event, Retry
from ws.transfer.onnode.answers import answering
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.hashing import digest_of
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.ray_link import read_block
from ws.transfer.onnode.serving import Server
from ws.transfer.onnode.wire import PULLS


@pytest.fixture
def wires(cluster: Cluster) -> Iterator[dict[str, Proxy]]:
    """Every node is reached through a wire of its own, by its id."""
    made: dict[str, Proxy] = {}

    def lay(remote: NodeRemote) -> None:
        host, port = remote.addresses[0]
        made[remote.id] = Proxy((host, port))
        remote.addresses = [made[remote.id].address]

    cluster.on_start = lay
    yield made
    for wire in made.values():
        wire.close()


# The wire


def test_flipped_bytes_are_found_and_fetched_again(cluster: Cluster, wires: dict[str, Proxy]) -> None:
    content = give(cluster)
    for node in (SENDER, FIRST):
        cluster.party(node)
        wires[node].flips, wires[node].flip_every = 3, 700_000
    outcome = send(cluster)
    assert_all_have(cluster, outcome, content)
    for node, next_one in ((SENDER, FIRST), (FIRST, MIDDLE)):
        assert wires[node].flips < 3
        assert outcome.receipts[next_one].retries >= 1


def test_a_link_that_is_cut_and_restored(cluster: Cluster, wires: dict[str, Proxy]) -> None:
    """It is mended when it was missed: somebody has dialled in vain."""
    content = give(cluster)

    def cut(tid: str) -> None:
        wire = wires[SENDER]
        wire.cut()
        wire.wait_dials(wire.dials + 1)
        wire.mend()

    outcome = send(cluster, in_the_middle(cluster, cut), **SLOW)
    assert_all_have(cluster, outcome, content)
    assert outcome.receipts[FIRST].retries >= 1


def test_a_link_in_the_chain_that_stays_cut_is_gone_round(cluster: Cluster, wires: dict[str, Proxy]) -> None:
    content = give(cluster)
    outcome = send(cluster, in_the_middle(cluster, lambda tid: wires[FIRST].cut()), **SLOW)
    assert_all_have(cluster, outcome, content)
    assert outcome.receipts[MIDDLE].retries >= 1


def test_all_links_cut_for_longer_than_anyone_waits(
    cluster: Cluster, wires: dict[str, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_PATIENCE", 0.5)
    content = give(cluster)

    def cut(tid: str) -> None:
        for wire in wires.values():
            wire.cut()

    def mend(event: Event) -> None:
        """Once the coordinator itself has seen it fail."""
        middle(event)
        if isinstance(event, Retry):
            for wire in wires.values():
                wire.mend()

    middle = in_the_middle(cluster, cut)
    outcome = send(cluster, mend, **SLOW)
    assert_all_have(cluster, outcome, content)
    assert outcome.retries


# Peers


class Liar:
    """Serves other bytes with the hashes that belong to those, for the chunks that `lies` says."""

    def __init__(self, store: Any, lies: Callable[[int], bool]) -> None:
        self._store, self._lies = store, lies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def _lie(self, index: int) -> bytes:
        length: int = self._store.layout.length(index)
        return b"x" * length

    def pieces(self, index: int) -> Iterator[memoryview]:
        return iter([memoryview(self._lie(index))]) if self._lies(index) else self._store.pieces(index)

    def digest(self, index: int) -> bytes:
        if self._lies(index):
            return digest_of(self._store.layout.algorithm, self._lie(index))
        told: bytes = self._store.digest(index)
        return told


def register_as(cluster: Cluster, node: str, disguise: Callable[[Any], Any]) -> None:
    remote = cluster.party(node)
    assert isinstance(remote, NodeRemote)
    party = remote.party
    party._block = answering(  # type: ignore[method-assign]
        lambda tid, index: read_block(disguise(party._part(tid).store), index)
    )
    server = party._server
    assert server
    register = server.register
    server.register = (  # type: ignore[method-assign]
        lambda tid, secret, store, **more: register(tid, secret, disguise(store), **more)
    )


@pytest.mark.usefixtures("either_plane")
@pytest.mark.parametrize("source", [SENDER, HERE])
@pytest.mark.parametrize("lies", [lambda index: True, lambda index: index == 7], ids=["all", "one"])
def test_what_a_relay_lies_about_is_replaced_even_where_it_was_passed_on(
    cluster: Cluster, lies: Callable[[int], bool], source: str
) -> None:
    """The middle one believes the first, and hands the lie on to the last in good faith."""
    content = give(cluster)
    register_as(cluster, FIRST, lambda store: Liar(store, lies))
    outcome = send(cluster, source=source)
    assert_all_have(cluster, outcome, content)
    assert outcome.receipts[MIDDLE].retries >= 1
    assert outcome.receipts[FIRST].retries == 0


def test_with_a_wrong_secret_nothing_is_got_and_nobody_is_disturbed(cluster: Cluster) -> None:
    content = give(cluster)
    said: list[str] = []

    def intrude(tid: str) -> None:
        for node in NODES:
            host, port = cluster.remotes[node].addresses[0]
            with pytest.raises(TransferProblem) as caught:
                dial([(host, port)], bytes.fromhex(tid), b"x" * 32, PULLS)
            said.append(caught.value.code)

    outcome = send(cluster, in_the_middle(cluster, intrude), **SLOW)
    assert said == ["wrong-secret"] * 4
    assert_all_have(cluster, outcome, content)


def test_an_impostor_at_the_senders_address_is_found_out_and_worked_around(cluster: Cluster) -> None:
    """It knows the transfer, and not the secret: the sender dials, and nothing is taken from the other."""
    content = give(cluster)
    tid = "ab" * 16
    impostor = Server("127.0.0.1")
    impostor.register(bytes.fromhex(tid), b"x" * 32, Liar(None, lambda index: True))
    cluster.party(SENDER).addresses = [["127.0.0.1", impostor.port]]
    outcome = send(cluster, tid=tid)
    impostor.close()
    assert_all_have(cluster, outcome, content)


# Nodes


@pytest.mark.usefixtures("either_plane")
@pytest.mark.parametrize("source", [SENDER, HERE])
def test_a_relay_that_keeps_files_of_its_own_does_not_hold_up_the_others(cluster: Cluster, source: str) -> None:
    """It skips the chunks of what it keeps, and who is behind it gets them from elsewhere."""
    top = cluster.root(SENDER) / "top"
    top.mkdir()
    for name in ("big", "last"):
        (top / name).write_bytes(os.urandom(2 * MIB))
    for node in (FIRST, LAST):
        own = cluster.root(node) / "top"
        own.mkdir()
        (own / "big").write_bytes(b"my own")
    outcome = send(cluster, name="top", source=source)
    assert outcome.state == "done", outcome
    assert {node: outcome.receipts[node].kept for node in RECIPIENTS} == {FIRST: ("big",), MIDDLE: (), LAST: ("big",)}
    for node in RECIPIENTS:
        there = cluster.root(node) / "top"
        assert (there / "last").read_bytes() == (top / "last").read_bytes()
        assert (there / "big").read_bytes() == ((top / "big").read_bytes() if node == MIDDLE else b"my own")
