"""A small HTTP service that one bad client cannot hold up: JSON in, JSON out, one request for each connection."""

from __future__ import annotations

import hmac
import http.client
import io
import json
import socket
import socketserver
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ws.node.clock import steady
from ws.node.fields import BadRequest, Body
from ws.node.secret import Secret, Token

Handler = Callable[[Body], tuple[int, dict[str, Any]]]
App = Mapping[tuple[str, str], Handler]
"""(method, path) → handler. A handler raises BadRequest for what it cannot use."""

LARGEST_BODY = 16 * 1024
LARGEST_HEAD = 16 * 1024
DEADLINE = 5.0
MOST_CONNECTIONS = 256


class HttpService:
    """Serves `app` from threads of its own, between `start` and `stop`.

    `GET /` answers `OK` to everyone. Everything else needs the token where there is one (empty or None: there is none).
    Port 0 takes a free one; `port` then tells which. The constructor binds, and raises OSError where it cannot.
    """

    def __init__(self, app: App, host: str, port: int, token: Token | None = None) -> None:
        guard = token if isinstance(token, Secret) else Secret(token or "")
        self._server = _Server((host, port), app, guard)
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), name="http", daemon=True),
            threading.Thread(target=self._server.open.watch, name="http deadlines", daemon=True),
        ]

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop listening; requests that are being answered are left to end by themselves."""
        if self._threads[0].is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.open.close()


class _Connections:
    """The open connections, oldest first. Who sends too slowly is cut off; when all places are taken, the oldest is."""

    def __init__(self) -> None:
        self._since: OrderedDict[socket.socket, float] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def add(self, connection: socket.socket) -> None:
        with self._changed:
            while len(self._since) >= MOST_CONNECTIONS:
                oldest, _ = self._since.popitem(last=False)
                _cut(oldest, socket.SHUT_RDWR)
            self._since[connection] = steady()
            self._changed.notify()

    def discard(self, connection: socket.socket) -> None:
        """The request has been read, or the connection is over: its deadline no longer counts."""
        with self._changed:
            self._since.pop(connection, None)

    def watch(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait(self._cut_overdue())

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _cut_overdue(self) -> float | None:
        """Cut off those whose time is up; the answer is the seconds until the next one's is."""
        while self._since:
            connection, since = next(iter(self._since.items()))
            left = since + DEADLINE - steady()
            if left > 0:
                return left
            self._since.popitem(last=False)
            _cut(connection, socket.SHUT_RD)
        return None


def _cut(connection: socket.socket, how: int) -> None:
    """End the reading; the thread that reads finds an end and cleans up."""
    with suppress(OSError):
        connection.shutdown(how)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], app: App, token: Secret) -> None:
        self.app = app
        self.token = token
        self.open = _Connections()
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        # HTTPServer.server_bind looks its own name up, which takes seconds where there is no resolver.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no news."""


class _BoundedHead(io.RawIOBase):
    """The request as it comes in, with a bound on the length of its lines and headers together."""

    def __init__(self, source: io.BufferedIOBase) -> None:
        self._source = source
        self._left = LARGEST_HEAD

    def readline(self, size: int | None = -1) -> bytes:
        if self._left <= 0:
            raise http.client.LineTooLong("request head")
        line = self._source.readline(self._left)
        self._left -= len(line)
        return line

    def read(self, size: int = -1) -> bytes:
        return self._source.read(size)

    def close(self) -> None:
        self._source.close()


class _RefusalError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = DEADLINE

    def setup(self) -> None:
        super().setup()
        self.rfile = _BoundedHead(self.rfile)  # type: ignore[assignment]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it)
        """What matters is logged by the handlers; probes are not."""

    def _serve(self) -> None:
        path = self.path.split("?", 1)[0]
        if path == "/" and self.command in ("GET", "HEAD"):
            self._send(200, b"OK\n", "text/plain")
            return
        try:
            body = self._read_body()
            self._check_token()
            status, answer = self._find(path)(body)
        except _RefusalError as refusal:
            status, answer = refusal.status, {"error": str(refusal)}
        except BadRequest as problem:
            status, answer = 400, {"error": str(problem)}
        self._send(status, json.dumps(answer).encode(), "application/json")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815  (the base class names them)

    def _read_body(self) -> Body:
        raw = self._read_raw()
        if not raw:
            return {}
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise _RefusalError(400, f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise _RefusalError(400, "the body must be a JSON object")
        return body

    def _read_raw(self) -> bytes:
        given = self.headers.get("Content-Length")
        if given is None and self.command in ("POST", "PUT", "PATCH"):
            raise _RefusalError(411, "a Content-Length is needed")
        if given is not None and not (given.isascii() and given.isdigit() and len(given) < 19):
            raise _RefusalError(400, f"the Content-Length {given[:40]!r} is not a number")
        length = int(given or 0)
        if length > LARGEST_BODY:
            # Read on, or the client finds its connection broken instead of this answer.
            self._drain(min(length, 1 << 20))
            raise _RefusalError(413, f"the body may have {LARGEST_BODY} bytes, not {length}")
        raw = self.rfile.read(length)
        if len(raw) < length:
            raise _RefusalError(408, f"the body ended, or stopped coming, after {len(raw)} of {length} bytes")
        self.server.open.discard(self.connection)
        return raw

    def _drain(self, length: int) -> None:
        while length > 0:
            piece = self.rfile.read(min(length, 65536))
            if not piece:
                return
            length -= len(piece)

    def _check_token(self) -> None:
        if not self.server.token:
            return
        given = self.headers.get("Authorization")
        if given is None:
            raise _RefusalError(401, "a token is needed: Authorization: Bearer <token>")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {self.server.token.reveal()}".encode()):
            raise _RefusalError(401, "the token is not the one that this cluster uses")

    def _find(self, path: str) -> Handler:
        methods = [method for method, known in self.server.app if known == path] + ["GET"] * (path == "/")
        if not methods:
            raise _RefusalError(404, f"there is no {path[:100]} here")
        if self.command not in methods:
            raise _RefusalError(405, f"{path} takes {' or '.join(methods)}, not {self.command}")
        return self.server.app[(self.command, path)]

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself: bad request lines, unknown methods, a head that is too long."""
        self.close_connection = True
        self.command = self.command or ""
        text = message or self.responses.get(code, ("refused", ""))[0]
        self._send(code, json.dumps({"error": text[:300]}).encode(), "application/json")
        self._linger()

    def _linger(self) -> None:
        """Closing with something unread resets the connection, and the client may never see the answer."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(0.5)
            self._drain(1 << 20)
