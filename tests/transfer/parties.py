"""Parties of this process that reach each other over loopback, as a cluster of nodes would; faults are caused by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from tests.transfer.made_up_ray import MadeUpActor
from ws.transfer.here import HereParty
from ws.transfer.onnode.party import Party
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.onnode.ray_link import links
from ws.transfer.remote import LocalRemote, Remote
from ws.transfer.targets import HERE

R = TypeVar("R", bound=LocalRemote)


class NodeRemote(LocalRemote):
    """A party that stands for an actor: once killed, no call is answered."""

    def __init__(self, party_id: str, party: Party) -> None:
        super().__init__(party_id, party)
        self.dead = threading.Event()
        self.frozen = threading.Event()
        """It is alive, as far as anyone can tell, and answers nothing any more."""
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda method: None
        self.actor = MadeUpActor(self.call)

    def call(self, method: str, *args: Any) -> Future[Any]:
        self.calls.append(method)
        if self.dead.is_set():
            raise ConnectionError("the actor died")
        self.before(method)
        if self.frozen.is_set():
            return Future()
        answer = super().call(method, *args)
        told: Future[Any] = Future()
        answer.add_done_callback(lambda done: self._hand_over(done, told))
        return told

    def _hand_over(self, done: Future[Any], told: Future[Any]) -> None:
        if self.frozen.is_set():
            return
        if self.dead.is_set():
            told.set_exception(ConnectionError("the actor died"))
        elif error := done.exception():
            told.set_exception(error)
        else:
            told.set_result(done.result())

    def lift_limit(self, tid: str) -> None:
        """What is left of that transfer comes as fast as it can, where it has not ended here."""
        if part := self.party._parts.get(tid):
            part.limiter._rate = 0.0

    def kill(self) -> None:
        """As a process that is killed: its connections break, and its files are left as they are."""
        self.dead.set()
        self.party.stop()


class Cluster:
    """As a `Session`: `party` gives each node's, each with a folder of its own as root."""

    plane = "auto"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remotes: dict[str, NodeRemote] = {}
        self.here: LocalRemote | None = None
        self.gone: set[str] = set()
        self.deaf: set[str] = set()
        """Nodes that listen nowhere."""
        self.ports: dict[str, int] = {}
        """Nodes with a transfer port of their own."""
        self.on_start: Callable[[NodeRemote], None] = lambda remote: None
        self._all: list[LocalRemote] = []
        self._lock = threading.Lock()

    def root(self, node: str) -> Path:
        root = self.folder / node
        root.mkdir(exist_ok=True)
        return root

    def party(self, party_id: str, fresh: bool = False) -> Remote:
        with self._lock:
            if party_id == HERE:
                self.here = self.here or self._keep(LocalRemote(HERE, HereParty(links)))
                return self.here
            if party_id in self.gone:
                raise TransferProblem(LOST, f"{party_id} is not there")
            known = self.remotes.get(party_id)
            if known is None or (fresh and known.dead.is_set()):
                environ = {"WS_TRANSFER_ROOTS": str(self.root(party_id)), "WS_TRANSFER_BIND": "127.0.0.1"}
                if party_id in self.ports:
                    environ["WS_NODE_PORTS"] = f"transfer={self.ports[party_id]}"
                party = Party(party_id, environ=environ, listen=party_id not in self.deaf, links=links)
                known = self.remotes[party_id] = self._keep(NodeRemote(party_id, party))
                self.on_start(known)
            return known

    def _keep(self, remote: R) -> R:
        self._all.append(remote)
        return remote

    def close(self) -> None:
        for remote in self._all:
            remote.close()
