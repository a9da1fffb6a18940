"""Ending on SIGTERM and SIGINT."""

from __future__ import annotations

import signal
import threading


def set_on_signal(ended: threading.Event) -> None:
    """Set `ended` when the process is asked to end. Only the main thread may call this.

    The handler runs between two steps of the main thread, which may hold the event's own lock because it waits for
    it; so another thread sets it.
    """

    def handle(number: int, frame: object) -> None:
        threading.Thread(target=ended.set, name="asked to end", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
