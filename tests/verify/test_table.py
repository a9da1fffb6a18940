"""What the console shows of a run."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from tests.terminal import Terminal
from ws.verify.table import check_line, final
from ws.verify.verdict import Cause, Check, Link, Report, ScenarioResult, Verdict

PAGE = Path("/project/.ws/runs/latest/report.html")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def report() -> Report:
    cause = Cause("port-blocked", "port 31049 is refused", "publish it:\nports: [31049]")
    evidence = "\n".join(f"line {number}" for number in range(1, 10))
    return Report(
        0.0,
        [
            ScenarioResult("path", "PATH", [Check("ray on PATH", "which", Verdict.PASS, "/bin/ray")], seconds=0.5),
            ScenarioResult(
                "external-worker",
                "External",
                [
                    Check("an object to it", "get", Verdict.FAIL, evidence, [cause], 20.1),
                    Check("its logs", "dashboard", Verdict.INCONCLUSIVE, "no answer\x1b[2J within 2 s", seconds=2.0),
                    Check("a task on it", "run", Verdict.PASS, "0.3 s", seconds=0.3),
                ],
                seconds=22.4,
            ),
        ],
        seconds=23.0,
    )


def test_the_table_then_what_did_not_pass_then_the_report() -> None:
    assert final(report(), PAGE, io.StringIO()) == (
        "SCENARIO         VERDICT  CHECKS  SECONDS\n"
        "path             ✓ pass   1/1     0.5\n"
        "external-worker  ✗ fail   1/3     22.4\n"
        "\n"
        "✗ external-worker: an object to it\n"
        "  line 1\n  line 2\n  line 3\n  line 4\n  line 5\n  line 6\n"
        "  … 3 more lines in the report\n"
        "  cause: port 31049 is refused\n"
        "  → publish it:\n"
        "    ports: [31049]\n"
        "\n"
        "? external-worker: its logs\n"
        "  no answer\\x1b[2J within 2 s\n"
        "\n"
        "✗ fail: 2 of 4 checks passed, in 23.0 s\n"
        f"Report: {PAGE}"
    )


def test_the_links_of_each_pair_both_ways() -> None:
    measured = report()
    measured.links = [Link("a", "b", 0.82, 5.1, 191e6), Link("b", "a", trouble="no answer within 8 s")]
    lines = final(measured, PAGE, io.StringIO()).splitlines()
    assert lines[4:7] == ["FROM, TO:  a       b", "a                  0.82 ms 191 MB/s", "b          ✗ dead"]


def test_a_line_for_each_check_as_it_comes() -> None:
    result = report().scenarios[1]
    assert [check_line(result, check, io.StringIO()) for check in result.checks] == [
        "✗ external-worker: an object to it (20.1 s): port 31049 is refused",
        "? external-worker: its logs (2.0 s): no answer\\x1b[2J within 2 s",
        "✓ external-worker: a task on it (0.3 s)",
    ]


def test_a_terminal_gets_colours_and_the_same_words() -> None:
    coloured = final(report(), PAGE, Terminal())
    assert "\x1b[31m✗ fail\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == final(report(), PAGE, io.StringIO())


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert final(report(), PAGE, Terminal()) == final(report(), PAGE, io.StringIO())


def test_a_run_without_scenarios_is_said_to_be_inconclusive() -> None:
    assert "? inconclusive: 0 of 0 checks passed" in final(Report(0.0), PAGE, sys.stdout)
