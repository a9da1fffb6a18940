"""`ws test`: clients and workers in a network of their own, and a verdict."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from ws import console
from ws.cli.common import JSON, load_project
from ws.cli.scenarios import require_known, show_list
from ws.cli.test_life import cluster, tidied
from ws.console import Progress
from ws.errors import EnvironmentProblem, UsageError, WsError

if TYPE_CHECKING:
    from ws.cluster_site import ProjectSite
    from ws.cluster_test import Wish
    from ws.engine.base import Project
    from ws.engine.testbed import TestBed
    from ws.verify.scenarios import Scenario
    from ws.verify.verdict import Check, Report, ScenarioResult

_TIMEOUT = 180.0  # seconds until what is started must be proven


def test(
    up: bool = typer.Option(False, "--up", help="Start the test's containers, prove that they work, and leave them."),
    down: bool = typer.Option(False, "--down", help="Remove the test's containers; the cluster stays."),
    logs: bool = typer.Option(False, "--logs", help="Show the logs of the test's containers."),
    listed: bool = typer.Option(False, "--list", help="List the scenarios."),
    head: str | None = typer.Option(None, metavar="HOST:PORT", help="The entry that the test's worker joins by."),
    with_cluster: bool = typer.Option(False, "--with-cluster", help="Bring the cluster up first, if it is not."),
    keep: bool = typer.Option(False, "--keep", help="Leave the test's containers, and the cluster, after the run."),
    scenario: list[str] = typer.Option(None, metavar="NAME", help="Run this scenario; more than once: all of these."),
    timeout: float | None = typer.Option(
        None, min=1, help="Seconds for the worker to join (60), and until what is started must be proven (180)."
    ),
    as_json: bool = JSON,
) -> None:
    """Test the cluster from an isolated network, with a client and workers that know it through this host alone."""
    _check_use(
        {"--up": up, "--down": down, "--logs": logs, "--list": listed},
        {
            "--head": bool(head),
            "--scenario": bool(scenario),
            "--with-cluster": with_cluster,
            "--keep": keep,
            "--timeout": timeout is not None,
            "--json": as_json,
        },
    )
    progress = Progress(quiet=as_json)
    if listed:
        from ws.verify.scenarios.all import ALL

        show_list({scenario.name: scenario.title for scenario in ALL}, as_json)
        return
    if down or logs:
        bed = _test_bed(load_project())
        (_down if down else _logs)(bed, progress)
        return
    chosen = [] if up else _scenarios(scenario or [], progress)
    project = load_project(progress)
    entry = _entry(project, head)
    bed = _test_bed(project)
    bed.require_enabled()
    from ws.cluster_start import JOIN_LIMIT
    from ws.cluster_test import Wish

    with cluster(bed, with_cluster, stays=up or keep, keep=keep, timeout=timeout or _TIMEOUT, progress=progress):
        site, drifted = _ready(bed, entry, progress)
        with tidied(bed, site, stays=up, keep=keep, progress=progress):
            if up:
                _up(bed, site, entry, timeout, progress, as_json)
                return
            report = _run(bed, site, Wish(chosen, entry, timeout or JOIN_LIMIT), drifted, keep, progress, as_json)
        raise typer.Exit(report.exit_code)


def _check_use(actions: dict[str, bool], settings: dict[str, bool]) -> None:
    """Raise UsageError for options that contradict each other."""
    acts = [name for name, given in actions.items() if given]
    if len(acts) > 1:
        raise UsageError(f"{' and '.join(acts)} exclude each other", mend="give one of them")
    useful = {
        "--up": {"--head", "--with-cluster", "--keep", "--timeout", "--json"},
        "--down": set(),
        "--logs": set(),
        "--list": {"--json"},
    }
    for act in acts:
        idle = [name for name, given in settings.items() if given and name not in useful[act]]
        if idle:
            raise UsageError(f"{idle[0]} means nothing with {act}", mend=f"leave {idle[0]} out")


def _scenarios(names: Sequence[str], progress: Progress) -> list[Scenario]:
    """The scenarios by name, in their own order; all without a name.

    With `external-worker` goes `stability`: a node that works and is marked dead a minute later has not passed.
    """
    from ws.verify.scenarios.all import ALL

    require_known(names, [scenario.name for scenario in ALL], "ws test")
    wanted = set(names)
    if "external-worker" in wanted and "stability" not in wanted:
        progress.note("stability is run, too: a worker has passed once it stays alive beyond the health-check window")
        wanted.add("stability")
    return [scenario for scenario in ALL if not names or scenario.name in wanted]


def _entry(project: Project, head: str | None) -> str | None:
    from ws.engine.testbed_head import parse_head

    return parse_head(head, project.plan) if head is not None else None


def _test_bed(project: Project) -> TestBed:
    from ws.engine.compose import ComposeEngine
    from ws.engine.local import LocalEngine
    from ws.engine.testbed import TestBed

    local = LocalEngine()
    if local.nodes(project):
        address = local.entries(project).get("client", "ray://HOST:PORT")
        raise EnvironmentProblem(
            "the cluster of this project runs as local processes",
            "the test's containers have a network of their own, which does not lead to them",
            f"`ws verify {address}` tests a cluster of any kind; or `ws down`, then `ws up --engine compose`",
        )
    engine = ComposeEngine()
    engine.require()
    return TestBed(engine, project)


def _down(bed: TestBed, progress: Progress) -> None:
    from ws.cluster_test import take_down

    present = bed.present()
    with progress.step(f"Removing {', '.join(present) or 'what is left'}"):
        gone = take_down(bed, progress.warn)
    if not gone:
        raise typer.Exit(4)


def _logs(bed: TestBed, progress: Progress) -> None:
    names = [name for name in bed.containers if name in bed.present()]
    if not names:
        raise EnvironmentProblem("no container of the test is there", mend="`ws test --up` starts them")
    for name in names:
        for line in bed.log(name).splitlines():
            console.result(f"{name} | {line}")


def _ready(bed: TestBed, entry: str | None, progress: Progress) -> tuple[ProjectSite, list[str]]:
    """The site, with the project's files in step, and nothing left of an earlier run; and what drifted, with a warning."""
    from ws.cluster_entry import require_entry
    from ws.cluster_site import ProjectSite
    from ws.engine.testbed_drift import drift

    drifted = drift(bed.engine, bed.project)
    for difference in drifted:
        progress.warn(f"config.yaml has changed since the cluster was started: {difference}; `ws up` puts it in step")
    site = ProjectSite(bed, entry)
    if entry:
        require_entry(bed, site, entry)
    bed.engine.prepare(bed.project)
    left = bed.present()
    if left:
        progress.warn(f"left over from an earlier run, and removed now: {', '.join(left)}")
    for failure in bed.down():
        progress.warn(failure)
    return site, drifted


