"""One recipient of a transfer as its coordinator sees it: accept, pull, settle, and trying again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Any

from ws.transfer.events import Receipt
from ws.transfer.onnode.hashing import SHA256
from ws.transfer.onnode.problems import LOST, STALLED, TransferProblem
from ws.transfer.planning import RAY, Leg
from ws.transfer.remote import Remote, ask, lost, result

SILENT_FOR = 60.0
"""Seconds without any answer after which a party counts as gone. One that is paused for less goes on."""
_BEAT = 1.0

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


class Recipient:
    """Its state: `waiting`, `running`, then `done` with a receipt or `failed` with a problem.

    One thread drives it; the ticker reads it and notes what `progress` answers.
    """

    def __init__(self, party_id: str, tid: str) -> None:
        self.id = party_id
        self.state = WAITING
        self.remote: Remote | None = None
        self.leg: Leg | None = None
        self.accepted = False
        self.place = ""
        self.done_bytes = 0
        self.had = 0
        self.chunks = self.chunk_size = 0
        self.retries = 0
        self.stream_retries = 0
        self.problem: TransferProblem | None = None
        self.receipt: Receipt | None = None
        self.heard_at = time.monotonic()
        self._tid = tid

    @property
    def ended(self) -> bool:
        return self.state in {DONE, FAILED}

    @property
    def party(self) -> Remote:
        """Its party; the problem `lost` where it has none yet."""
        if self.remote is None:
            raise lost(self.id, "its actor could not be started")
        return self.remote

    def accept(self, spec: dict[str, Any], hashes: Callable[[], bytes]) -> None:
        """Make it ready; `hashes` are asked for where files are in the way."""
        answer = self.wait(ask(self.party, "accept", self._tid, spec))
        self.place = answer["place"]
        if answer["existing"]:
            answer = {**answer, **self.wait(ask(self.party, "existing", self._tid, hashes()))}
        self.had = self.done_bytes = answer["done"]
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
        self.heard_at = time.monotonic()
        while not future.done():
            wait_for_futures([future], timeout=_BEAT)
            if time.monotonic() - self.heard_at > SILENT_FOR and not future.done():
                raise lost(self.id, f"it was silent for {SILENT_FOR:g} s")
        return result(future, self.id)

    def note(self, progress: dict[str, Any]) -> None:
        self.heard_at = time.monotonic()
        self.done_bytes = int(progress["done"])
        self.stream_retries = int(progress["retries"])

    def _receipt(self, told: dict[str, Any]) -> Receipt:
        leg = self.leg or Leg(self.id, "", RAY)
        return Receipt(
            root_hash=told["hash"],
            bytes=told["bytes"],
            seconds=round(float(told["seconds"]), 3),
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


_PASSING = {LOST, STALLED, "unreachable", "bad-chunk", "busy"}
