"""The sender of a transfer as its coordinator sees it: what it offers, its hashes, and that it is still there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ws.transfer.hearing import Hearing
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
        ending: threading.Event | None = None,
    ) -> None:
        self.id = party_id
        self.hearing = Hearing(party_id, ending)
        self.algorithm = ""
        self.remote: Remote
        self.about: dict[str, Any] = {}
        self._connect, self._path, self._tid, self._secret = connect, path, tid, secret
        self._options: dict[str, Any] = {"chunk_size": chunk_size, "limit": limit, "name": party_id}
        self._lock = threading.Lock()  # held while it is started anew
        self._asking = threading.Lock()
        self._asked: Future[Any] | None = None
        self._hashes: dict[str, Any] = {}

    @property
    def total(self) -> int:
        return int(self.about.get("total", 0))

    def connect(self) -> None:
        self.remote = self._connect(self.id, False)

    def offer(self, algorithm: str) -> None:
        """Raises TransferProblem: no-such-file, outside-roots, …"""
        self.algorithm = self._options["algorithm"] = algorithm
        self.about = result(self._ask_to_offer(), self.id)

    def hashes(self) -> bytes:
        """The hash of every chunk, 32 bytes each; what is not known yet is read at the sender."""
        if not self._hashes:
            asked = self._ask_hashes()
            try:
                self._hashes = self.hearing.wait(asked)
            except TransferProblem:
                self._forget(asked)
                raise
        hashes: bytes = self._hashes["hashes"]
        return hashes

    def _ask_hashes(self) -> Future[Any]:
        """One question for all who wait."""
        with self._asking:
            if self._asked is None:
                self._asked = ask(self.remote, "hashes", self._tid)
            return self._asked

    def _forget(self, asked: Future[Any]) -> None:
        with self._asking:
            if self._asked is asked:
                self._asked = None

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
            self.hearing.began_anew()
            about = self.hearing.wait(self._ask_to_offer())
            if about["content"] != self.about["content"]:
                raise TransferProblem(SOURCE_CHANGED, "the source changed while its sender was away", mend="send it again")
            return True

    def _ask_to_offer(self) -> Future[Any]:
        return ask(self.remote, "offer", self._tid, self._path, self._secret, self._options)
