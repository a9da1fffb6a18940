"""A Docker daemon of which only the version is there: for engines too old or too slow to have at hand."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


@contextmanager
def daemon(socket: Path, version: dict[str, Any] | None, status: int = 200) -> Iterator[str]:
    """Serve `GET /version` on a Unix socket, and 500 to all else; yields its DOCKER_HOST.

    Without a version it takes requests in silence.
    """
    silent_until = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if version is None:
                silent_until.wait()
                return
            asked_for_it = self.path.endswith("/version")
            body = json.dumps(version if asked_for_it else {"message": "only the version is here"}).encode()
            self.send_response(status if asked_for_it else 500)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

        def log_message(self, *_: Any) -> None:
            """Nothing: what pytest prints is about tests."""

    with socketserver.ThreadingUnixStreamServer(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="fake daemon", kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"unix://{socket}"
        finally:
            silent_until.set()
            server.shutdown()
            thread.join()
