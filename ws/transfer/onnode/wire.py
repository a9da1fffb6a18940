"""The wire: two parties that share a secret greet each other, then one asks for chunks and the other answers.

Greeting, all numbers big-endian; the secret itself never travels:

    dialler   "WST1" transfer:16 nonce:32 role:1 length:1 length:1 name wanted     role "P": I ask; "S": I serve you
    acceptor  status:1 nonce:32 HMAC-SHA256(secret, "acceptor" + what the dialler sent + nonce)
    dialler   HMAC-SHA256(secret, "dialler" + the same)
    acceptor  0x01

`wanted` is the name of the party that is called (empty: anybody). Another one refuses, even if it knows the transfer: an
address that was given away meanwhile, or a gateway's, may lead to a different node of it.
A dialler that finds the acceptor's HMAC wrong answers noise, so that both sides learn that their secrets differ.
Afterwards the asking side sends requests, as many ahead as it likes, and gets the answers in their order:

    request   "GET " index:4  |  "BYE " 0
    answer    status:1 index:4 length:8, then by status
              DATA   length bytes, digest:32 (all zero: it broke off, the rest is padding, an ERROR follows)
              HOLE   digest:32 (the chunk is zeros)
              WAIT   not had yet, comes a few times a second; length is a count that grows while the serving side gets bytes
              GONE   the transfer has ended here
              ERROR  length bytes of JSON: a problem as a dict

Sockets block, and look up every `TICK` seconds: a silence is counted in such ticks, so that a process that was itself
stopped for a while does not blame the other side.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ws.transfer.onnode.problems import BUSY, CANCELLED, LOST, STALLED, UNREACHABLE, WRONG_SECRET, TransferProblem

MAGIC = b"WST1"
PULLS, SERVES = b"P", b"S"
REQUEST, ANSWER = ">4sI", ">BIQ"  # formats, for a compiled Struct can't be pickled
GET, BYE = b"GET ", b"BYE "
DATA, HOLE, WAIT, GONE, ERROR = 1, 2, 3, 4, 5
NO_DIGEST = bytes(32)
MOST_ERROR = 64 * 1024
GREETING_TIME = 5.0
SILENCE = 10.0
TICK = 0.5
Address = tuple[str, int]

_HELLO = ">4s16s32scBB"
_ADMISSION = ">B32s32s"
_WELCOME, _UNKNOWN, _FULL, _OTHER = 0, 1, 2, 3


class Hello(NamedTuple):
    """Who dialled: the transfer, what the dialler wants to do (PULLS, SERVES) and the name that it gives itself."""

    tid: bytes
    role: bytes
    name: str


class Known(NamedTuple):
    """A transfer that may be asked for: its secret, and what the acceptor is called in it (empty: it has no name)."""

    secret: bytes
    name: str = ""


class Channel:
    """A connected socket with a watch on silence; one thread sends, and the same or another receives.

    Its methods raise TransferProblem: `lost` where the other side has gone, `stalled` after `silence` seconds without
    a byte, `cancelled` once `stop` is set.
    """

    def __init__(self, sock: socket.socket, who: str, stop: threading.Event, silence: float = SILENCE) -> None:
        self.who = who
        self._sock, self._stop, self._silence = sock, stop, silence
        self._tick = min(TICK, silence / 4)
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # The kernel's own timeouts, not Python's: a receive of 1 MiB is then one call, not one for each packet.
        pause = struct.pack("ll", int(self._tick), int(self._tick % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pause)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pause)

    def receive_into(
        self, view: memoryview, patience: float | None = None, moved: Callable[[int], None] | None = None
    ) -> None:
        """Fill `view`; `patience` seconds of silence instead of the channel's own. `moved` is told how many bytes came."""
        self._all(view, self._receive_some, self._silence if patience is None else patience, moved)

    def receive(self, count: int, patience: float | None = None) -> bytes:
        data = bytearray(count)
        self.receive_into(memoryview(data), patience)
        return bytes(data)

    def send(self, data: bytes | memoryview, *, more: bool = False) -> None:
        """All of it; `more` follows at once, so the kernel need not send a small packet of its own."""
        flags = getattr(socket, "MSG_MORE", 0) if more else 0
        self._all(memoryview(data), lambda view: self._sock.send(view, flags), self._silence)

    def say_last(self, data: bytes) -> None:
        """A last word, also after `stop`, where it can be sent at once."""
        with contextlib.suppress(OSError):
            self._sock.send(data, getattr(socket, "MSG_DONTWAIT", 0))

    def shut(self) -> None:
        """Wake up whoever waits on it; any thread may call it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()

    def _receive_some(self, view: memoryview) -> int:
        return self._sock.recv_into(view, 0, socket.MSG_WAITALL)

    def _all(
        self,
        view: memoryview,
        move: Callable[[memoryview], int],
        patience: float,
        told: Callable[[int], None] | None = None,
    ) -> None:
        silent = 0.0
        while view:
            if self._stop.is_set():
                raise TransferProblem(CANCELLED, "the transfer was ended here")
            try:
                moved = move(view)
            except BlockingIOError:
                silent += self._tick
                if silent >= patience:
                    raise TransferProblem(STALLED, f"{self.who} was silent for {silent:g} s") from None
                continue
            except OSError as error:
                raise lost(self.who, error) from error
            if not moved and not self._stop.is_set():
                raise TransferProblem(LOST, f"{self.who} ended the connection")
            view, silent = view[moved:], 0.0
            if told:
                told(moved)


def greet(
    sock: socket.socket,
    tid: bytes,
    secret: bytes,
    role: bytes,
    *,
    name: str = "",
    wanted: str = "",
    timeout: float = GREETING_TIME,
) -> None:
    """The dialler's half of the greeting, for the party `wanted` alone, if that is not empty."""
    deadline = time.monotonic() + timeout
    who = _peer(sock)
    own, theirs = _label(name), _label(wanted)
    hello = struct.pack(_HELLO, MAGIC, tid, os.urandom(32), role, len(own), len(theirs)) + own + theirs
    _send_by(sock, hello, deadline, who)
    status, nonce, proof = struct.unpack(_ADMISSION, _receive_by(sock, struct.calcsize(_ADMISSION), deadline, who))
    if status == _UNKNOWN:
        raise TransferProblem(UNREACHABLE, f"{who} knows nothing of this transfer", "it has ended there, or not begun")
    if status == _FULL:
        raise TransferProblem(BUSY, f"{who} serves as many connections as it can", "", "try again later")
    if status == _OTHER:
        raise TransferProblem(UNREACHABLE, f"{who} is not {wanted}", "the address leads to another node")
    if not hmac.compare_digest(proof, _proof(secret, b"acceptor", hello, nonce)):
        with contextlib.suppress(TransferProblem):
            _send_by(sock, os.urandom(32), deadline, who)
        raise _wrong_secret(who)
    _send_by(sock, _proof(secret, b"dialler", hello, nonce), deadline, who)
    if _receive_by(sock, 1, deadline, who) != b"\x01":
        raise _wrong_secret(who)


