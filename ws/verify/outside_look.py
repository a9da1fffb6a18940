"""Looking at the nodes of a cluster for as long as a run lasts, by a program in the background."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ws.errors import Inconclusive
from ws.verify.outside_local import HERE, LocalRuns
from ws.verify.programs import argv, events, leave
from ws.wait import NotYet, WaitTimeout, wait_for

_SECOND = 1.0
_SILENCE = 20.0  # seconds without an answer about the nodes that are no mere hiccup of a busy machine
_PATIENCE = 30.0  # seconds until no further attempt to connect is begun; Ray Client takes up to 30 for one
CONNECT_LIMIT = 70.0


@dataclass(frozen=True)
class Node:
    """A node as the cluster knows it; `cpus` are its logical CPUs.

    `why` is the reason for its death; `wanted`: it was told to end, or its autoscaler had no more work for it.
    """

    name: str
    id: str
    alive: bool
    head: bool
    address: str
    cpus: float
    why: str
    wanted: bool


@dataclass
class Life:
    """What is known of one node's life, up to the last answer about the nodes.

    `since`: when it was first seen alive, monotonic; `seconds`: for how long it was. `trouble`: what has happened to it;
    `left`: how it left the cluster because it should.
    """

    node: Node
    since: float
    seconds: float = 0.0
    trouble: str = ""
    left: str = ""

    @property
    def over(self) -> bool:
        return bool(self.trouble or self.left)

    def take(self, node: Node | None, now: float) -> None:
        """`node`: as it is told of at `now`, None where the cluster does not know it any more."""
        if self.over:
            return
        if node and node.alive:
            self.seconds = now - self.since
        elif node is None:
            self.trouble = "gone from the cluster's list of nodes"
        elif node.wanted and not self.node.head:
            self.left = f"it was ended as wanted ({node.why or 'no reason given'})"
        else:
            self.trouble = f"marked dead ({node.why or 'no reason given'})"


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
    settings: Mapping[str, str] | None = None
    """Those of the head's health check, as variables; None until the cluster has told them."""
    clock: Callable[[], float] = time.monotonic
    _trouble: str = ""
    """Why there was no answer last; empty after each answer."""
    _looked: float | None = None
    """When the last answer came."""
    _ended: bool = False
    _lives: dict[str, Life] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to look; once."""
        params = {"address": self.address, "interval": _SECOND, "patience": _PATIENCE, "pulse": True}
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
                self._take([Node(**node) for node in event["nodes"]])
            elif event["event"] == "same":
                self._take([life.node for life in self._lives.values() if not life.over])
            elif event["event"] == "settings":
                self.settings = event["environment"]
            elif event["event"] == "refused":
                self.refused = event["why"]
            else:
                self._trouble = self._trouble or str(event.get("why", "it ended"))
        self._ended = True

    def _take(self, nodes: list[Node]) -> None:
        now = self.clock()
        known = {node.id: node for node in nodes}
        for life in list(self._lives.values()):
            life.take(known.get(life.node.id), now)
        for node in nodes:
            if node.alive and node.id not in self._lives:
                self._lives[node.id] = Life(node, now)
        self._looked, self._trouble = now, ""

    @property
    def lost(self) -> str:
        """Why the nodes can't be seen any more; empty while they can, and during a short silence."""
        if self._ended:
            return self._trouble or "the program that looks at the nodes ended"
        silence = self.clock() - self._looked if self._looked is not None else 0.0
        if silence < _SILENCE:
            return ""
        return f"nothing was heard of the nodes for {silence:.0f} s{f': {self._trouble}' if self._trouble else ''}"

    def await_nodes(self, timeout: float = CONNECT_LIMIT) -> list[Node]:
        """The nodes that live, once there are any; raises Inconclusive where none can be seen."""

        def seen() -> list[Node]:
            if why := self.refused or self.lost:
                raise Inconclusive("the nodes can't be seen", why.splitlines()[0])
            nodes = [life.node for life in self.lives() if not life.over]
            if not nodes:
                raise NotYet(self._trouble or "no node is alive")
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

    def await_settings(self, timeout: float) -> Mapping[str, str]:
        """The head's settings, once it has told them; none where it does not in time."""

        def told() -> Mapping[str, str]:
            if self.settings is None and not (self.refused or self.lost):
                raise NotYet("no answer")
            return self.settings or {}

        try:
            return wait_for("the head's settings", told, timeout=timeout, interval=0.1)
        except WaitTimeout:
            return {}

    def lives(self) -> list[Life]:
        """Those of every node that was ever alive."""
        return list(self._lives.values())

    def left(self, name: str) -> str:
        """How the node of this name left because it should; empty where it did not."""
        return next((life.left for life in self.lives() if life.node.name == name and life.left), "")
