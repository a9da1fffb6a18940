"""What may go wrong with wires, disks, sources and peers, each caused for real in a whole transfer along a chain."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.transfer.onnode.copying import names, picture, small_disk
from tests.transfer.onnode.proxy import Proxy
from tests.transfer.parties import Cluster, NodeRemote
from ws.transfer import running
from ws.transfer.events import Event, Progress, Retry, Stream
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.serving import Server
from ws.transfer.onnode.wire import PULLS
from ws.transfer.outcome import Outcome, Settings

MIB = 1 << 20
CHUNK = 256 << 10
SENDER, FIRST, MIDDLE, LAST = NODES = [f"ray_node_{number}" for number in range(1, 5)]
RECIPIENTS = NODES[1:]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


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


def give(cluster: Cluster, size: int = 6 * MIB, name: str = "a.bin") -> bytes:
    content = os.urandom(size)
    (cluster.root(SENDER) / name).write_bytes(content)
    return content


def send(
    cluster: Cluster, on_event: Callable[[Event], None] = lambda event: None, name: str = "a.bin", **options: Any
) -> Outcome:
    settings = Settings(**{"fsync": False, "chunk_size": CHUNK, **options})
    stream = Stream(on_event)
    return running.Transfer(cluster.party, (SENDER, name), RECIPIENTS, settings, stream, retry_pause=0.01).run()


def in_the_middle(cluster: Cluster, fault: Callable[[str], None], recipient: str = FIRST) -> Callable[[Event], None]:
    """Calls `fault` once, with the transfer's id, when the recipient has something; what is left goes without a limit."""
    once = threading.Event()

    def take(event: Event) -> None:
        if isinstance(event, Progress) and event.recipient == recipient and event.done and not once.is_set():
            once.set()
            assert event.done < event.total
            fault(event.transfer)
            for node in RECIPIENTS:
                cluster.remotes[node].party.limit(event.transfer, None)

    return take


SLOW = {"limit": 6 * MIB}


def held(cluster: Cluster, name: str = "a.bin") -> dict[str, bytes | None]:
    """What each recipient has under the final name."""
    paths = {node: cluster.root(node) / name for node in RECIPIENTS}
    return {node: path.read_bytes() if path.exists() else None for node, path in paths.items()}


def assert_all_have(cluster: Cluster, outcome: Outcome, content: bytes) -> None:
    assert outcome.state == "done", outcome
    assert held(cluster) == dict.fromkeys(RECIPIENTS, content)
    assert [names(cluster.root(node)) for node in RECIPIENTS] == [["a.bin"]] * 3
    hashes = b"".join(hashlib.sha256(content[at : at + CHUNK]).digest() for at in range(0, len(content), CHUNK))
    assert {receipt.root_hash for receipt in outcome.receipts.values()} == {hashlib.sha256(hashes).hexdigest()}


def assert_only(cluster: Cluster, outcome: Outcome, failed: str, code: str, content: bytes) -> str:
    """One alone has failed, with that code; returns what it says."""
    assert outcome.state == "failed"
    assert {node: problem["code"] for node, problem in outcome.problems.items()} == {failed: code}
    assert held(cluster) == {node: None if node == failed else content for node in RECIPIENTS}
    return str(TransferProblem.from_dict(dict(outcome.problems[failed])))


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
    monkeypatch.setattr(running, "_PULL", {"streams": 2, "patience": 0.5})
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
        return b"x" * self._store.layout.length(index)

    def pieces(self, index: int) -> Iterator[memoryview]:
        return iter([memoryview(self._lie(index))]) if self._lies(index) else self._store.pieces(index)

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(self._lie(index)).digest() if self._lies(index) else self._store.digest(index)


def register_as(cluster: Cluster, node: str, disguise: Callable[[Any], Any]) -> None:
    remote = cluster.party(node)
    assert isinstance(remote, NodeRemote)
    server = remote.party._server
    assert server
    register = server.register
    server.register = (  # type: ignore[method-assign]
        lambda tid, secret, store, **more: register(tid, secret, disguise(store), **more)
    )


@pytest.mark.parametrize("lies", [lambda index: True, lambda index: index == 7], ids=["all", "one"])
def test_what_a_relay_lies_about_is_replaced_even_where_it_was_passed_on(
    cluster: Cluster, lies: Callable[[int], bool]
) -> None:
    """The middle one believes the first, and hands the lie on to the last in good faith."""
    content = give(cluster)
    register_as(cluster, FIRST, lambda store: Liar(store, lies))
    outcome = send(cluster)
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
    """It answers for any transfer, and does not know the secret: the sender dials, and nothing is taken from it."""
    content = give(cluster)
    impostor = Server("127.0.0.1")
    impostor._secret_of = lambda hello: b"x" * 32  # type: ignore[method-assign]
    cluster.party(SENDER).addresses = [["127.0.0.1", impostor.port]]
    outcome = send(cluster)
    impostor.close()
    assert_all_have(cluster, outcome, content)


# Disks


@needs_root
def test_a_full_disk_fails_one_of_three_and_says_what_to_free(cluster: Cluster) -> None:
    content = give(cluster)
    with small_disk(cluster.folder / MIDDLE, "2m") as disk:
        said = assert_only(cluster, send(cluster), MIDDLE, "no-space", content)
        assert f"it needs 6.0 MiB, and 2.0 MiB are free on {disk}" in said
        assert "free 4.0 MiB there" in said
        assert names(disk) == []


