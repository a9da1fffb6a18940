"""The agent's log."""

from __future__ import annotations

import re
import threading

import pytest

from ws.node.log import BAD, GOOD, STEP, plain, say


def test_a_line_for_people_has_a_time_and_a_mark(capsys: pytest.CaptureFixture[str]) -> None:
    for mark in (STEP, GOOD, BAD, ""):
        say("what happened", mark)
    times_cut = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in capsys.readouterr().out.splitlines()]
    assert times_cut == ["→ what happened", "✓ what happened", "✗ what happened", "what happened"]


def test_a_line_for_scripts_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    plain("Mode: head")
    assert capsys.readouterr().out == "Mode: head\n"


def test_lines_of_several_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    def write(word: str) -> None:
        for _ in range(200):
            plain(word * 50)

    threads = [threading.Thread(target=write, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(word * 50 for word in "abcd" for _ in range(200))
