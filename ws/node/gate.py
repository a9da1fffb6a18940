"""The gate: how many nodes start Ray at the same time.

Ray gives a node 30 s to start. Twenty starting at once on two cores all miss it; two at a time all make it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ws.node.clock import steady
from ws.node.fields import Body, Fields
from ws.node.http_service import App

Key = tuple[str, str]


@dataclass(frozen=True)
class Turn:
    """The answer to `enter`.

    Attributes:
        position: 1 for the first of those that wait; 0 when granted.
        ahead: how many start now or wait before this one; 0 when granted.
        full: the queue takes no more; ask again later.
    """

    granted: bool
    position: int = 0
    ahead: int = 0
    full: bool = False


class Gate:
    """First come, first served, `slots` at a time. Not thread-safe; the caller holds a lock.

    Args:
        slots: how many may start at once.
        clock: seconds that never go back.
        hold: seconds after which a slot that was not left is free again (its node died while starting).
        patience: seconds after which one that waits and no longer asks has lost its place.
        room: how many may wait.
    """

    def __init__(
        self,
        slots: int,
        clock: Callable[[], float] = steady,
        hold: float = 60.0,
        patience: float = 10.0,
        room: int = 1024,
    ) -> None:
        if slots < 1:
            raise ValueError(f"a gate needs at least one slot, not {slots}")
        self._slots, self._clock, self._hold, self._patience, self._room = slots, clock, hold, patience, room
        self._starting: dict[Key, float] = {}
        self._waiting: dict[Key, float] = {}

    def enter(self, name: str, instance: str, priority: bool = False) -> Turn:
        """Ask for a slot; ask again, at least every `patience` seconds, until granted.

        `priority` is for a head: it passes at once and takes no slot, because every other start waits for it, and there is
        one head at most.
        """
        now = self._clock()
        self._forget(now)
        key = (name, instance)
        if key in self._starting:
            return Turn(True)
        if priority:
            self._waiting.pop(key, None)
            return Turn(True)
        if key not in self._waiting and len(self._waiting) >= self._room:
            return Turn(False, len(self._waiting) + 1, len(self._waiting) + len(self._starting), full=True)
        self._waiting[key] = now
        before = list(self._waiting).index(key)
        if before < self._slots - len(self._starting):
            return self._pass(key, now)
        return Turn(False, before + 1, before + len(self._starting))

    def leave(self, name: str, instance: str) -> bool:
        """Give the slot, or the place in the queue, back. False where there was none."""
        key = (name, instance)
        was_starting = self._starting.pop(key, None) is not None
        was_waiting = self._waiting.pop(key, None) is not None
        return was_starting or was_waiting

    def look(self) -> dict[str, Any]:
        """Who starts and who waits, by name, in order."""
        self._forget(self._clock())
        return {"slots": self._slots, "starting": _names(self._starting), "waiting": _names(self._waiting)}

    def _pass(self, key: Key, now: float) -> Turn:
        self._waiting.pop(key, None)
        self._starting[key] = now
        return Turn(True)

    def _forget(self, now: float) -> None:
        self._starting = {key: since for key, since in self._starting.items() if now < since + self._hold}
        self._waiting = {key: asked for key, asked in self._waiting.items() if now < asked + self._patience}


def _names(keys: dict[Key, float]) -> list[str]:
    return [name for name, _ in keys]


def gate_routes(gate: Gate) -> App:
    """`POST /gate/enter` and `/gate/leave` with name, instance (and priority), `GET /gate`."""
    lock = threading.Lock()

    def enter(body: Body) -> tuple[int, dict[str, Any]]:
        fields = Fields(body)
        name, instance, priority = fields.text("name"), fields.text("instance"), fields.flag("priority")
        with lock:
            turn = gate.enter(name, instance, priority)
        return 200, asdict(turn)

    def leave(body: Body) -> tuple[int, dict[str, Any]]:
        name, instance = Fields(body).text("name"), Fields(body).text("instance")
        with lock:
            return 200, {"left": gate.leave(name, instance)}

    def look(body: Body) -> tuple[int, dict[str, Any]]:
        with lock:
            return 200, gate.look()

    return {("POST", "/gate/enter"): enter, ("POST", "/gate/leave"): leave, ("GET", "/gate"): look}
