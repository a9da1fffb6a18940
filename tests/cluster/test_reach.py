"""Suspicion, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.node.stage import soon
from tests.ports import free_port
from ws.cluster.reach import Reach


class Raylet:
    """Something that greets everyone who connects, as a raylet's gRPC server does; or does not."""

    def __init__(self, port: int, *, greets: bool = True) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self.connections: list[socket.socket] = []
        self._greets = greets
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._server.accept()
                if self._greets:
                    connection.sendall(b"\0\0\0\4\0")
                    self.connections.append(connection)
                else:
                    connection.close()
        except OSError:
            return

    def die(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def told() -> list[tuple[str, str | None]]:
    return []


@pytest.fixture
def reach(told: list[tuple[str, str | None]]) -> Iterator[Reach]:
    made = Reach(lambda node, why: told.append((node, why)))
    yield made
    made.close()
    made.close()


def test_a_killed_raylet_is_told_quickly_and_one_that_returns_as_well(
    reach: Reach, told: list[tuple[str, str | None]]
) -> None:
    port = free_port()
    raylet = Raylet(port)
    reach.follow({"a": ("127.0.0.1", port)})
    soon("a held connection", lambda: raylet.connections)
    killed = time.monotonic()
    raylet.die()
    soon("suspicion", lambda: told)
    assert time.monotonic() - killed < 5
    assert told == [("a", f"127.0.0.1:{port} refuses the connection")]
    back = Raylet(port)
    soon("trust", lambda: len(told) == 2)
    assert told[1] == ("a", None)
    back.die()


def test_a_connection_that_the_node_itself_ends_is_no_suspicion(reach: Reach, told: list[tuple[str, str | None]]) -> None:
    port = free_port()
    raylet = Raylet(port)
    reach.follow({"a": ("127.0.0.1", port)})
    for count in range(1, 4):
        soon("a held connection", lambda count=count: len(raylet.connections) == count)  # type: ignore[misc]
        raylet.connections[-1].close()
    soon("a held connection", lambda: len(raylet.connections) == 4)
    assert told == []
    raylet.die()


def test_what_was_never_reached_is_suspected_of_nothing(reach: Reach, told: list[tuple[str, str | None]]) -> None:
    port = free_port()
    relay = Raylet(port, greets=False)
    reach.follow(
        {"closed": ("127.0.0.1", free_port()), "nameless": ("no-such-name.invalid", 1), "relay": ("127.0.0.1", port)}
    )
    live = Raylet(free := free_port())
    reach.follow({"closed": ("127.0.0.1", 1), "relay": ("127.0.0.1", port), "live": ("127.0.0.1", free)})
    soon("the one that can be reached", lambda: live.connections)
    assert told == []
    relay.die()
    live.die()


def test_a_relay_whose_node_has_died_accepts_and_is_no_node(reach: Reach, told: list[tuple[str, str | None]]) -> None:
    port = free_port()
    raylet = Raylet(port)
    reach.follow({"a": ("127.0.0.1", port)})
    soon("a held connection", lambda: raylet.connections)
    raylet._greets = False
    raylet.connections[0].close()
    soon("suspicion", lambda: told)
    assert told == [("a", f"127.0.0.1:{port} closes the connection at once")]
    raylet.die()


def test_a_node_that_is_followed_no_more_is_told_of_no_more(reach: Reach, told: list[tuple[str, str | None]]) -> None:
    port = free_port()
    raylet = Raylet(port)
    reach.follow({"a": ("127.0.0.1", port)})
    soon("a held connection", lambda: raylet.connections)
    reach.follow({})
    soon("its end", lambda: raylet.connections[0].recv(1) == b"")
    raylet.die()
    assert told == []
