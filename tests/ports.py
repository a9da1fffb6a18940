"""Ports for the servers of tests."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, closing

# Below the ports that outgoing connections take, and below those of `tests/clusters.py`: a port that is free now is not
# taken by chance before its server starts.
_RANGE = range(10_100, 20_000)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, at any address, and that no other call in this process was given."""
    ports: list[int] = []
    with ExitStack() as held:
        for port in random.sample(_RANGE, len(_RANGE)):
            if len(ports) == count:
                _given.update(ports)
                return ports
            if port in _given:
                continue
            try:
                held.enter_context(closing(socket.create_server(("", port))))
            except OSError:
                continue
            ports.append(port)
    raise AssertionError(f"no {count} ports of {_RANGE} are free")


def free_port() -> int:
    return free_ports(1)[0]
