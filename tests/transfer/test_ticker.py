"""The rate of what comes in whole chunks."""

from __future__ import annotations

import pytest

from ws.transfer.ticker import Rate


def test_chunks_that_are_rarer_than_the_mean_is_long_still_give_the_right_rate() -> None:
    rate = Rate()
    rates = [rate.add(tick / 5, (tick // 40) * 8_000_000) for tick in range(200)]  # 8 MB every 8 s
    assert rates[0] == 0.0
    assert rates[45:] == pytest.approx([1_000_000] * len(rates[45:]), rel=0.01)


def test_a_stall_shows() -> None:
    rate = Rate()
    for tick in range(20):
        rate.add(tick / 5, tick * 1_000_000)
    assert rate.add(3.9, 19_000_000) == pytest.approx(5_000_000)
    assert rate.add(60.0, 19_000_000) < 500_000
