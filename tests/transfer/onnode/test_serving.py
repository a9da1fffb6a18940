"""Server and the serving loop, spoken to byte by byte."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.ports import free_ports
from tests.transfer.onnode.memory import SECRET, TID, Source, Target
from ws.transfer.onnode import wire
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.serving import Server, dial_and_serve


class Asking:
    """The asking side in the test's own hands."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(10)
        self.sock = sock

    def ask(self, *indexes: int, verb: bytes = wire.GET) -> None:
        self.sock.sendall(b"".join(struct.pack(">4sI", verb, index) for index in indexes))

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            assert piece, "the connection was ended"
            data += piece
        return data

    def answer(self) -> tuple[int, int, int]:
        status, index, length = struct.unpack(">BIQ", self.read(13))
        return status, index, length

    def at_end(self) -> bool:
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("127.0.0.1")
    yield server
    server.close()


def test_the_address_of_another_node_is_passed_over(server: Server) -> None:
    """As of a gateway whose port leads elsewhere; where all lead elsewhere, the first says so."""
    server.register(TID, SECRET, Source(), name="a")
    other = Server("127.0.0.1")
    other.register(TID, SECRET, Source(), name="b")
    try:
        addresses = [("127.0.0.1", each.port) for each in (server, other)]
        with dial(addresses, TID, SECRET, wire.PULLS, wanted="b") as sock:
            assert sock.getpeername() == addresses[1]
        with pytest.raises(TransferProblem, match="is not c") as caught:
            dial(addresses, TID, SECRET, wire.PULLS, wanted="c")
        assert caught.value.code == "unreachable"
    finally:
        other.close()


def asking(server: Server, role: bytes = wire.PULLS) -> Asking:
    return Asking(dial([("127.0.0.1", server.port)], TID, SECRET, role))


def test_chunks_are_answered_in_the_order_of_the_requests(server: Server) -> None:
    source = Source(count=4, size=1000, holes=(2,))
    server.register(TID, SECRET, source)
    with (one := asking(server)).sock:
        one.ask(3, 2, 0)
        assert one.answer() == (wire.DATA, 3, 1000)
        assert one.read(1032) == source.data[3] + source.digest(3)
        assert one.answer() == (wire.HOLE, 2, 0)
        assert one.read(32) == source.digest(2)
        assert one.answer() == (wire.DATA, 0, 1000)
        one.read(1032)
        one.ask(0, verb=wire.BYE)
        assert one.at_end()


@pytest.mark.parametrize(("verb", "index"), [(wire.GET, 4), (wire.GET, 2**32 - 1), (b"PUT ", 0), (b"\0\0\0\0", 0)])
def test_requests_that_make_no_sense_end_the_connection(server: Server, verb: bytes, index: int) -> None:
    server.register(TID, SECRET, Source(count=4, size=1000))
    with (one := asking(server)).sock:
        one.ask(index, verb=verb)
        status, _, length = one.answer()
        assert status == wire.ERROR
        assert json.loads(one.read(length))["code"] == "bad-chunk"
        assert one.at_end()


def test_what_is_not_had_yet_is_waited_for(server: Server) -> None:
    source = Source(count=2, size=1000)
    target = Target(source.layout)
    server.register(TID, SECRET, target, pulse=lambda: 77)
    with (one := asking(server)).sock:
        one.ask(1)
        assert one.answer() == (wire.WAIT, 1, 77)
        target.put(1, source.data[1], source.digest(1))
        while (answer := one.answer())[0] == wire.WAIT:
            pass
        assert answer == (wire.DATA, 1, 1000)


def test_a_source_that_breaks_within_a_chunk_is_told_in_step(server: Server) -> None:
    source = Source(count=3, size=100_000)
    source.breaks_at = 1
    server.register(TID, SECRET, source)
    with (one := asking(server)).sock:
        one.ask(1, 2)
        assert one.answer() == (wire.DATA, 1, 100_000)
        assert one.read(100_032)[-32:] == wire.NO_DIGEST
        status, index, length = one.answer()
        assert (status, index) == (wire.ERROR, 1)
        assert json.loads(one.read(length))["code"] == "source-changed"
        assert one.answer() == (wire.DATA, 2, 100_000)


def test_unregister_ends_its_connections(server: Server) -> None:
    target = Target(Source(count=2).layout)
    server.register(TID, SECRET, target)
    with (idle := asking(server)).sock, (waiting := asking(server)).sock:
        waiting.ask(0)
        assert waiting.answer()[0] == wire.WAIT
        server.unregister(TID)
        assert idle.answer()[0] == wire.GONE
        assert idle.at_end()
        while (status := waiting.answer()[0]) == wire.WAIT:
            pass
        assert status == wire.GONE
    with pytest.raises(TransferProblem, match="knows nothing"):
        asking(server)


def test_no_more_than_64_connections(server: Server) -> None:
    server.register(TID, SECRET, Source(count=2))
    held = [asking(server).sock for _ in range(64)]
    with pytest.raises(TransferProblem) as caught:
        asking(server)
    assert caught.value.code == "busy"
    for sock in held:
        sock.close()


def test_one_who_would_serve_is_handed_over(server: Server) -> None:
    got: list[tuple[socket.socket, str]] = []
    came = threading.Event()

    def take(sock: socket.socket, name: str) -> None:
        got.append((sock, name))
        came.set()

    source = Source(count=2, size=1000)
    server.register(TID, SECRET, Target(source.layout))
    server.expect_servers(TID, take)
    address = ("127.0.0.1", server.port)
    thread = threading.Thread(target=dial_and_serve, args=([address], TID, SECRET, source), kwargs={"name": "ray_node_7"})
    thread.start()
    assert came.wait(10)
    sock, name = got[0]
    assert name == "ray_node_7"
    with (one := Asking(sock)).sock:
        one.ask(1)
        assert one.answer() == (wire.DATA, 1, 1000)
        one.read(1032)
        one.ask(0, verb=wire.BYE)
        thread.join(10)
    assert not thread.is_alive()


def test_nobody_may_serve_who_is_not_expected(server: Server) -> None:
    server.register(TID, SECRET, Source(count=2))
    with pytest.raises(TransferProblem, match="knows nothing"):
        asking(server, wire.SERVES)


def test_dialling_to_serve_gives_up() -> None:
    (port,) = free_ports(1)
    with pytest.raises(TransferProblem) as caught:
        dial_and_serve([("127.0.0.1", port)], TID, SECRET, Source(count=1), patience=0.3)
    assert caught.value.code == "unreachable"


def test_ports() -> None:
    (port,) = free_ports(1)
    one = Server("127.0.0.1", port)
    assert one.port == port
    with pytest.raises(TransferProblem) as caught:
        Server("127.0.0.1", port)
    assert f"127.0.0.1:{port}" in caught.value.why
    one.close()
    again = Server("127.0.0.1", port)
    assert again.port == port
    again.close()
    with pytest.raises(TransferProblem, match="no port"):
        Server("no-such-host.invalid")


def test_limits() -> None:
    limiter = Limiter()
    assert limiter.slice() == 1 << 20
    limiter.take(10**12)
    assert Limiter(10.0).slice() == 1, "however low, something comes every second"
    for rate in (0, -1.0):
        with pytest.raises(ValueError, match="positive"):
            Limiter(rate)
