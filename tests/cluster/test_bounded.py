from __future__ import annotations

import threading

import pytest

from tests.node.stage import soon
from ws.cluster.bounded import Bounded, Stuck


def test_results_and_errors_come_through() -> None:
    calls: Bounded[int] = Bounded("test")
    assert calls.call(lambda: 3, 30) == 3
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 // 0, 30)


def test_few_are_left_hanging_and_then_none_is_made_until_one_ends() -> None:
    calls: Bounded[bool] = Bounded("test")
    release = threading.Event()
    for _ in range(3):
        with pytest.raises(Stuck, match="no end within"):
            calls.call(lambda: release.wait(60), 0.01)
    with pytest.raises(Stuck, match="3 attempts hang"):
        calls.call(lambda: True, 30)
    release.set()

    def free_again() -> bool:
        try:
            return calls.call(lambda: True, 30)
        except Stuck:
            return False

    soon("a free place", free_again)
