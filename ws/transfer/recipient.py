"""One recipient of a transfer as its coordinator sees it: accept, pull, settle, and trying again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ws.transfer.events import Receipt
from ws.transfer.hearing import Hearing
from ws.transfer.onnode.hashing import SHA256
from ws.transfer.onnode.problems import BAD_CHUNK, BUSY, LOST, STALLED, UNREACHABLE, TransferProblem
from ws.transfer.planning import RAY, Leg
from ws.transfer.remote import Remote, ask, lost

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


class Recipient:
    """Its state: `waiting`, `running`, then `done` with a receipt or `failed` with a problem.

    One thread drives it; the ticker reads it and notes what `progress` answers.

    Attributes: `is_lost`: its party, or what that knew of the transfer, is gone; `is_interrupted`: it was told to end its
    attempt, as the sender began anew; `spec`: what it was asked to accept;
    `had`, `chunks`: bytes that were there when it began, and how many chunks were not; `avoids`: who is not to serve it
    any more, and `passes_over`: not in the next attempt.
    """

    def __init__(self, party_id: str, tid: str, ending: threading.Event | None = None) -> None:
        self.id = party_id
        self.state = WAITING
        self.remote: Remote | None = None
        self.leg: Leg | None = None
        self.hearing = Hearing(party_id, ending)
        self.accepted = False
        self.is_lost = self.is_interrupted = False
        self.spec: dict[str, Any] = {}
        self.place = ""
        self.done_bytes = 0
        self.had = 0
        self.chunks = self.chunk_size = 0
        self.retries = 0
        self.avoids: set[str] = set()
        self.passes_over: set[str] = set()
        self.problem: TransferProblem | None = None
        self.receipt: Receipt | None = None
        self._tid = tid
        self._began: float | None = None  # the first time that it was accepted
        self._stream_retries = self._former_retries = 0

    @property
    def ended(self) -> bool:
        return self.state in {DONE, FAILED}

    @property
    def party(self) -> Remote:
        """Its party; the problem `lost` where it has none yet."""
        if self.remote is None:
            raise lost(self.id, "its actor could not be started")
        return self.remote

    @property
    def stream_retries(self) -> int:
        """Those that its party made by itself."""
        return self._former_retries + self._stream_retries

    def accept(self, spec: dict[str, Any], chunks: int, hashes: Callable[[], bytes]) -> None:
        """Make it ready for so many chunks; `hashes` are asked for where files are in the way."""
        before, self.spec = self.spec, spec
        try:
            answer = self.wait(ask(self.party, "accept", self._tid, spec))
        except TransferProblem as problem:
            if problem.code != LOST:
                self.spec = before  # it has not begun: what is there is not of this transfer
            raise
        self.place = answer["place"]
        if answer["existing"]:
            answer = {**answer, **self.wait(ask(self.party, "existing", self._tid, hashes()))}
        self.done_bytes = answer["done"]
        self._former_retries, self._stream_retries = self.stream_retries, 0
        if self._began is None:
            self._began = time.monotonic()
            self.had, self.chunk_size = answer["done"], spec["chunk_size"]
            self.chunks = int(answer.get("missing", chunks))
        self.accepted = True

    def pull(self, peers: list[dict[str, Any]], options: dict[str, Any] | None = None) -> None:
        """Let it receive all; returns when it has."""
        self.note(self.wait(ask(self.party, "pull", self._tid, peers, options or {})))

    def settle(self, hashes: bytes) -> int:
        """Let it publish what it has; returns how many chunks were wrong, and are missing again."""
        answer = self.wait(ask(self.party, "settle", self._tid, hashes))
        if "bad" in answer:
            return int(answer["bad"])
        self.receipt = self._receipt(answer["receipt"])
        return 0

    def wait(self, future: Future[Any]) -> dict[str, Any]:
        """Its answer, however long it takes, unless the party is silent altogether."""
        self.is_lost = False
        try:
            return self.hearing.wait(future)
        except TransferProblem as problem:
            self.is_lost = problem.code == LOST
            raise

    def note(self, progress: dict[str, Any]) -> None:
        self.done_bytes = int(progress["done"])
        self._stream_retries = int(progress["retries"])

    def _receipt(self, told: dict[str, Any]) -> Receipt:
        leg = self.leg or Leg(self.id, "", RAY)
        return Receipt(
            root_hash=told["hash"],
            bytes=told["bytes"],
            seconds=round(time.monotonic() - (self._began or 0.0), 3),
            plane=leg.plane,
            place=told["path"],
            path=leg.path,
            retries=self.retries + self.stream_retries,
            had=self.had,
            chunks=self.chunks,
            chunk_size=self.chunk_size,
            kept=tuple(told.get("kept", ())),
            kept_count=int(told.get("kept_count", 0)),
            algorithm=str(told.get("algorithm", SHA256)),
        )


def is_worth_a_retry(problem: TransferProblem) -> bool:
    """Whether the same may succeed a little later; a full disk or a refused name will not."""
    return problem.code in _PASSING


_PASSING = {LOST, STALLED, UNREACHABLE, BAD_CHUNK, BUSY}
