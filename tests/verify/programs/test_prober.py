"""The prober as text, against a real Ray node of this machine."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.ports import free_port
from tests.verify.programs.local import ADDRESS, HEAD, NAME
from ws.verify import programs
from ws.verify.proof import CHECKS, prove

pytestmark = [pytest.mark.slow]


def spawn(argv: list[str], environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def play(environ: dict[str, str], *nodes: str, address: str = HEAD, timeout: float = 60) -> tuple[int, list[dict[str, Any]]]:
    """Run it to its end: its exit code and its events."""
    params = {"address": address, "nodes": nodes, "timeout": timeout}
    with spawn(programs.argv("prober", params), environ) as process:
        assert process.stdout
        events = [json.loads(line) for line in process.stdout if line.startswith("{")]
        return process.wait(timeout=60), events


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_node_that_works_is_proven(head: str, environ: dict[str, str]) -> None:
    code, events = play(environ, NAME)
    assert code == 0
    assert of(events, "connected")[0]["ray"] == "2.60.0"
    assert [event["node"] for event in of(events, "alive")] == [NAME]
    assert {(event["node"], event["check"], event["ok"]) for event in of(events, "check")} == {
        (NAME, check, True) for check in CHECKS
    }
    assert all(event["seconds"] >= 0 for event in of(events, "check"))
    assert events[-1] == {"event": "done", "ok": True}


def test_a_node_that_nobody_knows_is_not_proven(head: str, environ: dict[str, str]) -> None:
    code, events = play(environ, NAME, "ray-unknown", timeout=10)
    assert code == 1
    assert {event["node"] for event in events if "node" in event} <= {NAME}
    assert events[-1] == {"event": "done", "ok": False}


def test_the_whole_proof_with_a_real_prober(head: str, environ: dict[str, str]) -> None:
    proven = prove([NAME], lambda: (head, lambda argv: spawn(argv, environ)), timeout=60)
    assert (proven.missing, proven.alive, proven.trouble) == ([], {NAME}, "")


def test_it_ends_when_nobody_listens_any_more(head: str, environ: dict[str, str]) -> None:
    params = {"address": head, "nodes": ["ray-unknown"], "timeout": 3600}
    with spawn(programs.argv("prober", params), environ) as process:
        assert process.stdout
        assert process.stdin
        next(line for line in process.stdout if '"connected"' in line)
        process.stdin.close()
        assert process.wait(timeout=60) == 1


def test_without_the_token_it_says_so_while_it_tries_on(head: str, environ: dict[str, str]) -> None:
    params = {"address": head, "nodes": [NAME], "timeout": 3600}
    with spawn(programs.argv("prober", params), {**environ, "RAY_AUTH_MODE": "disabled"}) as process:
        assert process.stdout
        event = next(json.loads(line) for line in process.stdout if line.startswith("{"))
        assert event["event"] == "connecting"
        assert "Authentication token is missing or incorrect" in event["why"]
        process.kill()


def test_at_a_closed_port_it_says_so(environ: dict[str, str]) -> None:
    code, events = play(environ, NAME, address=f"{ADDRESS}:{free_port()}", timeout=1)
    assert code == 1
    (event,) = events
    assert (event["event"], event["ok"]) == ("done", False)
    assert "ConnectionRefusedError" in event["why"]