def admit(sock: socket.socket, known_of: Callable[[Hello], Known | None], timeout: float = GREETING_TIME) -> Hello:
    """The acceptor's half; `known_of` returns None for a transfer that is not known here.

    Raises:
        TransferProblem: wrong-secret; unreachable where the dialler wants something, or somebody, else; lost or stalled
            for a dialler that does not finish its greeting in time.
    """
    deadline = time.monotonic() + timeout
    who = _peer(sock)
    head = _receive_by(sock, struct.calcsize(_HELLO), deadline, who)
    magic, tid, _, role, length, wanted_length = struct.unpack(_HELLO, head)
    if magic != MAGIC or role not in {PULLS, SERVES}:
        raise TransferProblem(LOST, f"{who} does not speak this protocol")
    labels = _receive_by(sock, length + wanted_length, deadline, who)
    hello = Hello(tid, role, labels[:length].decode(errors="replace"))
    wanted = labels[length:]
    known = known_of(hello)
    if known is None:
        _send_by(sock, struct.pack(_ADMISSION, _UNKNOWN, bytes(32), bytes(32)), deadline, who)
        raise TransferProblem(UNREACHABLE, f"{who} asked for a transfer that is not known here")
    if wanted and known.name and wanted != _label(known.name):
        _send_by(sock, struct.pack(_ADMISSION, _OTHER, bytes(32), bytes(32)), deadline, who)
        raise TransferProblem(UNREACHABLE, f"{who} wants {wanted!r}, and this is {known.name!r}")
    secret, said, nonce = known.secret, head + labels, os.urandom(32)
    _send_by(sock, struct.pack(_ADMISSION, _WELCOME, nonce, _proof(secret, b"acceptor", said, nonce)), deadline, who)
    answer = _receive_by(sock, 32, deadline, who)
    if not hmac.compare_digest(answer, _proof(secret, b"dialler", said, nonce)):
        raise _wrong_secret(who)
    _send_by(sock, b"\x01", deadline, who)
    return hello


def say_goodbye(sock: socket.socket) -> None:
    """All is had: who dialled to serve us need not dial again. Closes the connection."""
    with contextlib.suppress(TransferProblem, OSError), sock:
        _send_by(sock, struct.pack(REQUEST, BYE, 0), time.monotonic() + 1.0, "the dialler")


def turn_away(sock: socket.socket) -> None:
    """Tell a dialler that there are too many already."""
    with contextlib.suppress(TransferProblem, OSError):
        _send_by(sock, struct.pack(_ADMISSION, _FULL, bytes(32), bytes(32)), time.monotonic() + 1.0, "the dialler")


def lost(who: str, error: OSError) -> TransferProblem:
    return TransferProblem(LOST, f"the connection to {who} broke", say(error))


def _label(name: str) -> bytes:
    return name.encode(errors="replace")[:255]


def _proof(secret: bytes, side: bytes, hello: bytes, nonce: bytes) -> bytes:
    return hmac.digest(secret, side + hello + nonce, "sha256")


def _wrong_secret(who: str) -> TransferProblem:
    return TransferProblem(WRONG_SECRET, f"{who} does not know this transfer's secret", "it is not who it should be")


def _peer(sock: socket.socket) -> str:
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):
        return "the other side"
    return f"{host}:{port}"


def say(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _send_by(sock: socket.socket, data: bytes, deadline: float, who: str) -> None:
    try:
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        sock.sendall(data)
    except TimeoutError:
        raise TransferProblem(STALLED, f"{who} did not finish the greeting in time") from None
    except OSError as error:
        raise lost(who, error) from error


def _receive_by(sock: socket.socket, count: int, deadline: float, who: str) -> bytes:
    data = b""
    while len(data) < count:
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            piece = sock.recv(count - len(data))
        except TimeoutError:
            raise TransferProblem(STALLED, f"{who} did not finish the greeting in time") from None
        except OSError as error:
            raise lost(who, error) from error
        if not piece:
            raise TransferProblem(LOST, f"{who} ended the connection in the middle of the greeting")
        data += piece
    return data
