"""`ws up`, `down`, `ps`, `status`, `logs`, `exec`: the life of a cluster."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING

import typer

from ws import console
from ws.cli.common import (
    ENGINE,
    JSON,
    EngineName,
    check_names,
    choose_engine,
    compose_if_usable,
    load_config,
    load_project,
    project_of,
    require_running,
    running_engine,
    show_warnings,
)
from ws.console import Progress
from ws.errors import CheckFailed

if TYPE_CHECKING:
    from ws.engine.base import Engine, Project


def up(
    nodes: list[str] = typer.Argument(None, metavar="[NODE]...", help="Hostnames of nodes to start; default: all."),
    engine: EngineName = ENGINE,
    workers: int | None = typer.Option(None, min=0, max=200, help="A head and N workers instead of the config's nodes."),
    head_port: int | None = typer.Option(None, min=1, max=65535, help="The head's GCS port."),
    dashboard_port: int | None = typer.Option(None, min=1, max=65535, help="The head's dashboard port."),
    client_port: int | None = typer.Option(None, min=1, max=65535, help="The head's Ray Client port."),
    timeout: float = typer.Option(180.0, min=1, help="Seconds until the cluster must be proven."),
    as_json: bool = JSON,
) -> None:
    """Bring the cluster up, and prove it before saying so."""
    from ws.bring_up import bring_up
    from ws.cli.overrides import Flags

    progress = Progress(quiet=as_json)
    flags = Flags(workers, head_port, dashboard_port, client_port)
    loaded = load_config(lambda config: flags.changes(config, progress.warn))
    project = project_of(loaded)
    names = check_names(project, nodes or [])
    chosen = choose_engine(engine, progress)
    show_warnings(loaded, progress, chosen)
    before = {state.name for state in chosen.nodes(project)}
    try:
        entries = bring_up(chosen, project, names, timeout, progress)
    except KeyboardInterrupt:
        _clean_up_after_interrupt(chosen, project, before, progress)
        raise
    except CheckFailed:
        left = ", ".join(state.name for state in chosen.nodes(project))
        progress.warn(f"left as it is, to be looked at: {left}; `ws down` removes it")
        raise
    if as_json:
        token_path = str(project.token_path.resolve())
        console.result_json({"engine": chosen.name, "nodes": names, "entries": entries, "token_path": token_path})
    else:
        _print_entries(chosen, project, entries, progress)


def _clean_up_after_interrupt(engine: Engine, project: Project, before: set[str], progress: Progress) -> None:
    if before:
        new = {state.name for state in engine.nodes(project)} - before
        started = f"started now: {', '.join(sorted(new))}; " if new else ""
        progress.warn(f"interrupted; {started}ran before: {', '.join(sorted(before))}. `ws down` removes everything")
        return
    with progress.step("Interrupted: removing what was started (Ctrl-C again leaves it; ws down removes it)"):
        for failure in engine.down(project):
            progress.warn(failure)


def _print_entries(engine: Engine, project: Project, entries: dict[str, str], progress: Progress) -> None:
    names = {"dashboard": "Dashboard", "client": "Ray Client", "gcs": "GCS", "health": "Health"}
    for kind, address in entries.items():
        console.result(f"{names[kind]:<11} {address}")
    token = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={shlex.quote(str(project.token_path.resolve()))}"
    console.result("\n# For clients, paste this line: the token, and no uv in the cluster for programs under `uv run`")
    console.result(f"export {token} RAY_ENABLE_UV_RUN_RUNTIME_ENV=0")


def down(engine: EngineName = ENGINE) -> None:
    """Stop and remove everything of the project."""
    progress = Progress()
    project = load_project()
    failures: list[str] = []
    for present, running in _engines_to_stop(engine, project, progress):
        failures += _remove_test(running, project, progress)
        with progress.step(f"Removing {', '.join(present) or 'what is left'} ({running.name})"):
            failures += running.down(project)
    for failure in failures:
        progress.warn(failure)
    if failures:
        raise typer.Exit(4)


def _remove_test(engine: Engine, project: Project, progress: Progress) -> list[str]:
    """Remove the containers of the cluster test, which are lost without their cluster; returns what could not be removed."""
    from ws.engine.compose import ComposeEngine
    from ws.engine.testbed import TestBed

    if not isinstance(engine, ComposeEngine):
        return []
    bed = TestBed(engine, project)
    present = bed.present()
    if not present:
        return bed.down()
    with progress.step(f"Removing {', '.join(present)} of the test"):
        return bed.down()


def _engines_to_stop(name: EngineName, project: Project, progress: Progress) -> list[tuple[list[str], Engine]]:
    """Each engine that has something of this project, with the names of its nodes."""
    from ws.engine.local import LocalEngine

    if name is not EngineName.auto:
        engines: list[Engine] = [choose_engine(name)]
    else:
        compose = compose_if_usable(progress)
        engines = [LocalEngine(), *([compose] if compose else [])]
    found = [([state.name for state in engine.nodes(project)], engine) for engine in engines]
    # Networks and volumes may be left of a run that was interrupted, and Compose removes those, too.
    return [(present, engine) for present, engine in found if present or engine is engines[-1]]


def ps(engine: EngineName = ENGINE, as_json: bool = JSON) -> None:
    """List what of the project exists: nodes and the health server."""
    project = load_project()
    running = running_engine(engine, project, Progress())
    states = running.nodes(project)
    if as_json:
        console.result_json([vars(state) for state in states])
        return
    rows = [
        [s.name, s.state, _ago(s.started_at), str(s.restarts), "" if s.exit_code is None else str(s.exit_code), s.detail]
        for s in states
    ]
    console.result(console.table(["NAME", "STATE", "SINCE", "RESTARTS", "EXIT CODE", "DETAIL"], rows))


def _ago(started_at: float | None) -> str:
    if started_at is None:
        return ""
    seconds = max(0, int(time.time() - started_at))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def status(
    engine: EngineName = ENGINE,
    as_json: bool = JSON,
    watch: bool = typer.Option(False, "--watch", "-w", help="Show it again every two seconds until Ctrl-C."),
) -> None:
    """Show nodes and their roles, who leads since when, resources, and the entries."""
    from ws.status import gather, lines

    project = load_project()
    running = running_engine(engine, project)
    while True:
        found = gather(running, project)
        if as_json:
            console.result_json(found)
        else:
            console.result("\n".join(lines(found)))
        if not watch:
            break
        time.sleep(2)
        console.result("")
    if not found["nodes"]:
        require_running(running, project)


def logs(
    nodes: list[str] = typer.Argument(None, metavar="[NODE]...", help="Hostnames, or health; default: all."),
    engine: EngineName = ENGINE,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with new lines until Ctrl-C."),
    tail: int | None = typer.Option(None, "--tail", "-n", min=0, help="The last lines only."),
) -> None:
    """Show the logs of nodes."""
    from ws.engine.logs import merged

    project = load_project()
    running = running_engine(engine, project)
    require_running(running, project)
    there = [state.name for state in running.nodes(project)]
    names = check_names(project, nodes, also=["health", *there]) if nodes else there
    for name, line in merged(running, project, names, tail=tail, follow=follow):
        console.result(f"{name} | {line}" if len(names) > 1 else line)


def exec_(
    node: str = typer.Argument(..., help="The node's hostname."),
    command: list[str] = typer.Argument(..., metavar="-- CMD...", help="The command and its arguments."),
    engine: EngineName = ENGINE,
) -> None:
    """Run a command on a node."""
    import sys

    from ws.process import attached

    project = load_project()
    running = running_engine(engine, project)
    require_running(running, project)
    check_names(project, [node], also=["health", *(state.name for state in running.nodes(project))])
    argv = running.exec_command(project, node, command, tty=sys.stdin.isatty() and sys.stdout.isatty())
    raise typer.Exit(attached(argv, running.exec_environment(project, node)))
