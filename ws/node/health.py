"""The health server: answers `GET /` with OK, grants the lease, keeps the gate."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ws.node.fields import BadRequest, Body, Fields
from ws.node.gate import Gate, gate_routes
from ws.node.http_service import App, HttpService
from ws.node.lease import Change, Lease, LeaseBook, Outcome
from ws.node.lease_store import JournalledBook
from ws.node.log import BAD, GOOD, STEP, say
from ws.node.signals import set_on_signal

__all__ = ["App", "BadRequest", "Body", "Fields", "HttpService", "lease_routes", "main", "serve"]

_MARKS = {"granted": GOOD, "taken over": GOOD, "expired": BAD}


def main() -> int:
    """Serve with the settings of the environment until SIGTERM or SIGINT."""
    environ = os.environ
    try:
        port = int(environ.get("HEALTH_PORT") or 8080)
        slots = int(environ.get("WS_GATE_SLOTS") or os.cpu_count() or 1)
    except ValueError as error:
        say(f"HEALTH_PORT and WS_GATE_SLOTS are whole numbers: {error}", BAD)
        return 2
    host = environ.get("HEALTH_HOST") or "0.0.0.0"
    folder = Path(environ.get("WS_STATE_DIR") or "/state")
    return serve(host, port, folder, environ.get("RAY_AUTH_TOKEN_PATH") or None, slots)


def serve(host: str, port: int, state_dir: Path, token_path: str | None, slots: int) -> int:
    """Serve until SIGTERM or SIGINT; the answer is the exit code. Only the main thread may call it."""
    ended = threading.Event()
    set_on_signal(ended)
    try:
        token = _read_token(token_path)
        book = JournalledBook(state_dir, say, on_change=_log_change)
        service = HttpService({**lease_routes(book), **gate_routes(Gate(slots))}, host, port, token)
    except (OSError, ValueError) as error:
        say(f"the health server cannot start: {error}", BAD)
        return 1
    service.start()
    guard = "with a token" if token else "without a token"
    say(
        f"health server on {host}:{service.port}, {guard}, {slots} starts at a time, state in {state_dir}",
        GOOD,
    )
    ended.wait()
    service.stop()
    say("health server stopped", STEP)
    return 0


def lease_routes(book: LeaseBook, log: Callable[[str, str], None] = say) -> App:
    """`GET /lease`, and `POST /lease/acquire`, `/lease/renew`, `/lease/release`.

    A request that is understood and turned down is answered with 200 and `"ok": false`: it is an answer, no error.
    """
    lock = threading.Lock()

    def look(body: Body) -> tuple[int, dict[str, Any]]:
        with lock:
            return 200, {
                **describe(book, book.current),
                "history": [change.as_dict() for change in book.history],
            }

    def acquire(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        who = fields.text("candidate"), fields.text("instance"), fields.text("address")
        ttl, seen, young = fields.seconds("ttl"), fields.whole("seen_epoch", 0), fields.flag("young")
        with lock:
            return answer(lambda: book.acquire(*who, ttl, seen_epoch=seen, young=young))

    def renew(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        who = fields.text("candidate"), fields.text("instance")
        epoch, address = fields.whole("epoch"), fields.text("address", "")
        ttl = fields.seconds("ttl") if "ttl" in body else 0.0
        with lock:
            return answer(lambda: book.renew(*who, epoch, address, ttl))

    def release(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        who = fields.text("candidate"), fields.text("instance"), fields.whole("epoch")
        why = fields.text("why", "released by its holder")
        with lock:
            return answer(lambda: book.release(*who, why))

    def answer(request: Any) -> tuple[int, dict[str, Any]]:
        try:
            outcome: Outcome = request()
        except OSError as error:
            log(f"the lease cannot be kept on disk: {error}", BAD)
            return 503, {"error": f"the lease cannot be kept on disk: {error.strerror or error}"}
        return 200, {"ok": outcome.ok, "reason": outcome.reason, **describe(book, outcome.lease)}

    return {
        ("GET", "/lease"): look,
        ("POST", "/lease/acquire"): acquire,
        ("POST", "/lease/renew"): renew,
        ("POST", "/lease/release"): release,
    }


def describe(book: LeaseBook, lease: Lease | None) -> dict[str, Any]:
    """The lease in force, and what else a candidate decides by."""
    now = time.time()
    shown = None
    if lease:
        shown = {
            "holder": lease.holder,
            "instance": lease.instance,
            "address": lease.address,
            "epoch": lease.epoch,
            "granted_at": lease.granted_at,
            "held_for": max(0.0, now - lease.granted_at),
            "expires_in": book.expires_in,
        }
    return {"lease": shown, "released": book.released, "epoch": book.epoch, "now": now}


def _log_change(change: Change) -> None:
    say(
        f"lease {change.what}: {change.holder}, epoch {change.epoch} ({change.why})",
        _MARKS.get(change.what, STEP),
    )


def _read_token(path: str | None) -> str:
    if path is None:
        return ""
    token = Path(path).read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"the token file {path} is empty")
    return token
