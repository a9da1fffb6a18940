"""Waiting for a head's port, and saying what was wrong where it never opened."""

from __future__ import annotations

import socket
import threading
import time

_POLL = 0.05
_CONNECT_TIMEOUT = 2.0


def split(address: str) -> tuple[str, int]:
    """`host:port` as (host, port)."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def try_connect(address: str) -> str | None:
    """None where something accepts at `address` (host:port), else what stood in the way, and what to do."""
    host, port = split(address)
    try:
        ip = socket.gethostbyname(host)
    except (OSError, UnicodeError):  # the latter for what can't be a name at all
        return (
            f"the name {host!r} does not resolve here; give this container an `extra_hosts` entry for it, "
            "or use a name that this network knows"
        )
    place = address if ip == host else f"{address} ({ip})"
    try:
        socket.create_connection((ip, port), timeout=_CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return f"{place} refuses the connection: nothing listens there; is the head up, and is this its port?"
    except (TimeoutError, socket.timeout):
        return f"{place} does not answer: packets vanish; look at firewalls and at which address the port is published"
    except OSError as error:
        return f"{place} can't be reached ({error.strerror or error})"
    return None


def wait_for_port(address: str, timeout: float, stopping: threading.Event) -> str | None:
    """Wait up to `timeout` seconds until `address` accepts; returns None, or the last obstacle."""
    deadline = time.monotonic() + timeout
    while True:
        obstacle = try_connect(address)
        if obstacle is None or time.monotonic() >= deadline or stopping.is_set():
            return obstacle
        stopping.wait(_POLL)
