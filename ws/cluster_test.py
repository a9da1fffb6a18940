"""`ws test`: the test's containers started beside a cluster, every scenario run against both, and all of it told."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ws.cluster_site import ProjectSite
from ws.cluster_start import JOIN_LIMIT, start
from ws.config.models import HEALTH_NAME
from ws.engine.testbed import TestBed
from ws.errors import EnvironmentProblem, WsError
from ws.verify.runner import OnCheck, picture, run
from ws.verify.scenarios import Scenario
from ws.verify.verdict import Check, Report, ScenarioResult, Verdict


def require_cluster(bed: TestBed) -> None:
    """Raise EnvironmentProblem where no node of the project runs."""
    if not cluster_is_up(bed):
        raise EnvironmentProblem("no cluster of this project is up", mend="`ws up`, or `ws test --with-cluster`")


def cluster_is_up(bed: TestBed) -> bool:
    states = bed.engine.nodes(bed.project)
    return any(state.state == "running" and state.name != HEALTH_NAME for state in states)


@dataclass(frozen=True)
class Wish:
    """What a run is to do: these scenarios, with the worker joining by `head` where one is given, in `join_limit` s."""

    scenarios: Sequence[Scenario]
    head: str | None = None
    join_limit: float = JOIN_LIMIT


def run_all(bed: TestBed, site: ProjectSite, wish: Wish, on_check: OnCheck, report: Report) -> None:
    """Start the test's containers, run the scenarios, and tell in `report`; the containers stay, for the caller to remove.

    Whatever this raises, the report has what was seen until then, and that there was no more. The site is closed after it.
    """
    began = time.monotonic()

    def heard(result: ScenarioResult, check: Check) -> None:
        if all(known is not result for known in report.scenarios):
            report.scenarios.append(result)
        on_check(result, check)

    try:
        report.about |= about(bed, site)
        _run(bed, site, wish, heard, report)
    except BaseException as error:
        _tell_broken_off(report, wish, error)
        raise
    finally:
        site.close()
        report.seconds = time.monotonic() - began


def _run(bed: TestBed, site: ProjectSite, wish: Wish, on_check: OnCheck, report: Report) -> None:
    started = start(bed, site, wish.head, on_check, wish.join_limit)
    if started.verdict is not Verdict.PASS:
        report.about["not tried"] = f"{', '.join(scenario.name for scenario in wish.scenarios)}: the start failed"
        report.picture = picture(site)
        report.logs = {name: site.log(name) for name in site.expected if site.seen(name)}
        return
    site.watch.start()
    try:
        made = run(site, wish.scenarios, on_check)
    finally:
        site.watch.stop()
    report.scenarios = [started, *made.scenarios]
    report.links, report.picture, report.logs = made.links, made.picture, made.logs


def _tell_broken_off(report: Report, wish: Wish, error: BaseException) -> None:
    """Keep a report from passing whose run did not come to its end, and each of its scenarios that did not."""
    why = str(error) if isinstance(error, WsError) else f"{type(error).__name__} {error}".strip()
    check = Check("it comes to its end", "step by step", Verdict.INCONCLUSIVE, why)
    made = [result.name for result in report.scenarios]
    if left := [scenario.name for scenario in wish.scenarios if scenario.name not in made]:
        report.about["not tried"] = f"{', '.join(left)}: the run was broken off"
    report.scenarios.append(ScenarioResult("run", "The run as a whole"))
    for result in report.scenarios:
        if not result.seconds:
            result.checks.append(check)


def about(bed: TestBed, site: ProjectSite) -> dict[str, str]:
    """What a reader needs to place a report."""
    from importlib.metadata import version

    machine = bed.engine.machine
    return {
        "project": site.project,
        "address": bed.engine.entries(bed.project).get("client", "none: no candidate runs"),
        "ray": version("ray"),
        "image": site.expected[bed.worker].image,
        "machine": f"{platform.node()}, {machine.cores} cores, {machine.memory / 2**30:.0f} GiB, {platform.platform()}",
        "docker": str(bed.engine.client.version()["Version"]),
    }


def take_down(bed: TestBed, warn: Callable[[str], None]) -> bool:
    """Remove the test's containers and network; what can't be removed is named to `warn`. Returns whether all are gone."""
    try:
        failures = bed.down()
        left = bed.present()
        if left:  # what Compose was still making when it was interrupted
            failures = bed.down()
            left = bed.present()
    except EnvironmentProblem as problem:
        failures, left = [f"{problem.what}: {problem.why}"], list(bed.containers)
    for failure in failures:
        warn(failure)
    if left:
        warn(f"still there: {', '.join(bed.containers.get(name, name) for name in left)}; `ws test --down` removes it")
    return not (failures or left)
