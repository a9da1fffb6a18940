"""Bringing a cluster up in named steps, and proving it before saying so. For `ws up`, and `ws test --with-cluster`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ws.console import Progress
from ws.engine.base import Engine, Project
from ws.engine.lookout import Lookout
from ws.status import await_report
from ws.verify.proof import WORDS, prove


def bring_up(engine: Engine, project: Project, names: Sequence[str], timeout: float, progress: Progress) -> dict[str, str]:
    """Start these nodes and prove them within `timeout` seconds; returns the entries.

    Raises EnvironmentProblem where they can't be started, CheckFailed where they are not proven.
    """
    began = time.monotonic()
    for warning in engine.warnings(project):
        progress.warn(warning)
    with progress.step("Preparing the project folder"):
        changed = engine.prepare(project)
        engine.check(project, names)
    if changed:
        progress.note(f"written: {', '.join(changed)}")
    for image in engine.missing_images(project, names):
        with progress.step(f"Pulling {image} (once)"):
            engine.pull(image)
    lookout = Lookout(engine, project)
    with progress.step(f"Starting {len(names)} node{'s' * (len(names) != 1)} and the health server ({engine.name})"):
        engine.up(project, names)
    with progress.step(f"Proving {', '.join(names) if len(names) <= 4 else f'{len(names)} nodes'}"):
        prove(
            names,
            lambda: lookout.driver(names),
            timeout=timeout,
            watch=lambda: lookout.require_alive(names),
            evidence=lookout.tail,
            on_event=lambda event: show_proven(event, progress),
        )
        if not await_report(engine, project, names):
            progress.note("Ray's own status report does not show all of them yet")
    leader = lookout.leader()
    progress.note(f"{leader.name if leader else '?'} leads; proven {time.monotonic() - began:.1f} s after the start")
    return engine.entries(project)


def show_proven(event: dict[str, Any], progress: Progress) -> None:
    """A line for each node that lacks nothing any more."""
    if event["event"] == "proven":
        progress.note(f"{event['node']}: alive, {', '.join(WORDS.values())}")
