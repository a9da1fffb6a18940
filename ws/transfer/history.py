"""What was transferred, kept in SQLite: `$WS_STATE`, `$XDG_STATE_HOME/ws` or `~/.local/state/ws`, /transfers.sqlite.

For the coordinator:

    with history.own(id):             # as long as the process lives, others see that it does
        stream = Stream(history.record, on_event)
        stream.emit(Started(...)); ...; stream.emit(Finished(...))
        history.wanted(id)            # "none", "cancel" or "pause": what another process asked for
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws.transfer.events import Event


class History:
    def __init__(self, folder: Path | None = None) -> None: ...

    @contextmanager
    def own(self, transfer: str) -> Iterator[None]:
        """This process runs the transfer; a transfer that runs without an owner shows as interrupted."""
        yield

    def record(self, event: Event) -> None:
        """Keep an event and what follows from it. A subscriber of a Stream."""

    def wanted(self, transfer: str) -> str:
        """none, cancel or pause: what was asked of the transfer's owner. Cheap: may be asked every 0.2 s."""
        return "none"

    def want(self, transfer: str, wanted: str) -> None:
        """Ask the transfer's owner for it."""

    def add_options(self, transfer: str, options: Mapping[str, Any]) -> None:
        """What else is needed to run it again (the cluster's address, say)."""

    def close(self) -> None: ...