@needs_root
def test_a_disk_that_fills_meanwhile_fails_one_of_three_which_can_be_resumed(cluster: Cluster) -> None:
    """The relay in the middle: who takes from it goes on with another. A sparse file, for which no room is reserved."""
    source = cluster.root(SENDER) / "a.bin"
    content = os.urandom(6 * MIB) + bytes(4 * MIB)
    with source.open("wb") as file:
        file.write(content[: 6 * MIB])
        file.truncate(len(content))
    with small_disk(cluster.folder / MIDDLE, "8m") as disk:
        outcome = send(cluster, in_the_middle(cluster, lambda tid: fill(disk), MIDDLE), **SLOW)
        said = assert_only(cluster, outcome, MIDDLE, "no-space", content)
        assert f"on {disk}" in said
        assert "free " in said
        (disk / "filler").unlink()
        again = send(cluster)
        assert_all_have(cluster, again, content)
        assert again.receipts[MIDDLE].had > 0


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


@needs_root
def test_a_target_that_is_read_only_fails_one_of_three(cluster: Cluster) -> None:
    content = give(cluster)
    with small_disk(cluster.folder / FIRST, "16m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said = assert_only(cluster, send(cluster), FIRST, "read-only", content)
        assert "read-only file system" in said
        assert str(disk) in said


# Sources


def cut_short(path: Path) -> None:
    os.truncate(path, 5 * MIB)


def write_into(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"changed")


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [cut_short, write_into, replace, remove])
def test_a_source_that_changes_meanwhile_fails_it_for_all(cluster: Cluster, change: Callable[[Path], None]) -> None:
    give(cluster)
    source = cluster.root(SENDER) / "a.bin"
    outcome = send(cluster, in_the_middle(cluster, lambda tid: change(source)), **SLOW)
    assert outcome.state == "failed"
    assert {problem["code"] for problem in outcome.problems.values()} == {"source-changed"}
    assert list(outcome.problems) == RECIPIENTS
    assert held(cluster) == dict.fromkeys(RECIPIENTS)


def test_a_source_that_changes_when_all_is_sent_fails_it_as_well(cluster: Cluster) -> None:
    """Before the hashes are compared, and nothing has its name yet."""
    give(cluster)
    source = cluster.root(SENDER) / "a.bin"
    remote = cluster.party(SENDER)
    assert isinstance(remote, NodeRemote)
    remote.before = lambda method: write_into(source) if method == "hashes" else None
    outcome = send(cluster)
    assert {problem["code"] for problem in outcome.problems.values()} == {"source-changed"}
    assert held(cluster) == dict.fromkeys(RECIPIENTS)


# Nodes


def test_a_sender_that_is_lost_for_good_fails_all_and_the_next_try_goes_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ATTEMPTS", 3)
    monkeypatch.setattr(running, "_PULL", {"streams": 2, "patience": 1.0})
    content = give(cluster)

    def lose(tid: str) -> None:
        cluster.gone.add(SENDER)
        cluster.remotes[SENDER].kill()

    outcome = send(cluster, in_the_middle(cluster, lose), **SLOW)
    assert outcome.state == "failed"
    assert {problem["code"] for problem in outcome.problems.values()} == {"lost"}
    assert held(cluster) == dict.fromkeys(RECIPIENTS)
    cluster.gone.clear()
    del cluster.remotes[SENDER]
    again = send(cluster)
    assert_all_have(cluster, again, content)
    assert again.receipts[FIRST].had > 0


@pytest.mark.parametrize("away", [[FIRST], [MIDDLE], [FIRST, MIDDLE]])
def test_nodes_that_are_lost_for_good_fail_alone(cluster: Cluster, away: list[str]) -> None:
    content = give(cluster)

    def lose(tid: str) -> None:
        for node in away:
            cluster.gone.add(node)
            cluster.remotes[node].kill()

    outcome = send(cluster, in_the_middle(cluster, lose), **SLOW)
    assert {node: problem["code"] for node, problem in outcome.problems.items()} == dict.fromkeys(away, "lost")
    assert held(cluster) == {node: None if node in away else content for node in RECIPIENTS}


def test_a_relay_that_keeps_files_of_its_own_does_not_hold_up_the_others(cluster: Cluster) -> None:
    """It skips the chunks of what it keeps, and who is behind it gets them from elsewhere."""
    top = cluster.root(SENDER) / "top"
    top.mkdir()
    for name in ("big", "last"):
        (top / name).write_bytes(os.urandom(2 * MIB))
    for node in (FIRST, LAST):
        own = cluster.root(node) / "top"
        own.mkdir()
        (own / "big").write_bytes(b"my own")
    outcome = send(cluster, name="top")
    assert outcome.state == "done", outcome
    assert {node: outcome.receipts[node].kept for node in RECIPIENTS} == {FIRST: ("big",), MIDDLE: (), LAST: ("big",)}
    for node in RECIPIENTS:
        there = cluster.root(node) / "top"
        assert (there / "last").read_bytes() == (top / "last").read_bytes()
        assert (there / "big").read_bytes() == ((top / "big").read_bytes() if node == MIDDLE else b"my own")


# Sizes


def test_what_is_empty_arrives(cluster: Cluster) -> None:
    top = cluster.root(SENDER) / "top"
    (top / "none" / "deep").mkdir(parents=True)
    (top / "nothing").touch()
    (top / "none" / "nothing").touch()
    (cluster.root(SENDER) / "bare").mkdir()
    (cluster.root(SENDER) / "zero").touch()
    for name in ("top", "bare", "zero"):
        outcome = send(cluster, name=name)
        assert outcome.state == "done", outcome
        for node in RECIPIENTS:
            assert picture(cluster.root(node) / name) == picture(cluster.root(SENDER) / name)
    assert names(cluster.root(LAST)) == ["bare", "top", "zero"]
    assert Layout([], CHUNK).count == 0
