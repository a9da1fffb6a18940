"""Connections that peers make to serve us: all of them learn when everything is had."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.transfer.onnode.memory import SECRET, TID, Source, Target
from ws.transfer.onnode.pulling import Puller
from ws.transfer.onnode.serving import Server, dial_and_serve


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("127.0.0.1")
    yield server
    server.close()


def dialling(server: Server, source: Source) -> threading.Thread:
    """Serves the source, and dials again whenever its connection ends, unless it is told that all is had."""
    address = ("127.0.0.1", server.port)
    thread = threading.Thread(target=dial_and_serve, args=([address], TID, SECRET, source), daemon=True)
    thread.start()
    return thread


def test_who_dialled_and_was_not_needed_is_told_that_it_is_over(server: Server) -> None:
    source = Source(count=4)
    target = Target(source.layout)
    puller = Puller(target, TID, SECRET, [], streams=1, stall=5.0)
    dialled = threading.Semaphore(0)
    server.register(TID, SECRET, target)

    def expect(sock: object, name: str) -> None:
        puller.add_served(sock, name)  # type: ignore[arg-type]
        dialled.release()

    server.expect_servers(TID, expect)
    early = [dialling(server, source) for _ in range(3)]
    assert all(dialled.acquire(timeout=10) for _ in early)
    puller.run()
    late = dialling(server, source)
    for thread in (*early, late):
        thread.join(10)
        assert not thread.is_alive()
    assert target.hashes == source.hashes
