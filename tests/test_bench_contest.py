"""Verdicts of bench/transfer.py: made-up seconds, no cluster."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def contest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(BENCH)
    module = importlib.import_module("transfer_contest")
    made = module.Contest("a title", (), "one.bin", 1 << 20, lambda: None)
    made.add("ours", lambda: None, ())
    yield made


def timed(contest: Any, tool: str, seconds: list[float]) -> None:
    if tool not in contest.figures:
        contest.add(tool, lambda: None, ())
    contest.figures[tool].seconds.extend(seconds)


@pytest.mark.parametrize(("theirs", "met", "mark"), [(2.0, True, "✓"), (1.0, False, "✗")])
def test_seven_rounds_are_a_verdict(
    contest: Any, capsys: pytest.CaptureFixture[str], theirs: float, met: bool, mark: str
) -> None:
    timed(contest, "ours", [1.0] * 7)
    timed(contest, "theirs", [theirs] * 7)
    assert contest.bar("ours", "theirs", 0.75) is met
    assert capsys.readouterr().out == f"{mark} ours / theirs: {1 / theirs:.2f} (at most 0.75)\n"


def test_a_peer_that_is_missing_fails(contest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    timed(contest, "ours", [1.0] * 7)
    assert contest.bar("ours", "rsync", 0.75) is False
    assert "✗ ours / rsync: nothing to compare with" in capsys.readouterr().out


def test_fewer_rounds_are_no_verdict(contest: Any, capsys: pytest.CaptureFixture[str]) -> None:
    timed(contest, "ours", [2.0] * 6)
    timed(contest, "theirs", [1.0] * 6)
    assert contest.bar("ours", "theirs", 0.75) is True
    assert capsys.readouterr().out == "· ours / theirs: 2.00; no verdict: 6 rounds, and it takes 7\n"
