"""`ws test`: clients and workers in a network of their own, and a verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ws import console
from ws.cli.common import JSON, load_project
from ws.console import Progress
from ws.errors import CheckFailed, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from ws.cluster_site import ProjectSite
    from ws.engine.base import Project
    from ws.engine.testbed import TestBed
    from ws.verify.scenarios import Scenario
    from ws.verify.verdict import Check, Report, ScenarioResult


def test(
    up: bool = typer.Option(False, "--up", help="Start the test's containers, prove that they work, and leave them."),
    down: bool = typer.Option(False, "--down", help="Remove the test's containers; the cluster stays."),
    logs: bool = typer.Option(False, "--logs", help="Show the logs of the test's containers."),
    listed: bool = typer.Option(False, "--list", help="List the scenarios."),
    head: str | None = typer.Option(None, metavar="HOST:PORT", help="The entry that the test's worker joins by."),
    with_cluster: bool = typer.Option(False, "--with-cluster", help="Bring the cluster up first, if it is not."),
    keep: bool = typer.Option(False, "--keep", help="Leave the test's containers, and the cluster, after the run."),
    scenario: list[str] = typer.Option(None, metavar="NAME", help="Run this scenario; more than once: all of these."),
    timeout: float = typer.Option(180.0, min=1, help="Seconds until what is started must be proven."),
    as_json: bool = JSON,
) -> None:
    """Test the cluster from an isolated network, with a client and workers that know it through this host alone."""
    _check_use(
        {"--up": up, "--down": down, "--logs": logs, "--list": listed},
        {"--head": bool(head), "--scenario": bool(scenario), "--with-cluster": with_cluster, "--keep": keep},
    )
    progress = Progress(quiet=as_json)
    if listed:
        _list(as_json)
        return
    if down or logs:
        bed = _test_bed(load_project())
        (_down if down else _logs)(bed, progress)
        return
    chosen = [] if up else _scenarios(scenario or [])
    project = load_project(progress)
    entry = _entry(project, head)
    bed = _test_bed(project)
    bed.require_enabled()
    with _cluster(bed, with_cluster, leave=up or keep, timeout=timeout, progress=progress):
        site = _ready(bed, entry, progress)
        if up:
            with _removed_on_interrupt(bed, keep, progress):
                _up(bed, site, entry, timeout, progress, as_json)
        else:
            report = _run(bed, site, chosen, entry, keep, progress, as_json)
            raise typer.Exit(report.exit_code)


def _check_use(actions: dict[str, bool], settings: dict[str, bool]) -> None:
    """Raise UsageError for options that contradict each other."""
    acts = [name for name, given in actions.items() if given]
    if len(acts) > 1:
        raise UsageError(f"{' and '.join(acts)} exclude each other", mend="give one of them")
    useful = {"--up": {"--head", "--with-cluster", "--keep"}, "--down": set(), "--logs": set(), "--list": set()}
    for act in acts:
        idle = [name for name, given in settings.items() if given and name not in useful[act]]
        if idle:
            raise UsageError(f"{idle[0]} means nothing with {act}", mend=f"leave {idle[0]} out")


def _list(as_json: bool) -> None:
    from ws.verify.scenarios.all import ALL

    if as_json:
        console.result_json([{"name": scenario.name, "title": scenario.title} for scenario in ALL])
    else:
        console.result(console.table(["SCENARIO", "WHAT"], [[scenario.name, scenario.title] for scenario in ALL]))


def _scenarios(names: Sequence[str]) -> list[Scenario]:
    """The scenarios by name, in their own order; all without a name."""
    import difflib

    from ws.verify.scenarios.all import ALL

    known = [scenario.name for scenario in ALL]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"there is no scenario {name!r}",
                f"scenarios: {', '.join(known)}",
                f"did you mean {near[0]}?" if near else "`ws test --list` tells what each is about",
            )
    return [scenario for scenario in ALL if not names or scenario.name in names]


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


@contextmanager
def _cluster(bed: TestBed, wanted: bool, *, leave: bool, timeout: float, progress: Progress) -> Iterator[None]:
    """A cluster that is up: the one that is there, or with `wanted` one brought up now, and down again unless `leave`."""
    from ws.cluster_test import cluster_is_up, require_cluster

    if not wanted or cluster_is_up(bed):
        require_cluster(bed)
        yield
        return
    from ws.bring_up import bring_up

    project = bed.project
    ended_well = False
    try:
        bring_up(bed.engine, project, [node.hostname for node in project.plan.nodes], timeout, progress)
        yield
        ended_well = True
    except typer.Exit:
        ended_well = True
        raise
    finally:
        if leave and ended_well:
            progress.note("the cluster stays; `ws down` removes it")
        elif not leave or isinstance(sys.exception(), KeyboardInterrupt):
            with progress.step("Removing the cluster that was started for the test"):
                for failure in bed.engine.down(project):
                    progress.warn(failure)


def _ready(bed: TestBed, entry: str | None, progress: Progress) -> ProjectSite:
    """The site, with the project's files in step, and nothing left of an earlier run; warns of what drifted."""
    from ws.cluster_entry import require_entry
    from ws.cluster_site import ProjectSite
    from ws.engine.testbed_drift import drift

    for difference in drift(bed.engine, bed.project):
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
    return site


@contextmanager
def _removed_on_interrupt(bed: TestBed, keep: bool, progress: Progress) -> Iterator[None]:
    from ws.cluster_test import take_down

    try:
        yield
    except KeyboardInterrupt:
        if keep:
            progress.warn(f"interrupted; left as it is: {', '.join(bed.present())}. `ws test --down` removes it")
        else:
            with progress.step("Interrupted: removing the test's containers (again: leave them; ws test --down)"):
                take_down(bed, progress.warn)
        raise


def _up(bed: TestBed, site: ProjectSite, entry: str | None, timeout: float, progress: Progress, as_json: bool) -> None:
    from ws.cluster_test import prove_start, require_started, start

    try:
        with progress.step(f"Starting {bed.client} and {bed.worker}"):
            require_started(start(bed, site, entry, lambda result, check: _note(check, progress)))
        prove_start(bed, site, timeout, progress)
    except CheckFailed:
        left = bed.present()
        if left:
            progress.warn(f"left as it is, to be looked at: {', '.join(left)}; `ws test --down` removes it")
        raise
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
    bed: TestBed,
    site: ProjectSite,
    scenarios: Sequence[Scenario],
    entry: str | None,
    keep: bool,
    progress: Progress,
    as_json: bool,
) -> Report:
    """Run the scenarios, write the run folder, take the test's containers down, and show what came out."""
    from ws.cluster_test import Wish, files, run_all, take_down
    from ws.verify import table
    from ws.verify.report import as_json as json_report
    from ws.verify.report import write

    def show(result: ScenarioResult, check: Check) -> None:
        if not as_json:
            print(table.check_line(result, check, sys.stderr), file=sys.stderr, flush=True)

    with _removed_on_interrupt(bed, keep, progress):
        report = run_all(bed, site, Wish(scenarios, entry), show)
        page = write(report, bed.project.folder, files(bed.project))
        if keep:
            progress.note(f"left: {', '.join(bed.present())}; `ws test --down` removes it")
        else:
            with progress.step("Removing the test's containers"):
                take_down(bed, progress.warn)
    if as_json:
        console.result_json(json_report.document(report))
    else:
        console.result(table.final(report, page, sys.stdout))
    return report
