"""Looking at the nodes of a cluster for as long as a run lasts, by a program in the background."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from ws.errors import Inconclusive
from ws.verify.outside_local import HERE, LocalRuns
from ws.verify.programs import argv, events, leave
from ws.wait import NotYet, WaitTimeout, wait_for

_SECOND = 1.0
_PATIENCE = 30.0  # seconds until no further attempt to connect is begun; Ray Client takes up to 30 for one
CONNECT_LIMIT = 70.0


@dataclass(frozen=True)
class Node:
    """A node as the cluster knows it; `why` is the reason for its death, `cpus` its logical CPUs."""

    name: str
    id: str
    alive: bool
    head: bool
    address: str
    cpus: float
    why: str


@dataclass
class _Life:
    node: Node
    since: float
    """When it was first seen alive, monotonic."""
    trouble: str = ""


@dataclass
class Connection:
    """What the program could say of connecting: the cluster's versions, and the dashboard as the head knows it."""

    ray: str = ""
    python: str = ""
    dashboard: str | None = None


@dataclass
class Outlook:
    """The nodes of the cluster at `address`, seen by the program `nodes` or `watch`; from `start` until `close`."""

    runs: LocalRuns
    address: str
    program: str
    connection: Connection | None = None
    refused: str = ""
    """Why it could not connect, in Ray's own words."""
    lost: str = ""
    """Why it can't see the nodes any more; empty while it can."""
    _lives: dict[str, _Life] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to look; once."""
        params = {"address": self.address, "interval": _SECOND, "patience": _PATIENCE}
        self._process = self.runs.spawn(HERE, argv(self.program, params))
        coming = events(self._process)
        threading.Thread(target=self._listen, args=(coming,), name="outlook", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        if self._process:
            leave(self._process, done=False)

    def _listen(self, coming: queue.Queue[dict[str, Any] | None]) -> None:
        while (event := coming.get()) is not None and not self._closed.is_set():
            if event["event"] == "connected":
                self.connection = Connection(event["ray"], event["python"], event["dashboard"])
            elif event["event"] == "nodes":
                self.lost = ""
                self._take([Node(**node) for node in event["nodes"]])
            elif event["event"] == "refused":
                self.refused = event["why"]
            else:
                self.lost = self.lost or str(event.get("why", "it ended"))

    def _take(self, nodes: list[Node]) -> None:
        known = {node.id: node for node in nodes}
        for life in self._lives.values():
            now = known.get(life.node.id)
            if life.trouble or (now and now.alive):
                continue
            life.trouble = (
                f"marked dead ({now.why or 'no reason given'})" if now else "gone from the cluster's list of nodes"
            )
        for node in nodes:
            if node.alive and node.id not in self._lives:
                self._lives[node.id] = _Life(node, time.monotonic())

    def await_nodes(self, timeout: float = CONNECT_LIMIT) -> list[Node]:
        """The nodes that live, once there are any; raises Inconclusive where none can be seen."""

        def seen() -> list[Node]:
            if self.refused or (self.lost and self.program != "watch"):
                raise Inconclusive("the nodes can't be seen", (self.refused or self.lost).splitlines()[0])
            nodes = [life.node for life in list(self._lives.values()) if not life.trouble]
            if not nodes:
                raise NotYet(self.lost or "no node is alive")
            return nodes

        try:
            return wait_for("a living node", seen, timeout=timeout, interval=0.1)
        except WaitTimeout as late:
            raise Inconclusive("the nodes can't be seen", late.why) from None

    def await_connection(self, timeout: float = CONNECT_LIMIT) -> None:
        """Return once it is connected, or was refused, or nothing came of it in time."""

        def settled() -> None:
            if not (self.connection or self.refused or self.lost):
                raise NotYet("no answer")

        try:
            wait_for("an answer", settled, timeout=timeout, interval=0.1)
        except WaitTimeout:
            self.refused = f"no answer within {timeout:g} s"

    def lives(self) -> list[tuple[Node, float, str]]:
        """Every node that was ever alive: itself, seconds since it was first seen alive, and what has happened to it."""
        now = time.monotonic()
        return [(life.node, now - life.since, life.trouble) for life in list(self._lives.values())]
