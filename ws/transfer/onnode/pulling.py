"""The asking side: a few streams that fetch every chunk a sink is missing, from whichever peer gives it."""

from __future__ import annotations

import math
import socket
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ws.transfer.onnode.choice import Choice, Timing
from ws.transfer.onnode.claims import Claims
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import BUFFER, PeerFailed, TcpLink
from ws.transfer.onnode.problems import BAD_CHUNK, BUSY, CANCELLED, NOT_READABLE, SOURCE_CHANGED, STALLED, TransferProblem
from ws.transfer.onnode.wire import PULLS

_BEAT = 0.5  # seconds between two looks at whether anything moves
_DIAL_TIME = 4.0
_BREATH = 0.05
_FINAL = frozenset({SOURCE_CHANGED, NOT_READABLE})  # what the origin says of its source: nobody can give the rest
OnEvent = Callable[[str, dict[str, Any]], None]


class Puller:
    """Fetches what `sink` is missing.

    Args:
        peers: in order of preference, {"name", "addresses": [[host, port], …], "origin": bool}; one without addresses
            serves only by dialling us (`add_served`).
        streams: connections at once; each has 1 MiB of buffer.
        stall, patience: see `choice.Timing`.
        on_event: called from the streams with ("source", {"peer"}) and ("retry", {"peer", "code", "why"}).
        links: makes the link to a peer with an "actor", which is not reached by TCP; see `ray_link.links`.
        name: what we call ourselves to the peers.
    """

    def __init__(
        self,
        sink: Any,
        tid: bytes,
        secret: bytes,
        peers: Sequence[Mapping[str, Any]],
        *,
        streams: int = 2,
        limiter: Limiter | None = None,
        stall: float = 5.0,
        patience: float = 30.0,
        on_event: OnEvent | None = None,
        links: Callable[..., Any] | None = None,
        name: str = "",
    ) -> None:
        self.sink = sink
        self.received = 0  # bytes of chunks that came, to be told to those who wait for us
        self._tid, self._secret, self._name = tid, secret, name
        self._peers = {str(peer["name"]): peer for peer in peers}
        self._streams, self._limiter, self._links = streams, limiter, links
        self._stall = stall
        self._on_event = on_event or (lambda kind, data: None)
        self._changed = threading.Condition()
        self._choice = Choice(Timing(stall=stall, patience=patience))
        self._claims = Claims(sink)
        self._givers = array("h", [-1]) * sink.layout.count
        self._served: dict[str, list[socket.socket]] = {}  # connections that peers made and that are idle
        self._live: dict[str, int] = {}  # and how many there are with those in use
        self._active: set[Any] = set()
        self._stop = threading.Event()
        self._problem: TransferProblem | None = None
        self._paused = self._finished = False
        self._retries, self._source = 0, ""
        for peer_name, peer in self._peers.items():
            slots = math.inf if self._can_reach(peer) else 0
            self._choice.add(peer_name, origin=bool(peer.get("origin")), slots=slots)

    # From outside

    def run(self) -> None:
        """Returns when every chunk is had. May be called again after `reject`.

        Raises:
            TransferProblem: the sink's own (no-space, read-only); what `stop` was given; what the origin says of its
                source; or who was asked and what each said, when nothing came for `patience` seconds.
        """
        threads = [
            threading.Thread(target=self._stream, name=f"transfer pull {i}", daemon=True) for i in range(self._streams)
        ]
        with self._changed:
            self._finished = False
            self._problem = self._problem if self._stop.is_set() else None
            self._claims.restart()
            self._choice.rest()
        for thread in threads:
            thread.start()
        try:
            self._watch()
        finally:
            self._end(threads)
        if self._problem:
            raise self._problem

    def stop(self, problem: TransferProblem | None = None) -> None:
        """End it: `run` raises `problem`."""
        self._fail(problem or TransferProblem(CANCELLED, "the transfer was ended here"))

    def pause(self) -> None:
        """Let go of the peers after the chunks that are on their way."""
        with self._changed:
            self._paused = True
            self._changed.notify_all()

    def resume(self) -> None:
        with self._changed:
            self._paused = False
            self._choice.rest()
            self._changed.notify_all()

    def progress(self) -> dict[str, Any]:
        """done and total (bytes), retries, and the source: the peer that gave the last chunk."""
        return {"done": self.sink.done_bytes, "total": self.sink.total, "retries": self._retries, "source": self._source}

    def add_served(self, sock: socket.socket, name: str) -> None:
        """A peer has dialled to serve us; one that is not among the peers is the least preferred."""
        with self._changed:
            if self._stop.is_set() or self._finished:
                sock.close()
                return
            if name not in self._peers:
                self._peers[name] = {"name": name, "addresses": []}
                self._choice.add(name, slots=0)
            self._served.setdefault(name, []).append(sock)
            self._count_live(name, 1)
            self._changed.notify_all()

    def reject(self, indexes: Iterable[int]) -> list[str]:
        """Those chunks turned out to be wrong: who gave them is asked no more, but for the origin. Returns their names."""
        names = list(self._peers)
        with self._changed:
            givers = {names[self._givers[index]] for index in indexes if self._givers[index] >= 0}
            return [name for name in names if name in givers and self._choice.reject(name)]

    # The watch

    def _watch(self) -> None:
        with self._changed:
            while not self._stop.is_set() and not self._claims.all_had():
                self._changed.wait(_BEAT)
                if self._paused:
                    self._choice.rest()
                    continue
                problem = self._choice.tick(time.monotonic())
                if problem and not self._problem and not self._claims.all_had():
                    self._problem = problem
                    return

    def _end(self, threads: list[threading.Thread]) -> None:
        with self._changed:
            self._finished = True
            if self._problem or not self._claims.all_had():
                for link in self._active:
                    link.shut()
            self._changed.notify_all()
        for thread in threads:
            thread.join(self._stall + _DIAL_TIME)
        with self._changed:
            for name, idle in self._served.items():
                for sock in idle:
                    sock.close()
                self._count_live(name, -len(idle))
                idle.clear()

    def _fail(self, problem: TransferProblem) -> None:
        with self._changed:
            self._problem = self._problem or problem
            self._stop.set()
            for link in self._active:
                link.shut()
            self._changed.notify_all()

    def _is_over(self) -> bool:
        return self._finished or self._stop.is_set()

    # A stream

    def _stream(self) -> None:
        buffer = bytearray(BUFFER)
        while True:
            name = self._take_peer()
            if name is None:
                return
            try:
                self._use(name, buffer)
            except PeerFailed as failure:
                self._note(name, failure)
            except TransferProblem as problem:
                self._fail(problem)
            except Exception as error:
                self._fail(TransferProblem(CANCELLED, "a bug of ours ended the transfer", repr(error)))
            finally:
                with self._changed:
                    self._choice.release(name)
                    self._changed.notify_all()

    def _take_peer(self) -> str | None:
        """Wait until there is a chunk to claim and a peer to ask; None: it is over."""
        with self._changed:
            while not self._is_over():
                now = time.monotonic()
                if not self._paused and self._claims.has_unclaimed():
                    name = self._choice.take(now)
                    if name is not None:
                        return name
                self._changed.wait(max(0.01, min(_BEAT, self._choice.wake_at() - now)))
        return None

    def _use(self, name: str, buffer: bytearray) -> None:
        link, dialled_us = self._open(name, buffer)
        with self._changed:
            self._active.add(link)
        claimed: deque[int] = deque()
        kept = False
        try:
            self._fetch(link, claimed)
            kept = dialled_us and self._keep(link)
            if not kept:
                link.goodbye()
        finally:
            with self._changed:
                self._active.discard(link)
                self._claims.give_back(claimed)
                if dialled_us and not kept:
                    self._count_live(name, -1)
            if not kept:
                link.close()

    def _fetch(self, link: Any, claimed: deque[int]) -> None:
        """Fetch over one link as long as there are chunks, and no better peer; `claimed` keeps those on their way."""
        while True:
            for index in self._claim(link.depth - len(claimed), link.name):
                claimed.append(index)
                link.ask(index)
            if not claimed:
                return
            try:
                link.receive(claimed[0])
            except TransferProblem as problem:
                if problem.code != BUSY:
                    raise
                # It comes another way just now; what this peer sends of it is not wanted.
                raise PeerFailed(problem, blameless=True) from problem
            self._got(claimed.popleft(), link.name)

    def _claim(self, count: int, name: str) -> list[int]:
        with self._changed:
            if self._is_over() or self._paused or self._choice.is_banned(name):
                return []
            if self._choice.has_better(name, time.monotonic()):
                return []
            return self._claims.take(count)

    def _got(self, index: int, name: str) -> None:
        with self._changed:
            self._claims.done(index)
            self._givers[index] = list(self._peers).index(name)
            self.received += self.sink.layout.length(index)
            self._choice.got(name, time.monotonic())
            is_new, self._source = name != self._source, name
            if self._claims.all_had():
                self._changed.notify_all()
        if is_new:
            self._on_event("source", {"peer": name})

    def _note(self, name: str, failure: PeerFailed) -> None:
        problem = failure.problem
        with self._changed:
            if self._is_over() or self._paused:
                return
            if failure.told and self._peers[name].get("origin") and problem.code in _FINAL:
                self._problem = self._problem or problem
                self._stop.set()
                return
            self._retries += 1
            if failure.blameless:
                self._changed.wait(_BREATH)
            elif problem.code == BAD_CHUNK:
                self._choice.bad(name, time.monotonic(), problem)
            else:
                self._choice.failed(name, time.monotonic(), problem)
        self._on_event("retry", {"peer": name, "code": problem.code, "why": str(problem)})

    def may_wait(self, name: str, seconds: float, *, moved: bool) -> None:
        """A peer has said nothing but WAIT for so long; `moved`: but it gets something itself.

        Raises:
            PeerFailed: where the stream should leave it.
        """
        with self._changed:
            now = time.monotonic()
            if moved:
                self._choice.alive(now)
            if self._is_over() or self._paused:
                raise PeerFailed(TransferProblem(CANCELLED, "no more is wanted now"), blameless=True)
            if seconds >= self._stall and self._choice.waiting(name, now):
                raise PeerFailed(TransferProblem(STALLED, f"{name} waits for its chunks itself"), blameless=True)

    # Links

    def _open(self, name: str, buffer: bytearray) -> tuple[Any, bool]:
        """A link, and whether the peer made the connection."""
        peer = self._peers[name]
        on_wait = _Waiting(self, name)
        link = self._links(peer, self._tid, self.sink, on_wait, self._limiter) if self._links else None
        if link is not None:
            return link, False
        sock = self._take_served(name)
        dialled_us = sock is not None
        if sock is None:
            sock = self._dial(peer)
        limiter, stop, silence = self._limiter, self._stop, self._stall
        tcp = TcpLink(sock, name, self.sink, buffer, limiter=limiter, stop=stop, silence=silence, on_wait=on_wait)
        return tcp, dialled_us

    def _can_reach(self, peer: Mapping[str, Any]) -> bool:
        """Whether we can make a link; the others serve over connections that they make."""
        return bool(peer.get("addresses") or (self._links and peer.get("actor")))

    def _dial(self, peer: Mapping[str, Any]) -> socket.socket:
        addresses = [(str(host), int(port)) for host, port in peer.get("addresses") or []]
        try:
            return dial(addresses, self._tid, self._secret, PULLS, _DIAL_TIME, name=self._name)[0]
        except TransferProblem as problem:
            raise PeerFailed(problem) from problem

    def _take_served(self, name: str) -> socket.socket | None:
        with self._changed:
            idle = self._served.get(name)
            return idle.pop() if idle else None

    def _keep(self, link: TcpLink) -> bool:
        """A connection that the peer made is kept while there may be more to ask: we could not make it again."""
        with self._changed:
            if not self._is_over():
                self._served[link.name].append(link.sock)
                return True
        return False

    def _count_live(self, name: str, more: int) -> None:
        self._live[name] = self._live.get(name, 0) + more
        if not self._can_reach(self._peers[name]):
            self._choice.allow(name, self._live[name])


class _Waiting:
    """What a link calls for each WAIT: how long it was for one chunk without anything new at the peer."""

    def __init__(self, puller: Puller, name: str) -> None:
        self._puller, self._name = puller, name
        self._index, self._pulse, self._since = -1, 0, 0.0

    def __call__(self, index: int, pulse: int) -> None:
        now = time.monotonic()
        moved = index == self._index and pulse != self._pulse
        if moved or index != self._index:
            self._index, self._pulse, self._since = index, pulse, now
        self._puller.may_wait(self._name, now - self._since, moved=moved)
