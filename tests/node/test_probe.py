"""Waiting for a head's port, and the words for what stands in the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.ports import free_port
from ws.node.probe import split, try_connect, wait_for_port


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes no more connections and does not refuse them either: packets seem to vanish."""
    with ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield int(server.getsockname()[1])


def test_an_address_is_split_at_its_last_colon() -> None:
    assert split("ray-cpu:6379") == ("ray-cpu", 6379)
    assert split("fe80::1:6379") == ("fe80::1", 6379)


def test_a_port_that_accepts_is_no_obstacle(stopping: threading.Event) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert wait_for_port(f"localhost:{server.getsockname()[1]}", 0, stopping) is None


@pytest.mark.parametrize("name", ["no-such-node.invalid", "two..dots", "x" * 70])
def test_a_name_that_does_not_resolve(name: str) -> None:
    obstacle = str(try_connect(f"{name}:6379"))
    assert f"the name {name!r} does not resolve here" in obstacle
    assert "extra_hosts" in obstacle


def test_a_port_that_refuses_is_told_with_what_the_name_resolved_to() -> None:
    port = free_port()
    assert str(try_connect(f"localhost:{port}")).startswith(f"localhost:{port} (127.0.0.1) refuses the connection")
    assert str(try_connect(f"127.0.0.1:{port}")).startswith(f"127.0.0.1:{port} refuses the connection")


def test_a_port_that_does_not_answer(silent_port: int) -> None:
    assert f"127.0.0.1:{silent_port} does not answer: packets vanish" in str(try_connect(f"127.0.0.1:{silent_port}"))


def test_an_address_that_can_not_be_reached_at_all() -> None:
    assert "255.255.255.255:6379 can't be reached" in str(try_connect("255.255.255.255:6379"))


def test_a_port_that_opens_later_is_found(stopping: threading.Event) -> None:
    port = free_port()
    with ExitStack() as ends:
        opening = threading.Timer(0.3, lambda: ends.enter_context(socket.create_server(("127.0.0.1", port))))
        opening.start()
        assert wait_for_port(f"127.0.0.1:{port}", 60, stopping) is None
        opening.join()


def test_the_wait_ends_with_the_last_obstacle_or_when_it_is_asked_to(stopping: threading.Event) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert "refuses" in str(wait_for_port(address, 0.3, stopping))
    threading.Timer(0.2, stopping.set).start()
    assert "refuses" in str(wait_for_port(address, 3600, stopping))
