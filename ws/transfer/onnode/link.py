"""A link to a peer over TCP: asks for chunks ahead, and puts what comes into the sink.

What `pulling` needs of any link (this one, and `ray_link`'s): `depth`, `ask`, `receive`, `goodbye`, `shut`, `close`.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from ws.transfer.onnode import wire
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.problems import BAD_CHUNK, LOST, TransferProblem

OnWait = Callable[[int, int], None]
OnMoved = Callable[[int], None]
"""Told of bytes as they come in, and of 0 where none can come but nobody is to blame."""


class PeerFailed(Exception):
    """The peer, not the sink, is why the chunk did not come; `problem` says how."""

    def __init__(self, problem: TransferProblem, *, told: bool = False, blameless: bool = False) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.told = told  # the peer itself reports it, as its own
        self.blameless = blameless  # the link is left, and nothing is held against the peer


class TcpLink:
    """A greeted connection whose other side serves. `buffer` is written over by every chunk, and not kept.

    `on_wait` is called for each WAIT with the chunk's index and the peer's count of bytes that came in; what it raises
    ends `receive`. `moved` is told of a chunk's bytes, as they come.
    """

    depth = 2

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        sink: Any,
        buffer: bytearray,
        *,
        limiter: Limiter | None = None,
        stop: threading.Event,
        silence: float,
        on_wait: OnWait,
        moved: OnMoved = lambda count: None,
    ) -> None:
        self.name = name
        self.sock = sock
        self._channel = wire.Channel(sock, name, stop, silence)
        self._sink, self._view = sink, memoryview(buffer)
        self._limiter = limiter or Limiter()
        self._on_wait, self._moved = on_wait, moved

    def ask(self, index: int) -> None:
        """Ask for a chunk; the answers come in the order of the requests."""
        try:
            self._channel.send(struct.pack(wire.REQUEST, wire.GET, index))
        except TransferProblem as problem:
            raise PeerFailed(problem) from problem

    def receive(self, index: int) -> None:
        """Put the chunk that is next to come, which must be `index`, into the sink.

        Raises:
            PeerFailed: it did not come, or was wrong.
            TransferProblem: the sink could not take it.
        """
        try:
            status, length = self._header(index)
            if status == wire.HOLE:
                digest = self._channel.receive(32)
        except TransferProblem as problem:
            raise PeerFailed(problem) from problem
        if status == wire.HOLE:
            put_hole(self._sink, index, digest)
        else:
            self._receive_data(index, length)

    def goodbye(self) -> None:
        """All is had; the other side need not wait for more."""
        try:
            self._channel.send(struct.pack(wire.REQUEST, wire.BYE, 0))
        except TransferProblem:
            return  # it has gone already

    def shut(self) -> None:
        """Wake up whoever waits on it; any thread may call it."""
        self._channel.shut()

    def close(self) -> None:
        self._channel.close()

    def _header(self, index: int) -> tuple[int, int]:
        while True:
            status, answered, length = struct.unpack(wire.ANSWER, self._channel.receive(struct.calcsize(wire.ANSWER)))
            if status == wire.WAIT:
                self._on_wait(answered, length)
                continue
            if status == wire.GONE:
                raise PeerFailed(TransferProblem(LOST, f"the transfer has ended at {self.name}"))
            if status == wire.ERROR and length <= wire.MOST_ERROR:
                raise PeerFailed(self._told(length), told=True)
            fits = answered == index and (status == wire.HOLE or length == self._sink.layout.length(index))
            if status not in {wire.DATA, wire.HOLE} or not fits:
                raise PeerFailed(TransferProblem(BAD_CHUNK, f"an answer of {self.name} makes no sense"))
            return status, length

    def _told(self, length: int) -> TransferProblem:
        text = self._channel.receive(length)
        try:
            return TransferProblem.from_dict(json.loads(text))
        except (ValueError, AttributeError):
            return TransferProblem(BAD_CHUNK, f"an answer of {self.name} makes no sense")

    def _receive_data(self, index: int, length: int) -> None:
        writer = self._sink.writer(index)
        try:
            self._fill(writer, length)
            digest = self._digest(index)
            commit(writer, digest)
        except BaseException:
            writer.abort()
            raise

    def _fill(self, writer: Any, left: int) -> None:
        while left:
            size = min(left, len(self._view), self._limiter.slice())
            self._limiter.take(size)
            view = self._view[:size]
            try:
                self._channel.receive_into(view, moved=self._moved)
            except TransferProblem as problem:
                raise PeerFailed(problem) from problem
            writer.write(view)
            left -= size

    def _digest(self, index: int) -> bytes:
        try:
            digest = self._channel.receive(32)
            if digest == wire.NO_DIGEST:
                self._header(index)  # raises what the peer has to say
        except TransferProblem as problem:
            raise PeerFailed(problem) from problem
        return digest


def commit(writer: Any, digest: bytes) -> None:
    """Keep the chunk; a wrong one is the peer's failure."""
    try:
        writer.commit(digest)
    except TransferProblem as problem:
        if problem.code == BAD_CHUNK:
            raise PeerFailed(problem) from problem
        raise


def put_hole(sink: Any, index: int, digest: bytes) -> None:
    """Keep a chunk of zeros; a wrong one is the peer's failure."""
    try:
        sink.put_hole(index, digest)
    except TransferProblem as problem:
        if problem.code == BAD_CHUNK:
            raise PeerFailed(problem) from problem
        raise
