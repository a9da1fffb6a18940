"""Waiting for what a party answers: as long as it takes, unless the party is silent altogether."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from typing import Any

from ws.transfer.remote import lost, result

SILENT_FOR = 60.0
"""Seconds without any answer after which a party counts as gone. One that is paused for less goes on."""
ENDING_FOR = 5.0
"""The same once the transfer is being cancelled: nobody is to wait for one that hangs."""
ENDING_AT_MOST = 30.0
"""Seconds after which one that answers other questions is no longer waited for either, once it is being cancelled."""
_BEAT = 0.5


class Hearing:
    """One party's answers; `heard` is called for each of them, whoever asked. For several threads at once."""

    def __init__(self, party_id: str, ending: threading.Event | None = None) -> None:
        self._id = party_id
        self._ending = ending or threading.Event()
        self._heard_at = time.monotonic()
        self._life = 0

    def heard(self) -> None:
        """It has answered something, a problem included."""
        self._heard_at = time.monotonic()

    def began_anew(self) -> None:
        """What was asked before will not be answered any more."""
        self._life += 1
        self.heard()

    def wait(self, future: Future[Any]) -> dict[str, Any]:
        """Its answer; raises its problem, or `lost`."""
        began, life = time.monotonic(), self._life
        ending_since: float | None = None
        while not future.done():
            wait_for_futures([future], timeout=_BEAT)
            if future.done():
                break
            now = time.monotonic()
            if life != self._life:
                raise lost(self._id, "it began anew")
            if self._ending.is_set():
                ending_since = ending_since or now
                if now - ending_since > ENDING_AT_MOST:
                    raise lost(self._id, f"it did not end within {ENDING_AT_MOST:g} s")
            patience = ENDING_FOR if self._ending.is_set() else SILENT_FOR
            if now - max(began, self._heard_at) > patience:
                raise lost(self._id, f"it was silent for {patience:g} s")
        return result(future, self._id)
