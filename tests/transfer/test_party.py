"""One party: what it answers, and that what goes wrong is an answer as well."""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from tests.transfer.onnode.copying import names
from ws.transfer import here as here_module
from ws.transfer.here import HereParty
from ws.transfer.onnode import party as party_module
from ws.transfer.onnode import wire
from ws.transfer.onnode.answers import port_of
from ws.transfer.onnode.party import Party
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.ray_link import value_count
from ws.transfer.onnode.serving import Server
from ws.transfer.onnode.sink import Sink

TID, SECRET = "ab" * 16, b"s" * 32
MIB = 1 << 20


@pytest.fixture
def made(tmp_path: Path) -> Iterator[list[Party]]:
    parties: list[Party] = []
    yield parties
    for party in parties:
        party.stop()


def party_at(made: list[Party], root: Path, name: str = "node", **options: Any) -> Party:
    root.mkdir(exist_ok=True)
    environ = {"WS_TRANSFER_ROOTS": str(root), **options.pop("environ", {})}
    party = Party(name, environ=environ, **options)
    made.append(party)
    return party


def pair(made: list[Party], tmp_path: Path, size: int = 3 * MIB) -> tuple[Party, Party, dict[str, Any]]:
    """A sender that offers a file, and a recipient; and what is accepted."""
    sender, recipient = party_at(made, tmp_path / "a", "a"), party_at(made, tmp_path / "b", "b")
    (tmp_path / "a" / "x").write_bytes(os.urandom(size))
    sender.start(), recipient.start()
    offered = sender.offer(TID, "x", SECRET, {"chunk_size": MIB})
    spec = {"listing": offered["listing"], "secret": SECRET, "chunk_size": MIB, "fsync": False}
    return sender, recipient, spec


def test_it_tells_who_it_is_and_starts_once(made: list[Party], tmp_path: Path) -> None:
    party = party_at(made, tmp_path / "a", "external_node_1")
    first = party.start()
    assert first == party.start()
    assert (first["name"], first["roots"], first["pid"]) == ("external_node_1", [str(tmp_path / "a")], os.getpid())
    assert first["addresses"][0][0] == "127.0.0.1"


