"""The sender of a transfer as its coordinator sees it: what it offers, its hashes, and that it is still there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ws.transfer.onnode.problems import LOST, SOURCE_CHANGED, TransferProblem
from ws.transfer.remote import Remote, ask, result

Connect = Callable[[str, bool], Remote]
"""The party of that id; True: another one, as the last is gone."""

_ANSWER = 15.0


class Sender:
    """Offers the source once, and again where its actor had to be started anew. Several threads use it at once."""

    def __init__(
        self,
        connect: Connect,
        party_id: str,
        path: str,
        tid: str,
        secret: bytes,
        chunk_size: int,
        limit: float | None = None,
    ) -> None:
        self.id = party_id
        self.algorithm = ""
        self.remote: Remote
        self.about: dict[str, Any] = {}
        self._connect, self._path, self._tid, self._secret = connect, path, tid, secret
        self._options: dict[str, Any] = {"chunk_size": chunk_size, "limit": limit, "name": party_id}
        self._lock = threading.Lock()
        self._hashes: dict[str, Any] = {}

    @property
    def total(self) -> int:
        return int(self.about.get("total", 0))

    def connect(self) -> None:
        self.remote = self._connect(self.id, False)

    def offer(self, algorithm: str) -> None:
        """Raises TransferProblem: no-such-file, outside-roots, …"""
        self.algorithm = self._options["algorithm"] = algorithm
        self.about = self._offer()

    def hashes(self) -> bytes:
        """The hash of every chunk, 32 bytes each; what is not known yet is read at the sender."""
        with self._lock:
            if not self._hashes:
                self._hashes = result(ask(self.remote, "hashes", self._tid), self.id)
            hashes: bytes = self._hashes["hashes"]
            return hashes

    @property
    def root_hash(self) -> str:
        return str(self._hashes.get("root", ""))

    def revive(self) -> bool:
        """Make sure that it is there: where it is gone, start it anew and offer again; True where that was needed."""
        with self._lock:
            try:
                result(ask(self.remote, "progress", self._tid), self.id, _ANSWER)
                return False
            except TimeoutError:
                pass
            except TransferProblem as problem:
                if problem.code != LOST:
                    raise
            self.remote = self._connect(self.id, True)
            about = self._offer()
            if about["content"] != self.about["content"]:
                raise TransferProblem(SOURCE_CHANGED, "the source changed while its sender was away", mend="send it again")
            return True

    def _offer(self) -> dict[str, Any]:
        return result(ask(self.remote, "offer", self._tid, self._path, self._secret, self._options), self.id)
