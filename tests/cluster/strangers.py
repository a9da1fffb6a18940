"""Servers that discovery may meet: dashboards, things that are none, and things that never answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ws.cluster.endpoint import Endpoint

SESSION = "session_2026-11-21_10-00-00_000001_4711"
TOKEN = "0123456789abcdef" * 2


@contextmanager
def tcp(speak: Callable[[socket.socket, threading.Event], None]) -> Iterator[Endpoint]:
    """A TCP server that hands each connection to `speak`, with an event that is set when the server ends."""
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            speak(connection, over)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=talk, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=serve)]
        threads[0].start()
        try:
            yield Endpoint("127.0.0.1", listener.getsockname()[1])
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def saying(words: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Reads a request, says `words`, and hangs up."""

    def speak(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(words)

    return speak


def silence(_: socket.socket, over: threading.Event) -> None:
    over.wait()


def dripping(connection: socket.socket, over: threading.Event) -> None:
    """An HTTP answer of which one more byte comes now and then, for ever."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    while not over.wait(0.05):
        connection.sendall(b"x")


@contextmanager
def http(answers: Mapping[str, object], token: str = "", given: list[str] | None = None) -> Iterator[Endpoint]:
    """An HTTP server: path (without its query) → a JSON value, a text, or a status; with `token`, as Ray's dashboard.

    Every Authorization header that it is sent goes to `given`.
    """
    headers = [] if given is None else given

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            own = self.headers.get("Authorization", "")
            headers.extend([own] if own else [])
            if token and path not in ("/api/authentication_mode", "/api/gcs_healthz") and own != f"Bearer {token}":
                self._answer(403 if own else 401, b"Unauthorized")
                return
            found = answers.get(path, 404)
            if isinstance(found, int):
                self._answer(found, b"")
            else:
                self._answer(200, (found if isinstance(found, str) else json.dumps(found)).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: what pytest prints is about tests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Endpoint("127.0.0.1", server.server_port)
        finally:
            server.shutdown()
            thread.join()


def dashboard_answers(
    session: str = SESSION, ray: str = "2.60.0", nodes: int = 2, *, auth: str = "disabled"
) -> dict[str, object]:
    """What a real dashboard says (Ray 2.60)."""
    row = {"node_id": "ab" * 28, "state": "ALIVE"}
    return {
        "/api/version": {"version": "4", "ray_version": ray, "ray_commit": "", "session_name": session},
        "/api/authentication_mode": {"authentication_mode": auth},
        "/api/gcs_healthz": "success",
        "/api/v0/cluster_metadata": {"data": {"rayVersion": ray, "pythonVersion": "3.11.7"}},
        "/api/v0/nodes": {"data": {"result": {"total": nodes, "num_filtered": nodes, "result": [row]}}},
    }


@contextmanager
def grpc_server(methods: Mapping[str, Callable[[bytes], bytes]], token: str = "") -> Iterator[Endpoint]:
    """A gRPC server with these methods (`/service/method` → reply of a request); each wants the token where there is one."""
    import grpc

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, call: Any) -> Any:
            method = methods.get(call.method)
            if method is None:
                return None
            given = dict(call.invocation_metadata).get("authorization")

            def reply(request: bytes, context: Any) -> bytes:
                if token and given != f"Bearer {token}":
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")
                return method(request)

            return grpc.unary_unary_rpc_method_handler(reply)

    server = grpc.server(ThreadPoolExecutor(4), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield Endpoint("127.0.0.1", port)
    finally:
        server.stop(None).wait()
