"""The ways to the peers of one recipient: dialled by us, made by them, or through Ray."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ws.transfer.onnode.choice import Choice
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import OnMoved, OnWait, PeerFailed, TcpLink
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.wire import PULLS, lost, say_goodbye

DIAL_TIME = 4.0


class Ways:
    """Not for several threads at once, but for `open`, which may take as long as dialling does.

    Attributes: `peers`, by name, in order of preference.
    """

    def __init__(
        self,
        tid: bytes,
        secret: bytes,
        name: str,
        sink: Any,
        choice: Choice,
        limiter: Limiter | None,
        links: Callable[..., Any] | None,
        stop: threading.Event,
        silence: float,
    ) -> None:
        self.peers: dict[str, Mapping[str, Any]] = {}
        self._tid, self._secret, self._name, self._sink = tid, secret, name, sink
        self._choice, self._limiter, self._links = choice, limiter, links
        self._stop, self._silence = stop, silence
        self._idle: dict[str, list[socket.socket]] = {}  # connections that peers made and that nobody uses
        self._live: dict[str, int] = {}  # how many there are with those in use

    def add(self, peer: Mapping[str, Any]) -> None:
        name = str(peer["name"])
        self.peers[name] = peer
        self._choice.add(name, origin=bool(peer.get("origin")), slots=math.inf if self._can_reach(peer) else 0)

    def add_served(self, sock: socket.socket, name: str) -> None:
        """A peer made a connection; one that is not known is the least preferred."""
        if name not in self.peers:
            self.add({"name": name, "addresses": []})
        self._idle.setdefault(name, []).append(sock)
        self._count(name, 1)

    def take_served(self, name: str) -> socket.socket | None:
        """A connection that the peer made, to be given back or dropped."""
        idle = self._idle.get(name)
        return idle.pop() if idle else None

    def give_back(self, sock: socket.socket, name: str) -> None:
        self._idle[name].append(sock)

    def drop_served(self, name: str) -> None:
        """One that was taken is no more."""
        self._count(name, -1)

    @staticmethod
    def let_go(sock: socket.socket, all_had: bool) -> None:
        """Of a connection that a peer made; one that knows that all is had does not make another."""
        say_goodbye(sock) if all_had else sock.close()

    def close_idle(self, all_had: bool) -> None:
        for name, idle in self._idle.items():
            for sock in idle:
                self.let_go(sock, all_had)
            self._count(name, -len(idle))
            idle.clear()

    def open(self, name: str, buffer: bytearray, on_wait: OnWait, moved: OnMoved, sock: socket.socket | None) -> Any:
        """A link to that peer, over `sock` if it made one.

        Raises:
            PeerFailed: it can't be reached.
        """
        peer = self.peers[name]
        link = self._links(peer, self._tid, self._sink, on_wait, self._limiter, moved) if self._links else None
        if link is not None:
            return link
        sock = sock or self._dial(peer)
        limits: dict[str, Any] = {"limiter": self._limiter, "stop": self._stop, "silence": self._silence}
        try:
            return TcpLink(sock, name, self._sink, buffer, **limits, on_wait=on_wait, moved=moved)
        except OSError as error:  # the connection was gone before its first use
            sock.close()
            raise PeerFailed(lost(name, error)) from error

    def _dial(self, peer: Mapping[str, Any]) -> socket.socket:
        addresses = [(str(host), int(port)) for host, port in peer.get("addresses") or []]
        try:
            names = {"name": self._name, "wanted": str(peer["name"])}
            return dial(addresses, self._tid, self._secret, PULLS, DIAL_TIME, **names)
        except TransferProblem as problem:
            raise PeerFailed(problem) from problem

    def _can_reach(self, peer: Mapping[str, Any]) -> bool:
        """Whether we can make a link; the others serve over connections that they make."""
        return bool(peer.get("addresses") or (self._links and peer.get("actor")))

    def _count(self, name: str, more: int) -> None:
        self._live[name] = self._live.get(name, 0) + more
        if not self._can_reach(self.peers[name]):
            self._choice.allow(name, self._live[name])


class Waiting:
    """What a link calls for each WAIT: tells `may_wait(name, seconds, moved)` how long it was for one chunk without anything
    new at the peer."""

    def __init__(self, may_wait: Callable[[str, float, bool], None], name: str) -> None:
        self._may_wait, self._name = may_wait, name
        self._index, self._pulse, self._since = -1, 0, 0.0

    def __call__(self, index: int, pulse: int) -> None:
        now = time.monotonic()
        moved = index == self._index and pulse != self._pulse
        if moved or index != self._index:
            self._index, self._pulse, self._since = index, pulse, now
        self._may_wait(self._name, now - self._since, moved)
