"""Turns: a measure of bytes, first come, first served."""

from __future__ import annotations

import threading

from ws.transfer.onnode.turns import Turns


class Stop(threading.Event):
    """Is looked at by who waits."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = threading.Event()

    def is_set(self) -> bool:
        self.looked.set()
        return super().is_set()


class Waiting(threading.Thread):
    """Wants a turn; `has` once it has it, which it gives back at `over`."""

    def __init__(self, turns: Turns, count: int) -> None:
        super().__init__(daemon=True)
        self.stop, self.has, self.over = Stop(), threading.Event(), threading.Event()
        self._turns, self._count = turns, count
        self.start()
        assert self.stop.looked.wait(10)

    def run(self) -> None:
        with self._turns.turn(self._count, self.stop):
            self.has.set()
            self.over.wait()


def test_who_comes_first_is_first_and_a_small_one_does_not_pass_a_large_one() -> None:
    turns = Turns(100)
    first = Waiting(turns, 60)
    assert first.has.wait(10)
    large, small = Waiting(turns, 80), Waiting(turns, 30)
    assert not large.has.is_set()
    assert not small.has.is_set()
    first.over.set()
    assert large.has.wait(10)
    assert not small.has.is_set()
    large.over.set()
    assert small.has.wait(10)
    small.over.set()


def test_more_than_all_is_all() -> None:
    with Turns(100).turn(1000, threading.Event()):
        pass


def test_who_is_stopped_waits_no_more_and_holds_up_nobody() -> None:
    turns = Turns(100)
    first = Waiting(turns, 100)
    assert first.has.wait(10)
    stopped, last = Waiting(turns, 50), Waiting(turns, 100)
    stopped.stop.set()
    assert stopped.has.wait(10)
    first.over.set()
    assert last.has.wait(10), "who was stopped has nothing"
    stopped.over.set()
    last.over.set()
