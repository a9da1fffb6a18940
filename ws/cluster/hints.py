"""What a way of finding hands over: where a cluster may answer, and what is known of it without asking."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from ws.cluster.endpoint import Endpoint
from ws.node.secret import Secret

ENTRY_PORTS = ("RAY_HEAD_PORT", "RAY_DASHBOARD_PORT", "RAY_CLIENT_PORT")
"""The variables that tell a node of `ws` the ports of its entries (`ws.node.settings`)."""


class Way(enum.StrEnum):
    """A way of finding clusters, as records name it."""

    address = "RAY_ADDRESS"
    processes = "processes"
    files = "files"
    containers = "containers"
    ports = "ports"


@dataclass(frozen=True)
class Hint:
    """One thing that points to a cluster.

    Attributes:
        endpoints: where something of it may answer.
        node_id: of one of its nodes.
        runs: something of it runs now (a process, a container).
        claims: what answers at `endpoints` is its own, even where that can't be asked: its own process listens there.
        folder: its session's folder on this machine.
        token: its own token, where this user may read it.
        place: where it was found, in words.
    """

    way: Way
    endpoints: tuple[Endpoint, ...] = ()
    session: str | None = None
    cluster_id: str | None = None
    node_id: str | None = None
    runs: bool = False
    claims: bool = False
    folder: Path | None = None
    token: Secret | None = None
    place: str = ""
