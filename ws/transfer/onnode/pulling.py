"""The asking side: a few streams that fetch every chunk a sink is missing, from whichever peer gives it."""

from __future__ import annotations

import socket
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ws.transfer.onnode.choice import Choice, Timing
from ws.transfer.onnode.chunks import PIECE
from ws.transfer.onnode.claims import Claims
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.problems import BAD_CHUNK, BUSY, CANCELLED, NOT_READABLE, SOURCE_CHANGED, STALLED, TransferProblem
from ws.transfer.onnode.ray_link import DEPTH
from ws.transfer.onnode.ways import DIAL_TIME, Waiting, Ways

_BEAT = 0.5  # seconds between two looks at whether anything moves
_BREATH = 0.05
_MOST = 64 << 20  # bytes that one transfer may have in memory
_LEAST = 8 << 20  # what the kernel may hold for its connections, whatever we hold
_FINAL = frozenset({SOURCE_CHANGED, NOT_READABLE})  # what the origin says of its source: nobody can give the rest
OnEvent = Callable[[str, dict[str, Any]], None]


class Puller:
    """Fetches what `sink` is missing.

    Args:
        peers: preferred first, {"name", "addresses": [[host, port], …], "origin": bool}; without addresses: it dials us.
        streams: connections at once, fewer where chunks are large; each has a buffer of one `PIECE`.
        stall, patience: see `choice.Timing`.
        on_event: called from the streams with ("source", {"peer"}) and ("retry", {"peer", "code", "why"}).
        links: makes the link to a peer with an "actor", which is not reached by TCP; see `ray_link.links`.
        name: what we call ourselves to the peers.

    Attributes: `bytes_in_flight`: what it may have in memory at once.
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
        self.received = 0  # bytes that came, to be told to those who wait for us
        each = PIECE + (DEPTH * sink.layout.chunk_size if links else 0)  # blocks of Ray come as a whole
        self._streams = max(1, min(streams, _MOST // each))
        self.bytes_in_flight = max(_LEAST, self._streams * each)
        self._stall = stall
        self._on_event = on_event or (lambda kind, data: None)
        self._changed = threading.Condition()
        self._choice = Choice(Timing(stall=stall, patience=patience))
        self._claims = Claims(sink)
        self._coming: dict[int, int] = {}  # by thread: bytes of the chunk that its stream is at
        self._givers = array("h", [-1]) * sink.layout.count
        self._active: set[Any] = set()
        self._stop = threading.Event()
        self._problem: TransferProblem | None = None
        self._paused, self._finished, self._retries, self._source = False, False, 0, ""
        self._ways = Ways(tid, secret, name, sink, self._choice, limiter, links, self._stop, stall)
        for peer in peers:
            self._ways.add(peer)

    # From outside

    def run(self) -> None:
        """Returns when every chunk is had. May be called again after `reject`.

        Raises:
            TransferProblem: the sink's own (no-space, read-only); what `stop` was given; what the origin says of its
                source; or who was asked and what each said, when nothing came for `patience` seconds.
        """
        threads = [threading.Thread(target=self._stream, name="transfer pull", daemon=True) for _ in range(self._streams)]
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
        with self._changed:
            self._problem = self._problem or problem or TransferProblem(CANCELLED, "the transfer was ended here")
            self._stop.set()
            for link in self._active:
                link.shut()
            self._changed.notify_all()

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
        """done, coming (of chunks on their way) and total, in bytes; retries; source: the peer that gave the last chunk."""
        with self._changed:
            done, coming = self.sink.done_bytes, sum(self._coming.values())
        told = {"done": done, "coming": min(coming, self.sink.total - done), "total": self.sink.total}
        return {**told, "retries": self._retries, "source": self._source}

    def add_served(self, sock: socket.socket, name: str) -> None:
        """A peer has dialled to serve us; one that is not among the peers is the least preferred."""
        with self._changed:
            if self._stop.is_set() or self._finished:
                self._ways.let_go(sock, self._claims.all_had())
                return
            self._ways.add_served(sock, name)
            self._changed.notify_all()

    def reject(self, indexes: Iterable[int]) -> list[str]:
        """Those chunks turned out to be wrong: who gave them is asked no more, but for the origin. Returns their names."""
        with self._changed:
            names = list(self._ways.peers)
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
            thread.join(self._stall + DIAL_TIME)
        with self._changed:
            self._ways.close_idle(self._claims.all_had())

    def _is_over(self) -> bool:
        return self._finished or self._stop.is_set()

    # A stream

    def _stream(self) -> None:
        buffer = bytearray(PIECE)
        while True:
            name = self._take_peer()
            if name is None:
                return
            try:
                self._use(name, buffer)
            except PeerFailed as failure:
                self._note(name, failure)
            except TransferProblem as problem:
                self.stop(problem)
            except Exception as error:
                self.stop(TransferProblem(CANCELLED, "a bug of ours ended the transfer", repr(error)))
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
        with self._changed:
            sock = self._ways.take_served(name)
        claimed: deque[int] = deque()
        link, kept = None, False
        try:
            link = self._ways.open(name, buffer, Waiting(self._may_wait, name), partial(self._moved, name), sock)
            with self._changed:
                self._active.add(link)
            self._fetch(link, claimed)
            kept = sock is not None and self._keep(name, sock)
            if not kept:
                link.goodbye()
        finally:
            with self._changed:
                self._coming.pop(threading.get_ident(), None)
                self._active.discard(link)
                self._claims.give_back(claimed)
                if sock is not None and not kept:
                    self._ways.drop_served(name)
            if link is not None and not kept:
                link.close()

    def _keep(self, name: str, sock: socket.socket) -> bool:
        """A connection that the peer made is kept while there may be more to ask: we could not make it again."""
        with self._changed:
            if self._is_over():
                return False
            self._ways.give_back(sock, name)
            return True

    def _fetch(self, link: Any, claimed: deque[int]) -> None:
        """Fetch over one link as long as there are chunks, and no better peer; `claimed` keeps those on their way."""
        while True:
            more = self._claim(link.depth - len(claimed), link.name)
            claimed.extend(more)  # all of them are given back where asking for one fails
            for index in more:
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
            is_done_with = self._is_over() or self._paused or self._choice.is_banned(name)
            if is_done_with or self._choice.has_better(name, time.monotonic()):
                return []
            return self._claims.take(count)

    def _got(self, index: int, name: str) -> None:
        with self._changed:
            self._claims.done(index)
            self._coming.pop(threading.get_ident(), None)
            self._givers[index] = list(self._ways.peers).index(name)
            self._choice.got(name, time.monotonic())
            is_new, self._source = name != self._source, name
            if self._claims.all_had():
                self._changed.notify_all()
        if is_new:
            self._on_event("source", {"peer": name})

    def _moved(self, name: str, count: int) -> None:
        with self._changed:
            self.received += count
            stream = threading.get_ident()
            self._coming[stream] = self._coming.get(stream, 0) + count
            self._choice.moving(name, time.monotonic())

    def _note(self, name: str, failure: PeerFailed) -> None:
        problem = failure.problem
        with self._changed:
            if self._is_over() or self._paused:
                return
            if failure.told and self._ways.peers[name].get("origin") and problem.code in _FINAL:
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

    def _may_wait(self, name: str, seconds: float, moved: bool) -> None:
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
