"""Calls that may hang, each in a thread of its own, and waited for no longer than wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ws.errors import EnvironmentProblem

T = TypeVar("T")
_MOST_STUCK = 3


class Stuck(EnvironmentProblem):
    """A call did not come to an end in time; its thread goes on by itself."""


class Bounded(Generic[T]):
    """Makes calls one after the other. Few of those that hang are left behind; then none is made until one of them ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._running = 0
        self._current: _Call[T] | None = None
        self._lock = threading.Lock()

    def call(self, function: Callable[[], T], timeout: float) -> T:
        """What `function` returns or raises; raises Stuck where it takes longer than `timeout` seconds."""
        with self._lock:
            if self._running >= _MOST_STUCK:
                raise Stuck(f"{self._running} attempts hang")
            self._running += 1
            call = self._current = _Call(function, self._ended)
        threading.Thread(target=call.run, name=self._name, daemon=True).start()
        return call.outcome(timeout)

    def give_up(self) -> None:
        """Have nobody wait any longer for the call made last: who does gets Stuck."""
        with self._lock:
            if self._current:
                self._current.give_up()

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T], ended: Callable[[], None]) -> None:
        self._function = function
        self._on_end = ended
        self._done = threading.Event()
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # belongs to whoever waits, whatever it is
            self._error = error
        finally:
            self._on_end()
            self._done.set()

    def give_up(self) -> None:
        self._done.set()

    def outcome(self, timeout: float) -> T:
        if not self._done.wait(timeout):
            raise Stuck(f"no end within {timeout:g} s")
        if self._error:
            raise self._error
        if not self._results:
            raise Stuck("given up")
        return self._results[0]
