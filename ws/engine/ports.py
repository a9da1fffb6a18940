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


def holder(port: int) -> str | None:
    """The process that listens on a port, as `name (pid 123)`, or None where it can't be seen."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return None
