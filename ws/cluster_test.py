"""`ws test`: the test's containers started beside a cluster, every scenario run against both, and all of it told."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ws.bring_up import show_proven
from ws.cluster_site import ProjectSite
from ws.config.fields import looks_secret
from ws.config.models import HEALTH_NAME
from ws.config.show import dump
from ws.console import Progress
from ws.engine.base import Project
from ws.engine.render import COMPOSE_FILE, TEST_FILE
from ws.engine.testbed import TestBed
from ws.errors import CheckFailed, CommandFailed, EnvironmentProblem
from ws.verify.diagnose import certain, diagnose
from ws.verify.proof import prove
from ws.verify.runner import OnCheck, run
from ws.verify.scenarios import Scenario
from ws.verify.verdict import Cause, Recorder, Report, ScenarioResult, Verdict
from ws.wait import NotYet, WaitTimeout, wait_for

START = "start"
_TITLE = "The test's client and worker start in a network of their own"
_JOIN_LIMIT = 60.0  # seconds; on a quiet machine it takes six
_FIRST_LOOK, _LOOK_EVERY = 8.0, 3.0  # seconds
_CLIENT_LIMIT = 90.0  # seconds for the client's own tests
_TAIL = 15  # lines
_CLIENT_ENDED = "this container stays"  # in the last line that the client prints of its tests


def require_cluster(bed: TestBed) -> None:
    """Raise EnvironmentProblem where no node of the project runs."""
    if not cluster_is_up(bed):
        raise EnvironmentProblem("no cluster of this project is up", mend="`ws up`, or `ws test --with-cluster`")


def cluster_is_up(bed: TestBed) -> bool:
    states = bed.engine.nodes(bed.project)
    return any(state.state == "running" and state.name != HEALTH_NAME for state in states)


# Starting


def start(bed: TestBed, site: ProjectSite, head: str | None, on_check: OnCheck) -> ScenarioResult:
    """Start the client and the worker, step by step, as checks of a scenario; what fails names its cause.

    After a failure nothing more is tried, and the containers that are there stay.
    """
    result = ScenarioResult(START, _TITLE)
    record = Recorder(result, on_check)
    began = time.monotonic()
    for step in (_check_machine, _check_image, _check_start, _check_join):
        step(bed, site, head, record)
        if result.verdict is not Verdict.PASS:
            break
    result.seconds = time.monotonic() - began
    return result


def _check_machine(bed: TestBed, site: ProjectSite, head: str | None, record: Recorder) -> None:
    network = bed.project.config.cluster_test.network
    how = "the test's subnet and ports compared with this machine's networks, interfaces and listening programs"
    with record.check("nothing on this machine is in the way", how) as check:
        obstacles = bed.obstacles()
        if obstacles:
            causes = [Cause(obstacle.kind, obstacle.what, obstacle.mend) for obstacle in obstacles]
            check.failed("\n".join(obstacle.what for obstacle in obstacles), *causes)
            return
        count = sum(len(site.expected[name].published) for name in (bed.worker, bed.joiner))
        check.passed(f"{network.subnet} and {count} ports are free")


def _check_image(bed: TestBed, site: ProjectSite, head: str | None, record: Recorder) -> None:
    image = site.expected[bed.worker].image
    with record.check("the image is there", f"`docker image inspect {image}`, else `docker pull`") as check:
        missing = bed.missing_image()
        try:
            if missing:
                bed.engine.pull(missing)
        except EnvironmentProblem as problem:
            check.failed(
                problem.why or problem.what, Cause("node-missing", problem.what, problem.mend or "`ws image build`")
            )
            return
        check.passed(f"{image}{', pulled now' if missing else ''}")


def _check_start(bed: TestBed, site: ProjectSite, head: str | None, record: Recorder) -> None:
    names = f"{site.expected[bed.client].container} and {site.expected[bed.worker].container}"
    with record.check("the containers start", f"`docker compose --file {TEST_FILE} up`") as check:
        try:
            bed.up(head)
        except CommandFailed as error:
            output = error.output.strip()
            check.failed(output[-1000:], _refused(output))
            return
        check.passed(f"{names} run, HEAD_ADDRESS={bed.head(head)}")


def _refused(output: str) -> Cause:
    """The cause behind Docker's own words, where something came in between since the machine was looked at."""
    told = output.splitlines()[-1] if output else "`docker compose` failed without a word"
    if "address already in use" in output or "port is already allocated" in output:
        return Cause("port-taken", told, "stop what holds that port, or choose another network.port_base in config.yaml")
    if "overlaps with other" in output:
        return Cause("subnet-clash", told, "choose another cluster_test.network.subnet in config.yaml")
    return Cause("node-missing", told, "`ws doctor` looks for causes on this machine; `ws test --down` removes what is left")


