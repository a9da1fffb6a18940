"""Whether a port of this machine is free, and who holds it."""

from __future__ import annotations

import socket

import psutil


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen at this address of this machine; an address that is not ours counts as free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Docker's and Ray's servers do: a connection in TIME_WAIT holds nobody up.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            return True
        except OSError as error:
            return error.errno not in (98, 48)  # EADDRINUSE on Linux and macOS
    return True


def holder(address: str, port: int) -> str | None:
    """The process that listens there, as `name (pid 123)`, or None where it can't be seen."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
            continue
        if connection.laddr.port == port and covers(connection.laddr.ip, address):
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return None


def covers(listening: str, address: str) -> bool:
    """Whether a server at `listening` keeps `address` from being used: the same one, or all of them on either side."""
    everywhere = ("0.0.0.0", "::", "")
    return listening.removeprefix("::ffff:") == address or listening in everywhere or address in everywhere
