"""The loop that answers requests for chunks over one greeted connection."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ws.transfer.onnode import wire
from ws.transfer.onnode.problems import BAD_CHUNK, CANCELLED, NOT_READABLE, TransferProblem

# Seconds after which a connection is given up where no request comes, or no byte of an answer is taken. Whoever asks may be
# slow (--limit: one kilobyte a second opens TCP's window but once a minute), and has a watch of its own on us.
_IDLE = 120.0
_WAIT_BEAT = 0.3
_PADDING = bytes(64 * 1024)
Pulse = Callable[[], int]


def serve(
    sock: socket.socket,
    store: Any,
    stop: threading.Event,
    *,
    pulse: Pulse | None = None,
    who: str = "",
) -> bool:
    """Answer requests until the asking side says goodbye (True), goes away, or `stop` is set (False).

    Raises:
        TransferProblem: stalled, lost.
    """
    return _Answers(wire.Channel(sock, who or "the recipient", stop, _IDLE), store, stop, pulse).run()


class _Answers:
    def __init__(self, channel: wire.Channel, store: Any, stop: threading.Event, pulse: Pulse | None) -> None:
        self._channel, self._store, self._stop, self._pulse = channel, store, stop, pulse

    def run(self) -> bool:
        while True:
            try:
                verb, index = struct.unpack(wire.REQUEST, self._channel.receive(struct.calcsize(wire.REQUEST)))
            except TransferProblem as problem:
                if problem.code == CANCELLED:
                    self._say_gone(0)
                return False
            if verb == wire.BYE:
                return True
            if verb != wire.GET or index >= self._store.layout.count:
                self._fail(index, TransferProblem(BAD_CHUNK, f"a request that makes no sense: {verb!r} {index}"))
                return False
            if not self._answer(index):
                return False

    def _answer(self, index: int) -> bool:
        try:
            while not self._store.wait_for(index, _WAIT_BEAT):
                if self._stop.is_set():
                    self._say_gone(index)
                    return False
                self._say(wire.WAIT, index, self._pulse() if self._pulse else 0)
            if self._store.is_hole(index):
                self._say(wire.HOLE, index, more=True)
                self._channel.send(self._store.digest(index))
                return True
            pieces = self._store.pieces(index)
            first = next(pieces)
        except (TransferProblem, OSError, StopIteration) as error:
            self._fail(index, _problem(error))
            return True
        return self._send(index, first, pieces)

    def _send(self, index: int, piece: memoryview, pieces: Iterator[memoryview]) -> bool:
        left = self._store.layout.length(index)
        self._say(wire.DATA, index, left, more=True)
        while True:
            self._channel.send(piece)
            left -= len(piece)
            try:
                piece = next(pieces)
            except StopIteration:
                break
            except (TransferProblem, OSError) as error:
                self._break_off(index, left, _problem(error))
                return True
        self._channel.send(self._store.digest(index))
        return True

    def _break_off(self, index: int, left: int, problem: TransferProblem) -> None:
        """The header has promised a length: the connection stays in step, and the asking side learns why."""
        while left:
            count = min(left, len(_PADDING))
            self._channel.send(_PADDING[:count])
            left -= count
        self._channel.send(wire.NO_DIGEST)
        self._fail(index, problem)

    def _fail(self, index: int, problem: TransferProblem) -> None:
        text = json.dumps(problem.as_dict()).encode()[: wire.MOST_ERROR]
        self._say(wire.ERROR, index, len(text), more=True)
        self._channel.send(text)

    def _say_gone(self, index: int) -> None:
        self._channel.say_last(struct.pack(wire.ANSWER, wire.GONE, index, 0))

    def _say(self, status: int, index: int, length: int = 0, *, more: bool = False) -> None:
        self._channel.send(struct.pack(wire.ANSWER, status, index, length), more=more)


def _problem(error: Exception) -> TransferProblem:
    if isinstance(error, TransferProblem):
        return error
    return TransferProblem(NOT_READABLE, "the chunk could not be read there", str(error) or type(error).__name__)
