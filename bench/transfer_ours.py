"""`ws.transfer` as bench/transfer.py calls it: one open session, then a transfer a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from transfer_nodes import CLIENT_PORT, DATA, Node

from ws.cluster.connect import Wish
from ws.node.secret import Secret
from ws.transfer.coordinator import send
from ws.transfer.history import History
from ws.transfer.session import Session


class Ours:
    """A session with the cluster of a project folder, over Ray Client, as from any machine that reaches its entry."""

    def __init__(self, folder: Path) -> None:
        token = Secret((folder / ".ws" / "token").read_text().strip())
        self._history = History(folder / "history")
        self._session = Session.open(Wish(f"ray://127.0.0.1:{CLIENT_PORT}", token=token))
        self._ids = {node.seen.name: node.id for node in self._session.nodes}
        self.start_actors()

    def start_actors(self) -> None:
        """They end after a minute without a transfer, which peers' runs may take; the peers' servers stay started, too."""
        for node_id in self._ids.values():
            party = self._session.party(node_id)
            if "blake3" not in party.algorithms:
                raise SystemExit(f"{node_id} lacks BLAKE3, which the bench speaks of: tools/get-peers image")

    def send(self, sender: Node, recipients: Sequence[Node], name: str, plane: str, algorithm: str = "auto") -> None:
        """DATA/NAME of one node to DATA/in/NAME of others; a recipient that fails ends the bench."""
        source = f"{self._ids[sender.hostname]}:{DATA}/{name}"
        ids = [self._ids[node.hostname] for node in recipients]
        options: dict[str, Any] = {"plane": plane, "hash": algorithm, "fsync": False, "history": self._history}
        outcome = send(self._session, source, ids, dest=f"{DATA}/in/", **options)
        if len(outcome.receipts) < len(ids):
            raise SystemExit(f"ws: {outcome}")

    def __enter__(self) -> Ours:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._session.close()
        self._history.close()
