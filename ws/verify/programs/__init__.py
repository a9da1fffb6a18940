"""The programs that run on nodes, as text, and listening to them.

Each is a file of this folder that needs the standard library and Ray alone, takes its parameters as JSON in its first
argument and prints one event a line, `{"event": …}`; its docstring says which. Given as text, none has to be installed
where it runs. What they share are modules of this folder, too (`common` and others): `text` makes them modules there,
without files; a program that is run as a file finds them beside it.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ws.verify.site import Runs

Event = dict[str, Any]

FOLDER = Path(__file__).parent
"""What a container mounts to run a program as a file."""

_LEAVE = 5.0  # seconds that a program which has said all may take to end
_TELLING = re.compile(r"(Error|Exception|error|not found|denied|refused)\b")
_SHARED = ("common", "child", "identity", "around")  # in the order in which they import one another
_PRELUDE = """sys.modules[{name!r}] = types.ModuleType({name!r})
exec(compile({source!r}, "{name}.py", "exec"), sys.modules[{name!r}].__dict__)
"""


@cache
def text(name: str) -> str:
    """The whole text of the program `name` (for example "netprobe"), for `python3 -u -c TEXT PARAMS`."""
    shared = [_PRELUDE.format(name=module, source=_source(module)) for module in _SHARED]
    return "".join(["import sys, types\n", *shared, _source(name)])


def _source(name: str) -> str:
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8")


def argv(name: str, params: Mapping[str, Any]) -> list[str]:
    """The command line of a program."""
    return ["python3", "-u", "-c", text(name), json.dumps(params)]


def ask(runs: Runs, node: str, name: str, params: Mapping[str, Any], timeout: float) -> list[Event]:
    """Run a program on a node and return all that it says, until it is done.

    What it finds never raises. After `timeout` seconds it is ended, and the last event is `{"event": "timeout", "after":
    seconds}`; where it ends without being done, the last is `{"event": "broken", "why": telling line}`. An error of ours
    that `runs` raises where nothing can be started is passed on.
    """
    process = runs.spawn(node, argv(name, params))
    heard: list[Event] = []
    done = False
    deadline = time.monotonic() + timeout
    coming = events(process)
    try:
        while True:
            try:
                event = coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return [*heard, {"event": "timeout", "after": timeout}]
            if event is None:
                return heard
            heard.append(event)
            done = event["event"] == "done"
            if done:
                return heard
    finally:
        leave(process, done)


def ended(heard: Sequence[Event], who: str) -> str:
    """How a program that `ask` listened to came to its end, in words; `who` ran it."""
    last = heard[-1] if heard else {}
    if last.get("event") == "timeout":
        return f"{who} was not done after {last['after']:g} s"
    return f"{who} ended early: {last['why']}" if last.get("event") == "broken" else f"{who} is done"


def events(process: subprocess.Popen[str]) -> queue.Queue[Event | None]:
    """A program's events as they come, None at its end; before that `broken`, with a reason, where it was not done.

    Lines that are no events (warnings, tracebacks, what `docker exec` has to say) are the reason where there is one.
    """
    coming: queue.Queue[Event | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        done, stray, telling = False, "", ""
        with process.stdout as output:
            for line in output:
                event = _event(line)
                if event is not None:
                    done = event["event"] == "done"
                    coming.put(event)
                    continue
                stray = line.strip() or stray
                telling = line.strip() if _TELLING.search(line) else telling
        if not done:
            coming.put({"event": "broken", "why": (telling or stray or "it ended without a word")[:500]})
        coming.put(None)

    threading.Thread(target=read, name="program", daemon=True).start()
    return coming


def _event(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def leave(process: subprocess.Popen[str], done: bool) -> None:
    """End a program; one that is done may take leave of its cluster by itself, a second that nobody waits for."""

    def reap() -> None:
        if done:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LEAVE)
        process.kill()
        process.wait()
        if process.stdin:
            process.stdin.close()

    threading.Thread(target=reap, name="program's end", daemon=True).start()
