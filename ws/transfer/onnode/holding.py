"""What a node holds of its transfers: their parts, by the transfers' ids, and who may connect for them."""

from __future__ import annotations

import threading
from typing import Any

from ws.transfer.onnode.part import Part
from ws.transfer.onnode.problems import BUSY, LOST, TransferProblem
from ws.transfer.onnode.serving import Server


class Holding:
    """The parts of the node `name`. For several threads at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._server: Server | None = None
        self._parts: dict[str, Part] = {}
        self._lock = threading.Lock()

    def _put(self, tid: str, part: Part) -> None:
        with self._lock:
            self._parts[tid] = part
        self._let_in(tid, part)

    def _accept(self, tid: str, part: Part) -> dict[str, Any]:
        """Make it ready, in place of the one that is there; where that is being made ready itself, its answer counts."""
        with self._lock:
            old = self._parts.get(tid)
            goes_on = old is not None and not old.is_ready
            if not goes_on:
                self._parts[tid] = part
        if old is not None:
            if goes_on:
                return old.accepted.result()
            self._end(tid, old, keep_partial=True)
        try:
            answer = part.prepare()
        except BaseException:
            with self._lock:
                if self._parts.get(tid) is part:
                    del self._parts[tid]
            raise
        self._let_in(tid, part)
        return answer

    def _let_in(self, tid: str, part: Part) -> None:
        """Others may connect for it, unless it has ended already."""
        with self._lock:
            if self._parts.get(tid) is not part:
                raise part.ended
            if self._server:
                self._server.register(bytes.fromhex(tid), part.secret, part.store, pulse=part.pulse, name=part.name)
                if not part.is_source:
                    self._server.expect_servers(bytes.fromhex(tid), part.take_served)

    def _part(self, tid: str, *, ready: bool = True) -> Part:
        """Whoever asks for it wants it to go on. Problems: `lost`; `busy` where it must be ready and is not yet."""
        part = self._parts.get(tid)
        if part is None:
            raise TransferProblem(
                LOST, f"{self.name} knows nothing of transfer {tid[:8]}", "it ended there, or the node began anew"
            )
        part.unasked = 0.0
        if ready and not part.is_ready:
            raise TransferProblem(BUSY, f"{self.name} is still making transfer {tid[:8]} ready", mend="try again later")
        return part

    def _end(self, tid: str, part: Part, *, keep_partial: bool) -> None:
        if self._server:
            self._server.unregister(bytes.fromhex(tid))
        part.end(keep_partial=keep_partial)

    def _drop(self, tid: str, *, keep_partial: bool) -> None:
        with self._lock:
            part = self._parts.pop(tid, None)
        if part is not None:
            self._end(tid, part, keep_partial=keep_partial)