def test_the_whole_course_in_plain_data(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    answers = [recipient.accept(TID, spec)]
    assert answers[0]["place"] == str(tmp_path / "b" / "x")
    addresses = sender.start()["addresses"]
    answers.append(recipient.reach(TID, SECRET, [{"name": "a", "addresses": addresses}]))
    assert answers[1]["a"]["ok"]
    answers.append(recipient.pull(TID, [{"name": "a", "addresses": addresses, "origin": True}]))
    assert answers[2]["done"] == 3 * MIB
    hashes = sender.hashes(TID)
    answers += [hashes, recipient.settle(TID, hashes["hashes"]), recipient.finish(TID)]
    assert answers[4]["receipt"]["hash"] == hashes["root"]
    assert (tmp_path / "b" / "x").read_bytes() == (tmp_path / "a" / "x").read_bytes()
    assert pickle.loads(pickle.dumps(answers)) == answers
    assert recipient.settle(TID, hashes["hashes"])["problem"]["code"] == "lost"


def test_problems_are_answers(made: list[Party], tmp_path: Path) -> None:
    party = party_at(made, tmp_path / "a")
    party.start()
    assert party.offer(TID, "../x", SECRET, {})["problem"]["code"] == "bad-name"
    assert party.offer(TID, "/etc/passwd", SECRET, {})["problem"]["code"] == "outside-roots"
    assert party.progress(TID)["problem"]["code"] == "lost"
    assert party.pull(TID, [])["problem"]["code"] == "lost"
    assert party.finish(TID) == {}


def test_a_wrong_secret_and_a_closed_port_are_told_apart(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, _ = pair(made, tmp_path)
    addresses = sender.start()["addresses"]
    answer = recipient.reach(TID, b"other", [{"name": "a", "addresses": addresses}, {"name": "b", "addresses": []}])
    assert (answer["a"]["ok"], answer["a"]["code"]) == (False, "wrong-secret")
    assert (answer["b"]["ok"], answer["b"]["code"]) == (False, "unreachable")


@pytest.mark.parametrize(
    ("dest", "is_there", "place"),
    [
        (None, "", "x"),
        ("y", "", "y"),
        ("y/", "", "y/x"),
        ("y", "y", "y/x"),
        ("deep/er/", "", "deep/er/x"),
    ],
)
def test_where_a_file_goes(made: list[Party], tmp_path: Path, dest: str | None, is_there: str, place: str) -> None:
    _, recipient, spec = pair(made, tmp_path)
    if is_there:
        (tmp_path / "b" / is_there).mkdir()
    assert recipient.accept(TID, {**spec, "dest": dest})["place"] == str(tmp_path / "b" / place)
    recipient.finish(TID, False)


def test_a_folder_goes_below_what_is_named(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    (tmp_path / "a" / "folder").mkdir()
    listing = sender.offer("cd" * 16, "folder", SECRET, {})["listing"]
    assert recipient.accept(TID, {**spec, "listing": listing, "dest": "new"})["place"] == str(tmp_path / "b/new/folder")


def test_what_nobody_asks_about_ends_and_its_part_stays(
    made: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(party_module, "_WATCH", 0.01)
    monkeypatch.setattr(party_module, "LEASE", 0.05)
    sender, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, {**spec, "limit": 100_000})
    answers: list[dict[str, Any]] = []
    peers = [{"name": "a", "addresses": sender.start()["addresses"], "origin": True}]
    thread = threading.Thread(target=lambda: answers.append(recipient.pull(TID, peers)))
    thread.start()
    thread.join(30)
    assert answers[0]["problem"]["code"] == "lost"
    assert (tmp_path / "b" / "x.part").exists()
    assert not (tmp_path / "b" / "x").exists()


def test_a_pull_is_ended_by_finish_and_nothing_is_left(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, {**spec, "limit": 100_000})
    answers: list[dict[str, Any]] = []
    peers = [{"name": "a", "addresses": sender.start()["addresses"], "origin": True}]
    thread = threading.Thread(target=lambda: answers.append(recipient.pull(TID, peers)))
    thread.start()
    recipient.finish(TID, False)
    thread.join(30)
    assert answers[0]["problem"]["code"] in {"cancelled", "lost"}
    assert list((tmp_path / "b").iterdir()) == []


class Gate:
    """Holds whoever hashes what an earlier try left, chunk by chunk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        take_up = Sink._take_up

        def held(sink: Sink, chunk: int, digest: bytes) -> None:
            self.reached.set()
            assert self.go_on.wait(60)
            take_up(sink, chunk, digest)

        monkeypatch.setattr(Sink, "_take_up", held)


@pytest.fixture
def interrupted(made: list[Party], tmp_path: Path) -> tuple[Party, Party, dict[str, Any]]:
    """As `pair`, with two of three chunks from a transfer that was ended."""
    sender, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, spec)
    for index in (0, 1):
        recipient.write_block(TID, index, *sender.read_block(TID, index, value_count(MIB)))
    recipient.finish(TID, True)
    return sender, recipient, spec


def test_while_it_is_made_ready_it_tells_how_far_it_is_and_is_not_begun_anew(
    interrupted: tuple[Party, Party, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, recipient, spec = interrupted
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(recipient.accept, TID, spec)
        assert gate.reached.wait(60)
        assert (recipient.progress(TID)["done"], recipient.progress(TID)["total"]) == (0, 3 * MIB)
        assert recipient.missing(TID)["problem"]["code"] == "busy"
        recipient.pause(TID)
        second = pool.submit(recipient.accept, TID, spec)
        assert not wait([second], timeout=0.1).done
        gate.go_on.set()
        assert first.result() == second.result()
        assert first.result()["done"] == 2 * MIB
    assert recipient.progress(TID)["paused"]
    recipient.resume(TID)
    assert recipient.missing(TID) == {"missing": [2]}
    peers = [{"name": "a", "addresses": sender.start()["addresses"], "origin": True}]
    assert recipient.pull(TID, peers)["done"] == 3 * MIB


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_ended_while_it_is_made_ready_ends_at_once(
    interrupted: tuple[Party, Party, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: bool
) -> None:
    _, recipient, spec = interrupted
    gate = Gate(monkeypatch)
    with ThreadPoolExecutor() as pool:
        accepting = pool.submit(recipient.accept, TID, spec)
        assert gate.reached.wait(60)
        part = recipient._part(TID, ready=False)
        finishing = pool.submit(recipient.finish, TID, kept)
        assert part.stop.wait(60)
        gate.go_on.set()
        assert finishing.result() == {}
        assert accepting.result()["problem"]["code"] == "cancelled"
    assert recipient.progress(TID)["problem"]["code"] == "lost"
    assert names(tmp_path / "b") == (["x.part", "x.part.journal"] if kept else [])
    if kept:
        assert recipient.accept(TID, spec)["done"] == 2 * MIB


def test_what_can_not_be_made_ready_is_forgotten(made: list[Party], tmp_path: Path) -> None:
    _, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, spec)
    assert recipient.accept("cd" * 16, spec)["problem"]["code"] == "busy"
    assert recipient.progress("cd" * 16)["problem"]["code"] == "lost"
    assert recipient.missing(TID) == {"missing": [0, 1, 2]}


def test_blocks_that_are_pushed_are_a_transfer_as_well(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, spec)
    for index in recipient.missing(TID)["missing"]:
        values = sender.read_block(TID, index, value_count(MIB))
        assert recipient.write_block(TID, index, *values) == {}
        assert recipient.write_block(TID, index, *values) == {}
    assert recipient._part(TID).pulse() == 3 * MIB
    assert "receipt" in recipient.settle(TID, sender.hashes(TID)["hashes"])


def test_a_relay_that_dials_tells_how_much_it_gets_itself(made: list[Party], tmp_path: Path) -> None:
    """Else who waits for its chunks would take it for stalled."""
    sender, relay, spec = pair(made, tmp_path)
    relay.accept(TID, spec)
    relay.write_block(TID, 0, *sender.read_block(TID, 0, value_count(MIB)))
    dialled: Queue[socket.socket] = Queue()
    listener = Server("127.0.0.1")
    try:
        listener.register(bytes.fromhex(TID), SECRET, None)
        listener.expect_servers(bytes.fromhex(TID), lambda sock, name: dialled.put(sock))
        relay.serve_by_dialling(TID, [["127.0.0.1", listener.port]], 1)
        with dialled.get(timeout=10) as sock:
            sock.settimeout(10)
            sock.sendall(struct.pack(wire.REQUEST, wire.GET, 2))
            answer = sock.recv(struct.calcsize(wire.ANSWER), socket.MSG_WAITALL)
        assert struct.unpack(wire.ANSWER, answer) == (wire.WAIT, 2, MIB)
    finally:
        listener.close()


def test_a_block_that_is_not_what_it_says_is_refused(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, spec)
    head, *pieces = sender.read_block(TID, 0, value_count(MIB))
    assert recipient.write_block(TID, 0, {**head, "digest": bytes(32)}, *pieces)["problem"]["code"] == "bad-chunk"
    assert recipient.write_block(TID, 0, {**head, "digest": bytes(32)}, *pieces[1:])["problem"]["code"] == "bad-chunk"
    head, *pieces = sender.read_block("cd" * 16, 0, 3)
    assert head["problem"]["code"] == "lost"
    assert pieces == [b"", b""]
    assert recipient.missing(TID, 2) == {"missing": [0, 1]}


def test_chunks_that_are_not_the_sources_are_missing_again(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    recipient.accept(TID, spec)
    recipient.pull(TID, [{"name": "a", "addresses": sender.start()["addresses"], "origin": True}])
    hashes = sender.hashes(TID)["hashes"]
    assert recipient.settle(TID, bytes(32) + hashes[32:]) == {"bad": 1}
    assert recipient.missing(TID) == {"missing": [0]}


def test_the_node_has_its_own_port_unless_it_is_taken(made: list[Party], tmp_path: Path) -> None:
    taken = party_at(made, tmp_path / "a").start()["addresses"][0][1]
    block = f"node_manager=1,transfer={taken},workers=3-4"
    party = party_at(made, tmp_path / "b", environ={"WS_NODE_PORTS": block, "WS_TRANSFER_BIND": "127.0.0.1"})
    port = party.start()["addresses"][0][1]
    assert port not in {0, taken}
    assert port_of(block) == taken
    assert port_of("") == port_of("transfer=x") == 0


def test_bind_and_advertise_are_two_things(made: list[Party], tmp_path: Path) -> None:
    environ = {"WS_TRANSFER_BIND": "127.0.0.1", "WS_TRANSFER_ADVERTISE": "ray-cpu"}
    party = party_at(made, tmp_path / "a", address="192.0.2.1", environ=environ)
    assert party.start()["addresses"][0][0] == "ray-cpu"


def test_this_machine_reaches_nodes_by_the_host_it_enters_the_cluster_by(made: list[Party], tmp_path: Path) -> None:
    """Their own names mean nothing here; the port is published on that host."""
    sender, _, _ = pair(made, tmp_path)
    port = sender.start()["addresses"][0][1]
    here = HereParty(gateways=["127.0.0.1"])
    made.append(here)
    target = {"name": "a", "addresses": [["no-such-name.invalid", port]]}
    assert here.reach(TID, SECRET, [target])["a"]["ok"]
    assert not HereParty().reach(TID, SECRET, [target])["a"]["ok"]


def test_what_is_pushed_heeds_the_limit_until_it_is_ended(made: list[Party], tmp_path: Path) -> None:
    sender, _, _ = pair(made, tmp_path)
    sender.offer(TID, "x", SECRET, {"chunk_size": MIB, "limit": 100})
    part = sender._part(TID)
    ended: list[str] = []

    def wait() -> None:
        try:
            part.await_limit(MIB)  # three hours
        except TransferProblem as problem:
            ended.append(problem.code)

    thread = threading.Thread(target=wait)
    thread.start()
    sender.finish(TID)
    thread.join(30)
    assert ended == ["cancelled"]


class Actor:
    """A party as Ray would call it; `after` is told of each call that was answered."""

    def __init__(self, party: Party, after: Callable[[str], None]) -> None:
        self._party, self._after = party, after

    def __getattr__(self, method: str) -> Any:
        def remote(*args: Any) -> Any:
            answer = getattr(self._party, method)(*args)
            self._after(method)
            return answer

        return SimpleNamespace(remote=remote)


@pytest.mark.parametrize("ends", [False, True])
def test_a_push_from_here_stands_still_while_it_is_paused(
    made: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    monkeypatch.setattr(here_module, "answered", lambda refs, actor, tid, name, check: refs)
    _, recipient, spec = pair(made, tmp_path)
    here = HereParty()
    made.append(here)
    here.offer(TID, str(tmp_path / "a" / "x"), SECRET, {"chunk_size": MIB})
    recipient.accept(TID, spec)
    paused = threading.Event()

    def pause_once(method: str) -> None:
        if method == "write_block" and not paused.is_set():
            here.pause(TID)
            paused.set()

    with ThreadPoolExecutor() as pool:
        pushing = pool.submit(here.push, TID, Actor(recipient, pause_once))
        assert paused.wait(60)
        assert not wait([pushing], timeout=0.1).done
        assert recipient.missing(TID) == {"missing": [1, 2]}
        if ends:
            here.finish(TID)
            assert pushing.result()["problem"]["code"] == "cancelled"
        else:
            here.resume(TID)
            assert pushing.result() == {}
            assert recipient.missing(TID) == {"missing": []}


def test_another_node_at_the_same_address_is_not_who_is_wanted(made: list[Party], tmp_path: Path) -> None:
    sender, recipient, spec = pair(made, tmp_path)
    sender.offer(TID, "x", SECRET, {"chunk_size": MIB, "name": "ray_node_1"})
    recipient.accept(TID, {**spec, "name": "ray_node_2"})
    addresses = sender.start()["addresses"]
    answers = recipient.reach(TID, SECRET, [{"name": f"ray_node_{i}", "addresses": addresses} for i in (1, 2)])
    assert [answers["ray_node_1"]["ok"], answers["ray_node_2"]["ok"]] == [True, False]
    assert "is not ray_node_2" in answers["ray_node_2"]["why"]
    answer = recipient.pull(TID, [{"name": "ray_node_2", "addresses": addresses}], {"patience": 1.0})
    assert answer["problem"]["code"] == "unreachable"
    assert recipient.pull(TID, [{"name": "ray_node_1", "addresses": addresses}])["done"] == 3 * MIB


def test_this_machine_takes_any_path_of_its_user(made: list[Party], tmp_path: Path) -> None:
    _, _, spec = pair(made, tmp_path)
    here = HereParty()
    made.append(here)
    assert here.start()["addresses"] == []
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert here.accept(TID, {**spec, "dest": str(tmp_path / "link")})["place"] == str(tmp_path / "real" / "x")
    assert here.offer("cd" * 16, str(tmp_path / "a" / "x"), SECRET, {})["name"] == "x"


def test_pulls_of_one_node_wait_for_their_turn(made: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is paused has all the memory that there is, until it ends."""
    monkeypatch.setattr(party_module, "MOST_BYTES", MIB)
    sender, recipient, spec = pair(made, tmp_path)
    peers = [{"name": "a", "addresses": sender.start()["addresses"], "origin": True}]
    other = "cd" * 16
    (tmp_path / "a" / "y").write_bytes(b"y")
    offered = sender.offer(other, "y", SECRET, {"chunk_size": MIB})
    recipient.accept(TID, spec)
    recipient.accept(other, {**spec, "listing": offered["listing"]})
    recipient.pause(TID)
    answers: dict[str, Any] = {}
    threads = {
        tid: threading.Thread(target=lambda tid=tid: answers.update({tid: recipient.pull(tid, peers)}))  # type: ignore[misc]
        for tid in (TID, other)
    }
    threads[TID].start()
    while recipient._part(TID).puller is None:
        threads[TID].join(0.01)
    threads[other].start()
    threads[other].join(0.2)
    assert (answers, recipient.progress(other)["done"]) == ({}, 0)
    recipient.finish(TID)
    threads[other].join(30)
    assert answers[other]["done"] == 1
    threads[TID].join(30)