def _up(
    bed: TestBed, site: ProjectSite, entry: str | None, timeout: float | None, progress: Progress, as_json: bool
) -> None:
    from ws.cluster_proof import prove_start, require_started
    from ws.cluster_start import JOIN_LIMIT, start

    with progress.step(f"Starting {bed.client} and {bed.worker}"):
        started = start(bed, site, entry, lambda result, check: _note(check, progress), timeout or JOIN_LIMIT)
        require_started(started)
    prove_start(bed, site, timeout or _TIMEOUT, progress)
    containers = {name: bed.containers[name] for name in (bed.client, bed.worker)}
    if as_json:
        console.result_json({"containers": containers, "head": bed.head(entry)})
        return
    leader = site.head()
    console.result(f"{bed.worker} joined by {bed.head(entry)} and works; {bed.client} connected")
    console.result(f"docker logs {containers[bed.client]}")
    console.result(f"docker logs {containers[bed.worker]}")
    console.result(f"docker exec {site.expected[leader.name].container} ray status" if leader else "ws status")
    console.result("ws test --down removes both")


def _note(check: Check, progress: Progress) -> None:
    if not check.causes:
        progress.note(f"{check.what}: {' '.join(check.evidence.split())}")


def _run(
    bed: TestBed, site: ProjectSite, wish: Wish, drifted: Sequence[str], keep: bool, progress: Progress, as_json: bool
) -> Report:
    """Run the scenarios, write the run folder, take the test's containers down, and show what came out."""
    from ws.cluster_files import files
    from ws.cluster_test import run_all, take_down
    from ws.verify import table
    from ws.verify.report import as_json as json_report
    from ws.verify.report import write
    from ws.verify.verdict import Report

    def show(result: ScenarioResult, check: Check) -> None:
        if not as_json:
            print(table.check_line(result, check, sys.stderr), file=sys.stderr, flush=True)

    report = Report(time.time(), about={"drift": "; ".join(drifted)} if drifted else {})
    try:
        run_all(bed, site, wish, show, report)
    except BaseException:
        with suppress(WsError):
            progress.warn(f"the report so far: {write(report, bed.project.folder, files(bed.project))}")
        raise
    page = write(report, bed.project.folder, files(bed.project))
    if keep:
        progress.note(f"left: {', '.join(bed.present())}; `ws test --down` removes it")
    else:
        with progress.step("Removing the test's containers"):
            take_down(bed, progress.warn)
    if "not tried" in report.about:
        progress.warn(f"not tried: {report.about['not tried']}")
    if as_json:
        console.result_json(json_report.document(report))
    else:
        console.result(table.final(report, page, sys.stdout))
    return report
