"""Ports of this machine, with real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from ws.engine.ports import covers, holder, is_free


def listening(address: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((address, 0))


def test_a_port_is_free_when_nothing_listens(tmp_path: Path) -> None:
    with listening() as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        assert not is_free("0.0.0.0", port)
        assert is_free("127.0.0.2", port)
    assert is_free("127.0.0.1", port)


def test_a_connection_that_has_just_ended_holds_nobody_up() -> None:
    with listening() as server:
        address, port = server.getsockname()
        client = socket.create_connection((address, port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    assert is_free(address, port)


def test_an_address_of_another_machine_counts_as_free() -> None:
    assert is_free("192.0.2.1", 6379)


def test_the_holder_is_named() -> None:
    with listening() as server:
        name = psutil.Process().name()
        assert holder("127.0.0.1", server.getsockname()[1]) == f"{name} (pid {os.getpid()})"


def test_a_process_at_another_address_is_not_the_holder() -> None:
    with listening("127.0.0.2") as server:
        port = server.getsockname()[1]
        assert holder("127.0.0.1", port) is None
        assert holder("0.0.0.0", port) is not None
        assert holder("127.0.0.2", port) is not None


@pytest.mark.parametrize(
    ("listens", "address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "172.17.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "172.17.0.1", False),
        ("::1", "127.0.0.1", False),
    ],
)
def test_covers(listens: str, address: str, expected: bool) -> None:
    assert covers(listens, address) is expected
