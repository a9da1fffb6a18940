"""Work in a child process that hangs, dies or breaks."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

from ws.verify.programs import FOLDER

FRAME = """
import json, os, sys, time
from child import step, supervised
def work(say):
{work}
for event in supervised(work, {{"first": 1.0, "second": 60.0}}): print(json.dumps(event))
"""


def follow(work: str) -> list[dict[str, Any]]:
    source = FRAME.format(work=textwrap.indent(textwrap.dedent(work), "    "))
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == ""
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for event in told:
        assert event.pop("seconds", 0) >= 0
    return told


def test_events_come_and_steps_are_not_told() -> None:
    assert follow("""
        say(step("first")); say({"event": "a"})
        say(step("second")); say({"event": "b", "big": "x" * 200_000})
    """) == [{"event": "a"}, {"event": "b", "big": "x" * 200_000}]


def test_a_step_that_hangs_is_cut_at_its_limit_and_the_process_with_it() -> None:
    told = follow("""
        say({"event": "pid", "pid": os.getpid()})
        say(step("first")); time.sleep(3600)
    """)
    assert told[1:] == [{"event": "cut", "step": "first", "why": "no answer within 1 s"}]
    assert subprocess.run(["kill", "-0", str(told[0]["pid"])], capture_output=True, check=False).returncode != 0


def test_an_aborted_process_is_told_by_its_signal_or_by_what_it_printed() -> None:
    assert follow('say(step("second")); os.abort()') == [
        {"event": "cut", "step": "second", "why": "its process ended (signal 6)"}
    ]
    assert follow('say(step("second")); print("F: check failed", flush=True); os.abort()') == [
        {"event": "cut", "step": "second", "why": "F: check failed"}
    ]


def test_what_is_raised_is_told_in_a_line() -> None:
    assert follow('say(step("second")); raise ValueError("no\\nmore of it")') == [
        {"event": "cut", "step": "second", "why": "ValueError: no"}
    ]


def test_what_it_started_ends_with_it() -> None:
    told = follow("""
        import subprocess
        say(step("first"))
        grandchild = subprocess.Popen(["sleep", "3600"])
        say({"event": "pid", "pid": grandchild.pid})
        time.sleep(3600)
    """)
    argv = ["ps", "-o", "stat=", "-p", str(told[0]["pid"])]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip() in ("", "Z")
