"""The relay between real sockets."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.ports import free_port
from ws.node.relay import Relay

HERE = "127.0.0.1"
WAIT = 30.0


class Head:
    """Greets with its name, then sends back what it gets until the end of the stream, then says goodbye."""

    def __init__(self, name: str) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    self.request.sendall(f"{name}\n".encode())
                    while data := self.request.recv(65536):
                        self.request.sendall(data)
                    self.request.sendall(b"bye")
                except OSError:
                    pass  # cut off, as some tests mean it

        self._server = socketserver.ThreadingTCPServer((HERE, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.target = (HERE, int(self._server.server_address[1]))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def relay(ends: ExitStack) -> Relay:
    made = Relay([HERE])
    ends.callback(made.close)
    return made


@pytest.fixture
def head(ends: ExitStack) -> Head:
    return ends.enter_context(closing(Head("first")))


def connect(ends: ExitStack, port: int, host: str = HERE) -> socket.socket:
    connection = ends.enter_context(socket.create_connection((host, port), timeout=WAIT))
    connection.settimeout(WAIT)
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the stream ends."""
    data = bytearray()
    while len(data) < size and (piece := connection.recv(min(1 << 20, size - len(data)))):
        data += piece
    return bytes(data)


def read_to_end(connection: socket.socket) -> bytes:
    try:
        return read(connection, 1 << 30)
    except ConnectionResetError:
        return b"reset"


def refused(port: int) -> bool:
    try:
        socket.create_connection((HERE, port), timeout=WAIT).close()
    except ConnectionRefusedError:
        return True
    return False


def test_each_port_leads_to_its_own_target(relay: Relay, head: Head, ends: ExitStack) -> None:
    other = ends.enter_context(closing(Head("other")))
    one, two = free_port(), free_port()
    relay.point({one: head.target, two: other.target})
    assert read(connect(ends, one), 6) == b"first\n"
    assert read(connect(ends, two), 6) == b"other\n"


def test_every_host_that_it_is_bound_to_leads_in(head: Head, ends: ExitStack) -> None:
    relay, port = Relay([HERE, "127.0.9.9"]), free_port()
    ends.callback(relay.close)
    relay.point({port: head.target})
    assert read(connect(ends, port), 6) == read(connect(ends, port, "127.0.9.9"), 6) == b"first\n"


def test_the_end_of_one_direction_is_passed_on_and_the_other_stays_open(relay: Relay, head: Head, ends: ExitStack) -> None:
    port = free_port()
    relay.point({port: head.target})
    connection = connect(ends, port)
    connection.sendall(b"some words")
    connection.shutdown(socket.SHUT_WR)
    assert read_to_end(connection) == b"first\nsome wordsbye"


def test_much_data_passes_both_ways_unchanged(relay: Relay, head: Head, ends: ExitStack) -> None:
    port, data = free_port(), bytes(range(256)) * 65536
    relay.point({port: head.target})
    connection = connect(ends, port)

    def send() -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = read_to_end(connection)
    sender.join()
    assert received == b"first\n" + data + b"bye"


def test_when_the_target_moves_old_connections_end_and_new_ones_go_there(relay: Relay, head: Head, ends: ExitStack) -> None:
    port, second = free_port(), ends.enter_context(closing(Head("second")))
    relay.point({port: head.target})
    old = connect(ends, port)
    assert read(old, 6) == b"first\n"
    relay.point({port: second.target})
    assert read_to_end(old) in (b"", b"reset")
    assert read(connect(ends, port), 7) == b"second\n"


def test_a_peer_that_does_not_read_holds_up_no_move(relay: Relay, head: Head, ends: ExitStack) -> None:
    port, second = free_port(), ends.enter_context(closing(Head("second")))
    relay.point({port: head.target})
    slow = connect(ends, port)
    send_until_stuck(slow)
    relay.point({port: second.target})
    assert read(connect(ends, port), 7) == b"second\n"
    stuck = connect(ends, port)
    send_until_stuck(stuck)
    relay.point({})
    assert refused(port)
    for cut in (slow, stuck):
        cut.settimeout(WAIT)
        assert read_to_end(cut) == b"reset"


def send_until_stuck(connection: socket.socket) -> None:
    """Send without reading what comes back, until every buffer on the way is full."""
    connection.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            connection.send(bytes(1 << 20))


def test_pointing_to_the_same_targets_cuts_nothing(relay: Relay, head: Head, ends: ExitStack) -> None:
    port = free_port()
    relay.point({port: head.target})
    connection = connect(ends, port)
    assert read(connection, 6) == b"first\n"
    relay.point({port: head.target})
    connection.sendall(b"still there")
    assert read(connection, 11) == b"still there"


def test_a_port_that_is_no_longer_named_is_let_go_at_once(relay: Relay, head: Head, ends: ExitStack) -> None:
    kept, dropped = free_port(), free_port()
    relay.point({kept: head.target, dropped: head.target})
    assert read(connect(ends, dropped), 6) == b"first\n"
    relay.point({kept: head.target})
    assert refused(dropped)
    ends.enter_context(socket.create_server((HERE, dropped)))  # as the head does that this node has become
    assert read(connect(ends, kept), 6) == b"first\n"
    relay.point({})
    assert refused(kept)
    relay.point({kept: head.target})
    assert read(connect(ends, kept), 6) == b"first\n"


def test_a_port_that_is_taken_is_told_and_the_others_serve(
    relay: Relay, head: Head, ends: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    good = free_port()
    taken = ends.enter_context(socket.create_server((HERE, 0))).getsockname()[1]
    relay.point({taken: head.target, good: head.target})
    assert f"✗ port {taken} can't be relayed to the head: " in capsys.readouterr().out
    assert read(connect(ends, good), 6) == b"first\n"


def test_a_target_that_refuses_or_has_no_name_ends_the_connection(relay: Relay, head: Head, ends: ExitStack) -> None:
    refusing, nameless = free_port(), free_port()
    relay.point({refusing: (HERE, free_port()), nameless: ("no-such-node.invalid", 1)})
    for port in (refusing, nameless):
        assert read_to_end(connect(ends, port)) in (b"", b"reset")


def test_a_target_that_comes_back_is_reached_again(relay: Relay, ends: ExitStack) -> None:
    first, port = Head("first"), free_port()
    relay.point({port: first.target})
    first.close()
    assert read_to_end(connect(ends, port)) in (b"", b"reset")
    back = ends.enter_context(socket.create_server(first.target))
    client = connect(ends, port)
    accepted = ends.enter_context(back.accept()[0])
    accepted.sendall(b"back\n")
    assert read(client, 5) == b"back\n"


def test_closing_ends_everything(head: Head, ends: ExitStack) -> None:
    relay, port = Relay([HERE]), free_port()
    relay.point({port: head.target})
    connection = connect(ends, port)
    assert read(connection, 6) == b"first\n"
    relay.close()
    relay.close()
    assert read_to_end(connection) in (b"", b"reset")
    assert refused(port)
    assert not [thread for thread in threading.enumerate() if thread.name == "relay"]
