"""One HTTP request with one deadline for all of it: name, connection, request, answer."""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import socket
import threading
import time
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ws.node.secret import Token, revealed

LARGEST_ANSWER = 1 << 20
_PASSING = (408, 429)
"""Statuses that say "try again", not "not you"."""


class HttpFailure(Exception):
    """A request that brought no JSON object.

    Attributes:
        kind: "resolve" (the name is unknown), "refused" (nothing listens, or no way there), "timeout", "status"
            (4xx, 5xx), "garbage" (the connection broke off, or it was no HTTP or no JSON object).
        text: what happened, for people.
        status: the HTTP status where one came.
    """

    def __init__(self, kind: str, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.status = status

    @property
    def is_refusal(self) -> bool:
        """Something is up there and does not take this request from us: a wrong token, a name that it does not know."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in _PASSING


def call(
    url: str,
    method: str = "GET",
    body: dict[str, Any] | None = None,
    token: Token = "",
    timeout: float = 5.0,
) -> dict[str, Any]:
    """Send one request, and return the JSON object of the answer. Raises HttpFailure, and nothing else.

    Proxy settings of the environment are not looked at: nodes talk to each other directly.
    """
    deadline = time.monotonic() + timeout
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    place = f"{host}:{port}"
    try:
        with _connect(host, port, deadline) as connection:
            _within(connection, deadline)
            connection.sendall(_request(parts.path or "/", place, method, body, revealed(token)))
            raw = _read_all(connection, deadline)
    except socket.timeout:
        raise HttpFailure("timeout", f"{place} did not answer within {timeout:g} s") from None
    except ConnectionRefusedError:
        raise HttpFailure("refused", f"{place} refuses the connection") from None
    except (ConnectionResetError, BrokenPipeError):
        raise HttpFailure("garbage", f"{place} broke the connection off") from None
    except OSError as error:
        raise HttpFailure("refused", f"{place} cannot be reached: {error.strerror or error}") from None
    return _parse(raw, place)


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    problem: OSError = OSError(f"no address for {host}")
    for family, address in _resolve(host, port, deadline):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            _within(connection, deadline)
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            problem = error
    raise problem


def _within(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("the deadline has passed")
    connection.settimeout(left)


Address = tuple[socket.AddressFamily, Any]


def _resolve(host: str, port: int, deadline: float) -> list[Address]:
    """IPv4 first: that is what the servers here listen on."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _Lookup.of(host, port).wait(deadline)
    return _look_up(host, port)


def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise HttpFailure("resolve", f"the name {host!r} does not resolve: {error}") from None
    return sorted(((entry[0], entry[4]) for entry in found), key=lambda entry: entry[0] != socket.AF_INET)


class _Lookup:
    """A name resolution in a thread of its own: the resolver takes no deadline.

    Those who ask for a name that is being looked up wait for that same look-up, so a resolver that hangs costs one
    thread for each name, however often it is asked.
    """

    _running: ClassVar[dict[tuple[str, int], _Lookup]] = {}
    _lock = threading.Lock()

    def __init__(self, host: str, port: int) -> None:
        self._key = (host, port)
        self._done = threading.Event()
        self._found: list[Address] = []
        self._failure: HttpFailure | None = None

    @classmethod
    def of(cls, host: str, port: int) -> _Lookup:
        with cls._lock:
            running = cls._running.get((host, port))
            if running is None:
                running = cls._running[(host, port)] = cls(host, port)
                threading.Thread(target=running._run, name=f"resolve {host}", daemon=True).start()
            return running

    def wait(self, deadline: float) -> list[Address]:
        if not self._done.wait(max(0.0, deadline - time.monotonic())):
            raise HttpFailure("timeout", f"the name {self._key[0]!r} did not resolve in time")
        if self._failure:
            raise HttpFailure(self._failure.kind, self._failure.text)
        return self._found

    def _run(self) -> None:
        try:
            self._found = _look_up(*self._key)
        except HttpFailure as failure:
            self._failure = failure
        except OSError as error:
            self._failure = HttpFailure("resolve", f"the name {self._key[0]!r} does not resolve: {error}")
        finally:
            with self._lock:
                self._running.pop(self._key, None)
            self._done.set()


def _request(path: str, place: str, method: str, body: dict[str, Any] | None, token: str) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {place}", "Connection: close"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if method != "GET":
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + content


def _read_all(connection: socket.socket, deadline: float) -> bytes:
    """Everything until the server closes. Each read is given what is left: a server that drips gains no time."""
    raw = bytearray()
    while len(raw) <= LARGEST_ANSWER:
        _within(connection, deadline)
        piece = connection.recv(65536)
        if not piece:
            return bytes(raw)
        raw += piece
    raise HttpFailure("garbage", f"the answer is larger than {LARGEST_ANSWER} bytes")


class _Replay:
    """What `HTTPResponse` needs of a socket."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, mode: str = "rb") -> io.BytesIO:
        return io.BytesIO(self._raw)


def _parse(raw: bytes, place: str) -> dict[str, Any]:
    if not raw:
        raise HttpFailure("garbage", f"{place} closed the connection without an answer")
    try:
        response = http.client.HTTPResponse(_Replay(raw))  # type: ignore[arg-type]
        response.begin()
        content = response.read()
    except (http.client.HTTPException, ValueError) as error:
        raise HttpFailure("garbage", f"{place} does not speak HTTP: {type(error).__name__}") from None
    answer = _as_object(content)
    if response.status >= 300:
        why = str((answer or {}).get("error", response.reason))
        raise HttpFailure("status", f"{place} answers {response.status}: {why}", response.status)
    if answer is None:
        raise HttpFailure("garbage", f"{place} does not answer with a JSON object")
    return answer


def _as_object(content: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None
