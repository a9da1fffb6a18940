"""Flags of `ws up` as overrides of the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CLIENT_PORT = 10001
HEAD_PORT = 6379


def head_and_workers(
    workers: int | None,
    head_port: int | None,
    dashboard_port: int | None,
    client_port: int | None,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """The overrides for `--workers` and the port flags.

    With `--workers N` the cluster is one candidate, `ray-cpu`, and N workers `ray-worker`, `ray-worker-2`, …; without,
    the port flags change the node `cpu` of the config.
    """
    ports = {"head_port": head_port, "dashboard_port": dashboard_port, "client_port": client_port}
    given = {name: port for name, port in ports.items() if port is not None}
    if head_port is not None and head_port == (client_port or CLIENT_PORT):
        # What `--head-port 10001` asks for is taken by Ray Client's default, which then makes room.
        given["client_port"] = head_port + 1
        warn(f"Ray Client moves to port {head_port + 1}: {head_port} is the head's GCS port now")
    overrides: dict[str, Any] = {"services": {"ray": {"cpu": given}}} if given else {}
    if workers is None:
        return overrides
    nodes: dict[str, Any] = {"cpu": given, "gpu": None}
    if workers:
        nodes["worker"] = {"replicas": workers, "head_port": None, "dashboard_port": None, "client_port": None}
    return {"services": {"ray": nodes}, "nodes": {"head_whitelist": ["ray-cpu"]}}