def _check_join(bed: TestBed, site: ProjectSite, head: str | None, record: Recorder) -> None:
    with record.check(f"{bed.worker} stays up and joins", "its container, and the cluster's list of nodes") as check:
        began = time.monotonic()
        doubt = _Doubt(site, bed.worker)

        def joined() -> None:
            try:
                _joined(bed, site)
            except NotYet:
                doubt.raise_if_certain()
                raise

        try:
            wait_for("the worker", joined, timeout=_JOIN_LIMIT, interval=0.3)
        except (WaitTimeout, CheckFailed) as failed:
            evidence = f"{failed.what}\n{failed.why or ''}".strip()
            check.failed(evidence, *(doubt.causes or diagnose(site, bed.worker, failed.what)))
        else:
            check.passed(f"in the cluster's list after {time.monotonic() - began:.1f} s")


class _Doubt:
    """Looks every few seconds whether it is certain already that a node will not join.

    A cause counts once two looks have seen it: while a node starts, what is missing may just be on its way.
    """

    def __init__(self, site: ProjectSite, name: str) -> None:
        self.causes: list[Cause] = []
        self._site = site
        self._name = name
        self._before: list[Cause] = []
        self._next = time.monotonic() + _FIRST_LOOK

    def raise_if_certain(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_EVERY
        now = certain(self._site, self._name)
        if now and [cause.key for cause in now] == [cause.key for cause in self._before]:
            self.causes = now
            raise CheckFailed(f"{self._name} has not joined, and will not", now[0].what)
        self._before = now


def _joined(bed: TestBed, site: ProjectSite) -> None:
    require_running(bed, site, bed.worker)
    try:
        alive = [node.name for node in site.dashboard().nodes() if node.alive]
    except EnvironmentProblem as problem:
        raise NotYet(problem.what) from None
    if bed.worker not in alive:
        raise NotYet(f"alive: {', '.join(alive)}")


def require_running(bed: TestBed, site: ProjectSite, name: str) -> None:
    """Raise CheckFailed, with the end of its log, where a container of the test does not run."""
    seen = site.seen(name)
    if seen is None or seen.state != "running":
        code = f" (exit code {seen.exit_code})" if seen and seen.exit_code is not None else ""
        what = f"{name} is {seen.state}{code}" if seen else f"there is no container for {name}"
        raise CheckFailed(what, _tail(bed, name), "`ws test --logs` shows all of it; `ws test --down` removes what is left")


def _tail(bed: TestBed, name: str) -> str:
    return "\n".join(f"{name} | {line}" for line in bed.log(name, tail=_TAIL).splitlines())


# Proving


def prove_start(bed: TestBed, site: ProjectSite, timeout: float, progress: Progress) -> None:
    """Wait until the worker is proven and the client's own tests have passed; raises CheckFailed that names the cause."""
    names = [node.hostname for node in bed.project.plan.nodes]
    with progress.step(f"Proving {bed.worker}"):
        try:
            prove(
                [bed.worker],
                lambda: site.lookout.driver(names),
                timeout=timeout,
                watch=lambda: require_running(bed, site, bed.worker),
                on_event=lambda event: show_proven(event, progress),
            )
        except CheckFailed as failed:
            raise explained(failed, diagnose(site, bed.worker, failed.what)) from None
    with progress.step(f"Waiting for the tests of {bed.client}"):
        _await_client(bed, site)


def explained(failed: CheckFailed, causes: Sequence[Cause]) -> CheckFailed:
    """The same failure with what was found out about it: the first cause's mend is the mend."""
    told = [f"cause: {cause.what}" for cause in causes]
    mend = causes[0].remedy if causes else failed.mend
    return CheckFailed(failed.what, "\n".join([*told, failed.why or ""]).strip(), mend)


def require_started(started: ScenarioResult) -> None:
    """Raise CheckFailed for the check at which the start ended, if it did."""
    for check in started.checks:
        if check.verdict is not Verdict.PASS:
            causes = [cause.what for cause in check.causes]
            evidence = [line for line in check.evidence.splitlines() if line not in causes]
            mends = dict.fromkeys(cause.remedy for cause in check.causes)
            raise CheckFailed(
                f"the test's containers have not started: {check.what}: no",
                "\n".join([*causes, *evidence]),
                "; ".join(mends) or None,
            )


def _await_client(bed: TestBed, site: ProjectSite) -> None:
    """Wait until the client has made its tests; raises CheckFailed with those that failed."""

    def ended() -> str:
        log = bed.log(bed.client).strip()
        last = log.rpartition("\n")[2]
        if _CLIENT_ENDED not in last:
            require_running(bed, site, bed.client)
            raise NotYet(last or "it has said nothing yet")
        return log

    mend = "`ws test --logs` shows all of it; `ws test --scenario ray-client` finds out why"
    try:
        log = wait_for("the client's tests", ended, timeout=_CLIENT_LIMIT, interval=0.3)
    except WaitTimeout as late:
        raise CheckFailed(f"{bed.client} has not made its tests within {_CLIENT_LIMIT:g} s", late.why, mend) from None
    failed = [line for line in log.splitlines() if line.startswith("✗")]
    if failed:
        raise CheckFailed(f"tests of {bed.client} failed", "\n".join(failed), mend)


# The whole run


@dataclass(frozen=True)
class Wish:
    """What a run is to do: these scenarios, with the worker joining by `head` where one is given."""

    scenarios: Sequence[Scenario]
    head: str | None = None


def run_all(bed: TestBed, site: ProjectSite, wish: Wish, on_check: OnCheck) -> Report:
    """Start the test's containers, run the scenarios, and tell; the containers stay, for the caller to take down."""
    began, started_at = time.monotonic(), time.time()
    started = start(bed, site, wish.head, on_check)
    if started.verdict is Verdict.PASS:
        site.watch.start()
        try:
            report = run(site, wish.scenarios, on_check)
        finally:
            site.watch.stop()
    else:
        report = Report(started_at, logs={name: site.log(name) for name in site.expected if site.seen(name)})
    report.scenarios.insert(0, started)
    report.started, report.seconds = started_at, time.monotonic() - began
    report.about = about(bed, site)
    return report


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


def files(project: Project) -> dict[str, str]:
    """What a report keeps a copy of: the configuration and the rendered files; values that look like secrets are hidden."""
    found = {name: project.folder / name for name in ("config.yaml", COMPOSE_FILE, TEST_FILE)}
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items() if path.exists()}
    texts.setdefault("config.yaml", dump(project.config))
    ray = project.config.services.ray
    environments: list[Mapping[str, str]] = [ray.env, *(settings.env for settings in ray.nodes.values())]
    for value in (value for env in environments for name, value in env.items() if value and looks_secret(name)):
        texts = {name: text.replace(value, "***") for name, text in texts.items()}
    return texts


def take_down(bed: TestBed, warn: Callable[[str], None]) -> bool:
    """Remove the test's containers and network; what can't be removed is named to `warn`. Returns whether all are gone."""
    failures = bed.down()
    left = bed.present()
    if left:  # what Compose was still making when it was interrupted
        failures = bed.down()
        left = bed.present()
    for failure in failures:
        warn(failure)
    if left:
        warn(f"still there: {', '.join(bed.containers.get(name, name) for name in left)}; `ws test --down` removes it")
    return not (failures or left)
