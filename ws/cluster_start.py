"""Starting the test's containers beside a cluster, step by step, as checks of a scenario."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

from ws.cluster_site import ProjectSite
from ws.engine.render import TEST_FILE
from ws.engine.testbed import TestBed
from ws.errors import CheckFailed, CommandFailed, EnvironmentProblem
from ws.verify.diagnose import certain, diagnose
from ws.verify.runner import OnCheck
from ws.verify.verdict import Cause, Recorder, ScenarioResult, Verdict
from ws.wait import NotYet, WaitTimeout, wait_for

START = "start"
JOIN_LIMIT = 60.0  # seconds; on a quiet machine it takes six
_TITLE = "The test's client and worker start in a network of their own"
_FIRST_LOOK, _LOOK_EVERY = 8.0, 3.0  # seconds
_LATENESS = 10.0  # seconds beyond the health-check window
_TAIL = 15  # lines


def start(
    bed: TestBed, site: ProjectSite, head: str | None, on_check: OnCheck, join_limit: float = JOIN_LIMIT
) -> ScenarioResult:
    """Start the client and the worker, step by step, as checks of a scenario; what fails names its cause.

    The worker has `join_limit` seconds to join. After a failure nothing more is tried, and the containers that are there
    stay.
    """
    result = ScenarioResult(START, _TITLE)
    record = Recorder(result, on_check)
    began = time.monotonic()
    site.remember_known()
    for step in (_check_machine, _check_image, _check_former, _check_start, partial(_check_join, limit=join_limit)):
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


def _check_former(bed: TestBed, site: ProjectSite, head: str | None, record: Recorder) -> None:
    """Where a worker of an earlier run was killed, wait until the head has found out: it would give work to it."""
    alive: list[str] = []
    with suppress(EnvironmentProblem):  # without a dashboard nothing is known, and joining will tell
        alive = _former(site) if site.known_before else []
    if not alive:
        return
    limit = site.watch.window + _LATENESS
    with record.check("the head knows that workers of an earlier run are gone", "the cluster's list of nodes") as check:
        began = time.monotonic()

        def gone() -> None:
            try:
                left = _former(site)
            except EnvironmentProblem as problem:
                raise NotYet(problem.what) from None
            if left:
                raise NotYet(f"alive: {', '.join(left)}")

        try:
            wait_for("the end of workers of an earlier run", gone, timeout=limit, interval=0.5)
        except WaitTimeout as late:
            what = f"{', '.join(alive)} is alive at the head, and none of this project's containers"
            check.failed(f"{late.what}: {late.why}", Cause("name-twice", what, "stop the other node of that name"))
        else:
            check.passed(f"{', '.join(alive)}: gone after {time.monotonic() - began:.1f} s")


def _former(site: ProjectSite) -> list[str]:
    """Names of living nodes that were there before the start."""
    return [node.name for node in site.dashboard().nodes() if node.alive and node.node_id in site.known_before]


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


def _check_join(bed: TestBed, site: ProjectSite, head: str | None, record: Recorder, *, limit: float) -> None:
    with record.check(f"{bed.worker} stays up and joins", "its container, and the cluster's list of nodes") as check:
        began = time.monotonic()
        doubt = _Doubt(site, bed.worker)

        def joined() -> None:
            require_running(bed, site, bed.worker)
            try:
                require_alive(site, bed.worker)
            except NotYet:
                doubt.raise_if_certain()
                raise

        try:
            wait_for("the worker", joined, timeout=limit, interval=0.3)
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


def require_alive(site: ProjectSite, name: str) -> None:
    """Raise NotYet where the cluster's list has no living node of that name but one that was there before."""
    try:
        alive = [node.name for node in site.dashboard().nodes() if node.alive and node.node_id not in site.known_before]
    except EnvironmentProblem as problem:
        raise NotYet(problem.what) from None
    if name not in alive:
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
