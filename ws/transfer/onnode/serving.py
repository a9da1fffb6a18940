"""The serving side: a listener that admits those who know a transfer's secret, and the loop that answers requests.

A store is what chunks are taken from, a Reader or a Sink that is still being written: `wait_for(i, seconds)`,
`is_hole(i)`, `pieces(i)`, `digest(i)`, and `layout` with `count` and `length(i)`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ws.transfer.onnode import wire
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.problems import UNREACHABLE, WRONG_SECRET, TransferProblem
from ws.transfer.onnode.replies import Pulse, serve

_MOST_CONNECTIONS = 64
Expect = Callable[[socket.socket, str], None]


@dataclass
class Served:
    """A transfer that may be asked for here. `pulse` counts bytes that came in, for those who wait for chunks.

    `name`: what this party is called in it; a dialler that wants another one is refused.
    """

    secret: bytes
    name: str = ""
    store: Any = None
    pulse: Pulse | None = None
    expect: Expect | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    sockets: set[socket.socket] = field(default_factory=set)


class Server:
    """Listens on `port`; 0: any free one.

    Raises:
        TransferProblem: unreachable, where it can't listen there.
    """

    def __init__(self, bind_host: str, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._transfers: dict[bytes, Served] = {}
        self._connections: set[socket.socket] = set()
        self._listener = _listen(bind_host, port)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="transfer listener", daemon=True).start()

    def register(
        self,
        tid: bytes,
        secret: bytes,
        store: Any,
        *,
        pulse: Pulse | None = None,
        name: str = "",
    ) -> None:
        """Serve `store` to all who know `secret`, until `unregister`."""
        with self._lock:
            served = self._transfers.setdefault(tid, Served(secret))
            served.secret, served.name = secret, name
            served.store, served.pulse = store, pulse

    def expect_servers(self, tid: bytes, callback: Expect) -> None:
        """Hand a dialler that wants to serve us to `callback`: the socket, which is then its own, and the dialler's name.

        The transfer is registered.
        """
        with self._lock:
            self._transfers[tid].expect = callback

    def unregister(self, tid: bytes) -> None:
        """Nobody gets anything of it any more; its connections end within a second."""
        with self._lock:
            served = self._transfers.pop(tid, None)
            if served:
                served.stop.set()
                _wake(served.sockets)

    def close(self) -> None:
        with self._lock:
            transfers = list(self._transfers)
            _wake(self._connections)
        for tid in transfers:
            self.unregister(tid)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0 or not _is_listening(self._listener):
                    return
                time.sleep(0.05)  # no file descriptor is free, or the dialler has gone: neither may end the service
                continue
            with self._lock:
                full = len(self._connections) >= _MOST_CONNECTIONS
                if not full:
                    self._connections.add(sock)
            if full:
                with sock:
                    wire.turn_away(sock)
                continue
            threading.Thread(target=self._attend, args=(sock,), name="transfer connection", daemon=True).start()

    def _attend(self, sock: socket.socket) -> None:
        keep = False
        try:
            hello = wire.admit(sock, self._known)
            with self._lock:
                served = self._transfers.get(hello.tid)
                if served is None:
                    return
                expect = served.expect if hello.role == wire.SERVES else None
                if expect is None:
                    served.sockets.add(sock)
            if expect is not None:
                keep = True
                expect(sock, hello.name)
            else:
                serve(sock, served.store, served.stop, pulse=served.pulse, who=hello.name)
        except (TransferProblem, OSError):
            return  # the other side knows, or has gone; it will come again if it wants more
        finally:
            self._leave(sock, keep=keep)

    def _known(self, hello: wire.Hello) -> wire.Known | None:
        with self._lock:
            served = self._transfers.get(hello.tid)
            if served is None or (hello.role == wire.SERVES and served.expect is None):
                return None
            return wire.Known(served.secret, served.name)

    def _leave(self, sock: socket.socket, *, keep: bool) -> None:
        with self._lock:
            self._connections.discard(sock)
            for served in self._transfers.values():
                served.sockets.discard(sock)
            if not keep:
                sock.close()


def dial_and_serve(
    addresses: Iterable[wire.Address],
    tid: bytes,
    secret: bytes,
    store: Any,
    *,
    name: str = "",
    wanted: str = "",
    stop: threading.Event | None = None,
    pulse: Pulse | None = None,
    patience: float = 30.0,
) -> None:
    """One connection to a recipient that can't dial us: serve it, dial again when it breaks, until it says that it has all.

    Raises:
        TransferProblem: wrong-secret at once; what was wrong last, once `patience` seconds went by without a connection.
    """
    stop = stop or threading.Event()
    addresses = list(addresses)
    waited, pause = 0.0, 0.25
    while not stop.is_set():
        try:
            sock = dial(addresses, tid, secret, wire.SERVES, name=name, wanted=wanted)
            waited, pause = 0.0, 0.25
            with sock:
                if serve(sock, store, stop, pulse=pulse, who="the recipient"):
                    return
        except TransferProblem as problem:
            if problem.code == WRONG_SECRET or waited >= patience:
                raise
        stop.wait(pause)
        waited, pause = waited + pause, min(4.0, pause * 2)


def keep_serving(
    streams: int,
    addresses: Iterable[Sequence[Any]],
    tid: bytes,
    secret: bytes,
    store: Any,
    *,
    name: str,
    wanted: str,
    stop: threading.Event,
    pulse: Pulse | None = None,
) -> None:
    """So many connections by `dial_and_serve`, each in a thread of its own."""
    where = [(str(host), int(port)) for host, port in addresses]

    def serve_one() -> None:
        with contextlib.suppress(TransferProblem, OSError):  # the recipient misses it, and says so
            dial_and_serve(where, tid, secret, store, name=name, wanted=wanted, stop=stop, pulse=pulse)

    for _ in range(streams):
        threading.Thread(target=serve_one, name="transfer serving", daemon=True).start()


def _wake(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RD)


def _is_listening(listener: socket.socket) -> bool:
    try:
        return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except OSError as error:
        said = f"{host}:{port}: {wire.say(error)}"
        raise TransferProblem(UNREACHABLE, "no port could be opened for transfers", said) from error
