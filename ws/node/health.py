"""The health server: answers `GET /` with OK, grants the lease, keeps the gate."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ws.node.fields import BadRequest, Body, Fields
from ws.node.gate import Gate, gate_routes
from ws.node.http_service import App, Handler, HttpService
from ws.node.lease import Change, Lease, LeaseBook, Outcome
from ws.node.lease_store import JournalledBook
from ws.node.log import BAD, GOOD, STEP, say
from ws.node.secret import Secret
from ws.node.signals import set_on_signal

__all__ = ["App", "BadRequest", "Body", "Fields", "HttpService", "lease_routes", "main", "serve"]

LONGEST_TTL = 60.0
"""Seconds that a candidate may ask for where the server was not told how long a lease lasts."""

_MARKS = {"granted": GOOD, "taken over": GOOD, "expired": BAD}


def main() -> int:
    """Serve with the settings of the environment until SIGTERM or SIGINT."""
    environ = os.environ
    try:
        port = int(environ.get("HEALTH_PORT") or 8080)
        slots = int(environ.get("WS_GATE_SLOTS") or os.cpu_count() or 1)
        ttl = float(environ.get("LEASE_TTL") or 0)
    except ValueError as error:
        say(f"HEALTH_PORT and WS_GATE_SLOTS are whole numbers, LEASE_TTL is one of seconds: {error}", BAD)
        return 2
    if not (math.isfinite(ttl) and 0 <= ttl <= 3600):
        say(f"LEASE_TTL={ttl:g} is out of range: 0 (as the candidates say) to 3600 seconds", BAD)
        return 2
    host = environ.get("HEALTH_HOST") or "0.0.0.0"
    folder = Path(environ.get("WS_STATE_DIR") or "/state")
    whitelist = [name.strip() for name in environ.get("HEAD_WHITELIST", "").split(",") if name.strip()]
    return serve(host, port, folder, environ.get("RAY_AUTH_TOKEN_PATH") or None, slots, whitelist=whitelist, ttl=ttl)


def serve(
    host: str,
    port: int,
    state_dir: Path,
    token_path: str | None,
    slots: int,
    *,
    whitelist: Sequence[str] = (),
    ttl: float = 0.0,
) -> int:
    """Serve until SIGTERM or SIGINT; the answer is the exit code. Only the main thread may call it.

    `whitelist` and `ttl` are those of `lease_routes`.
    """
    ended = threading.Event()
    set_on_signal(ended)
    try:
        token = _read_token(token_path)
        book = JournalledBook(state_dir, say, on_change=_log_change)
        routes = {**lease_routes(book, whitelist=whitelist, ttl=ttl), **gate_routes(Gate(slots))}
        service = HttpService(routes, host, port, token)
    except (OSError, ValueError) as error:
        say(f"the health server cannot start: {error}", BAD)
        return 1
    service.start()
    guard = "with a token" if token else "without a token"
    say(
        f"health server on {host}:{service.port}, {guard}, {slots} starts at a time, state in {state_dir}",
        GOOD,
    )
    while not ended.wait(0.2):  # a wait without end is not woken by a signal that another thread was handed
        pass
    service.stop()
    say("health server stopped", STEP)
    return 0


def lease_routes(
    book: LeaseBook, log: Callable[[str, str], None] = say, *, whitelist: Sequence[str] = (), ttl: float = 0.0
) -> App:
    """`GET /lease`, and `POST /lease/acquire`, `/lease/renew`, `/lease/release`.

    A request that is understood and turned down is answered with 200 and `"ok": false`: it is an answer, no error.

    Args:
        whitelist: who may ask for a lease; others are answered with 403. Empty: everyone may.
        ttl: seconds that a lease lasts, whatever a candidate asks for. 0: what it asks for, up to `LONGEST_TTL`.
    """
    lock = threading.Lock()

    def candidate(fields: Fields) -> str:
        name = fields.text("candidate")
        if whitelist and name not in whitelist:
            raise _NoCandidateError(f"{name} is not in the health server's whitelist ({', '.join(whitelist)})")
        return name

    def lasting(asked: float) -> float:
        return ttl or min(asked, LONGEST_TTL)

    def look(body: Body) -> tuple[int, dict[str, Any]]:
        with lock:
            return 200, {
                **describe(book, book.current),
                "history": [change.as_dict() for change in book.history],
            }

    def acquire(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        who = candidate(fields), fields.text("instance"), fields.text("address")
        span, seen, young = lasting(fields.seconds("ttl")), fields.whole("seen_epoch", 0), fields.flag("young")
        with lock:
            return answer(lambda: book.acquire(*who, span, seen_epoch=seen, young=young))

    def renew(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        who = candidate(fields), fields.text("instance")
        epoch, address = fields.whole("epoch"), fields.text("address", "")
        span = lasting(fields.seconds("ttl")) if "ttl" in body else 0.0
        with lock:
            return answer(lambda: book.renew(*who, epoch, address, span))

    def release(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        who = candidate(fields), fields.text("instance"), fields.whole("epoch")
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
        ("POST", "/lease/acquire"): _for_candidates(acquire),
        ("POST", "/lease/renew"): _for_candidates(renew),
        ("POST", "/lease/release"): _for_candidates(release),
    }


class _NoCandidateError(Exception):
    """Somebody outside the whitelist asks for the lease."""


def _for_candidates(handler: Handler) -> Handler:
    def handle(body: Body) -> tuple[int, dict[str, Any]]:
        try:
            return handler(body)
        except _NoCandidateError as refusal:
            return 403, {"error": str(refusal)}

    return handle


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
            "ttl": lease.ttl,
        }
    return {"lease": shown, "released": book.released, "epoch": book.epoch, "now": now}


def _log_change(change: Change) -> None:
    say(
        f"lease {change.what}: {change.holder}, epoch {change.epoch} ({change.why})",
        _MARKS.get(change.what, STEP),
    )


def _read_token(path: str | None) -> Secret:
    if path is None:
        return Secret()
    token = Path(path).read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"the token file {path} is empty")
    return Secret(token)
