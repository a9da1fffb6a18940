"""Keeps the lease on disk: each write is complete or did not happen, whenever the power goes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ws.node.clock import steady
from ws.node.lease import LARGEST_EPOCH, BookState, Change, Lease, LeaseBook

FILE_NAME = "lease.json"


class StateUnreadableError(Exception):
    """The file is there and is not what was written."""


class LeaseStore:
    """`lease.json` in `folder`, replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME

    def save(self, state: BookState) -> None:
        """Return once the state would survive a power cut. Raises OSError, and the former state is then kept."""
        draft = self.path.with_suffix(".new")
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(asdict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self.path)
        self._sync_folder()

    def load(self) -> BookState | None:
        """The kept state; None where nothing was ever kept. Raises StateUnreadableError, or OSError."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise StateUnreadableError(str(error)) from error
        return _parse(text)

    def set_aside(self) -> Path:
        """Move the file out of the way, for people to look at; the answer is where it is now."""
        aside = self.path.with_name(f"{FILE_NAME}.unreadable-{int(time.time())}")
        os.replace(self.path, aside)
        self._sync_folder()
        return aside

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class JournalledBook(LeaseBook):
    """A `LeaseBook` that is kept in a folder. What it found there is told to `log`, a line for people.

    Raises OSError where the folder cannot be made, read or written.
    """

    def __init__(
        self,
        folder: Path,
        log: Callable[[str], None],
        clock: Callable[[], float] = steady,
        wall: Callable[[], float] = time.time,
        on_change: Callable[[Change], None] = lambda change: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        store = LeaseStore(folder)
        state, unreadable = None, False
        try:
            state = store.load()
        except StateUnreadableError as error:
            unreadable = True
            log(f"✗ {store.path} is unreadable ({error}); moved to {store.set_aside().name}")
            log("→ no lease is granted for one lease time; a head that is there goes on")
        super().__init__(clock, wall, save=store.save, state=state, recovering=unreadable, on_change=on_change)
        if unreadable:
            # A second restart within the lease time must find the gap, not an empty folder that looks new.
            store.path.write_text(_GAP, encoding="utf-8")


_GAP = "the state before this was unreadable, and nothing has been granted since\n"


def _parse(text: str) -> BookState:
    try:
        raw: dict[str, Any] = json.loads(text)
        lease = Lease(**raw["lease"]) if raw["lease"] is not None else None
        state = BookState(raw["epoch"], lease, tuple(Change(**change) for change in raw["history"]))
    except (ValueError, TypeError, KeyError) as error:
        raise StateUnreadableError(f"{type(error).__name__}: {error}") from error
    is_epoch = isinstance(state.epoch, int) and 0 <= state.epoch <= LARGEST_EPOCH
    if not is_epoch or (lease and not _is_sound(lease, state.epoch)):
        raise StateUnreadableError("a value of the wrong kind")
    return state


def _is_sound(lease: Lease, epoch: int) -> bool:
    texts = (lease.holder, lease.instance, lease.address)
    numbers = (lease.granted_at, lease.ttl)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, (int, float)) for number in numbers)
        and isinstance(lease.epoch, int)
        and 0 < lease.epoch <= epoch
        and lease.ttl > 0
    )
