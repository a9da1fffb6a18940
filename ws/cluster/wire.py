"""The first words with whatever listens at an endpoint: one HTTP request, and what its answer shows of the protocol."""

from __future__ import annotations

import asyncio
import enum
import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ws.cluster.endpoint import Endpoint
from ws.node.secret import Token, revealed

_LARGEST = 4 << 20
_SETTINGS = 4
_FRAME_HEAD = 9


class Tongue(enum.Enum):
    """What the first bytes look like. `closed`: refused, no way there, or ended without a word."""

    http = enum.auto()
    http2 = enum.auto()
    other = enum.auto()
    silent = enum.auto()
    closed = enum.auto()


@dataclass(frozen=True)
class Answer:
    """What came back. `peer` is the IP address that answered; `status` is 0 where it was no whole HTTP answer."""

    tongue: Tongue
    status: int = 0
    body: bytes = b""
    peer: str = ""

    def json(self) -> dict[str, Any]:
        """The JSON object of a good answer; empty where it is anything else."""
        if self.status != 200:
            return {}
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


async def ask(endpoint: Endpoint, path: str, token: Token = "", timeout: float = 1.0) -> Answer:
    """Send `GET path`, and read the answer to its end, all within `timeout` seconds; never raises for what it meets.

    A gRPC server tells itself by the SETTINGS frame that it sends first, so one request tells HTTP from gRPC.
    """
    seen = bytearray()
    peer = ""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await connect(endpoint)
            try:
                peer = str((writer.get_extra_info("peername") or [endpoint.host])[0])  # none once it was reset
                writer.write(_request(endpoint, path, token))
                await _read(reader, seen)
            finally:
                writer.transport.abort()
    except TimeoutError:
        if not peer:
            return Answer(Tongue.closed)
        if not seen:
            return Answer(Tongue.silent, peer=peer)
    except (OSError, UnicodeError):  # refused, unreachable, reset, no such name
        if not seen:
            return Answer(Tongue.closed, peer=peer)
    return _understood(bytes(seen), peer)


async def connect(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection; raises OSError, and UnicodeError for what can be no name. It has no deadline of its own."""
    obstacle = OSError(f"no address for {endpoint.host}")
    for host in [endpoint.host] if endpoint.ip else await resolved(endpoint.host):
        try:
            return await asyncio.open_connection(host, endpoint.port)
        except OSError as error:
            obstacle = error
    raise obstacle


async def resolved(host: str) -> list[str]:
    """The addresses of a name, IPv4 first; raises as `connect`.

    Asked in a thread of its own, because the resolver takes no deadline.
    """
    found = await in_thread(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), f"resolve {host}")
    ordered = sorted(found, key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys(str(entry[4][0]) for entry in ordered))


async def missing_host(host: str, timeout: float) -> str | None:
    """Why a host that was given by name can't be asked at all; None where it can."""
    try:
        async with asyncio.timeout(timeout):
            await resolved(host)
    except TimeoutError:
        return f"{host}: its name was not resolved within {timeout:g} s"
    except (OSError, UnicodeError):
        return f"{host}: there is no such host"
    return None


async def in_thread(work: Any, name: str) -> Any:
    """Run `work` in a daemon thread: one that hangs keeps neither the loop nor the program from ending."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as raised:  # handed on to whoever waits
            error = raised
        with suppress(RuntimeError):  # the loop has ended, nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future


def _request(endpoint: Endpoint, path: str, token: Token) -> bytes:
    # The dashboard of Ray 2.40 fails over a request without a User-Agent.
    own = ["User-Agent: ws-discover", "Accept: application/json", "Connection: close"]
    lines = [f"GET {path} HTTP/1.1", f"Host: {endpoint}", *own]
    if token:
        lines.append(f"Authorization: Bearer {revealed(token)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


async def _read(reader: asyncio.StreamReader, seen: bytearray) -> None:
    while len(seen) < _LARGEST:
        piece = await reader.read(65536)
        if not piece:
            return
        seen += piece
        if not _may_go_on(seen):
            return


def _may_go_on(seen: bytearray) -> bool:
    """Whether there may be more to read: an HTTP answer has more until its length is reached, or the server closes."""
    if not b"HTTP/".startswith(seen[:5]):
        return len(seen) < _FRAME_HEAD
    head, end, body = seen.partition(b"\r\n\r\n")
    if not end:
        return True
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            with suppress(ValueError):
                return len(body) < int(line.partition(b":")[2])
    return True


def _understood(seen: bytes, peer: str) -> Answer:
    if not seen:
        return Answer(Tongue.closed, peer=peer)
    if seen.startswith(b"HTTP/"):
        head, _, body = seen.partition(b"\r\n\r\n")
        words = head.split(None, 2)
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        return Answer(Tongue.http, status, body, peer)
    if len(seen) >= _FRAME_HEAD and seen[3] == _SETTINGS and not any(seen[5:9]):
        return Answer(Tongue.http2, peer=peer)
    return Answer(Tongue.other, peer=peer)
