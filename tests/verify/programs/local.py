"""Programs run on this machine, and servers for them to look at."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

from ws.process import Completed, run, start
from ws.verify.programs import ask

NAME, ADDRESS, BASE = "prober-head", "127.0.9.1", 24700
HEAD, CLIENT, DASHBOARD = f"{ADDRESS}:{BASE}", (ADDRESS, BASE + 2), ("127.0.0.1", BASE + 1)
WORKER, WORKER_ADDRESS = "prober-worker", "127.0.9.2"

Event = dict[str, Any]


class Local:
    """Runs programs here, whatever the node's name; `spawned` are all of them."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        self.environ = environ or {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
        self.spawned: list[Popen[str]] = []

    def spawn(self, node: str, argv: Sequence[str]) -> Popen[str]:
        self.spawned.append(start(argv, self.environ))
        return self.spawned[-1]

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        return run(argv, env=self.environ, timeout=timeout, check=False)


def events(program: str, params: dict[str, Any], environ: dict[str, str] | None = None, timeout: float = 120) -> list[Event]:
    """All that a program says here."""
    return ask(Local(environ), "here", program, params, timeout)


@contextmanager
def server(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a server that does this with each connection, and keeps it open."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection: socket.socket) -> None:
            with suppress(OSError):  # the other side has gone
                behave(connection)

        def accept() -> None:
            with suppress(OSError):  # the listener was closed
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, name="server", daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in kept:
        connection.close()


def silent(connection: socket.socket) -> None:
    """As a program that is paused."""
