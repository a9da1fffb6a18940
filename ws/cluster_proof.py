"""Proving that the test's containers work, once they are started, and naming why they do not."""

from __future__ import annotations

from collections.abc import Sequence

from ws.bring_up import show_proven
from ws.cluster_site import ProjectSite
from ws.cluster_start import require_running
from ws.console import Progress
from ws.engine.testbed import TestBed
from ws.errors import CheckFailed, WsError
from ws.verify.diagnose import diagnose
from ws.verify.diagnose_client import diagnose_client
from ws.verify.programs import Event, ask
from ws.verify.proof import prove
from ws.verify.scenarios.ray_client import given_entries
from ws.verify.verdict import Cause, ScenarioResult, Verdict
from ws.wait import NotYet, WaitTimeout, wait_for

CLIENT_LIMIT = 165.0
"""Seconds for the client's own tests: the limits of the program's steps add up to 150, and it has to start."""
_CLIENT_ENDED = "this container stays"  # in the last line that the client prints of its tests


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
        try:
            _require_tests_passed(bed, site)
        except CheckFailed as failed:
            raise explained(failed, _causes_of_client(bed, site)) from None


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


def _require_tests_passed(bed: TestBed, site: ProjectSite) -> None:
    """Wait until the client has made its tests; raises CheckFailed with those that failed."""

    def ended() -> str:
        log = bed.log(bed.client).strip()
        last = log.rpartition("\n")[2]
        if _CLIENT_ENDED not in last:
            require_running(bed, site, bed.client)
            raise NotYet(last or "it has said nothing yet")
        return log

    mend = "`ws test --logs` shows all of it"
    try:
        log = wait_for("the client's tests", ended, timeout=CLIENT_LIMIT, interval=0.3)
    except WaitTimeout as late:
        raise CheckFailed(f"{bed.client} has not made its tests within {CLIENT_LIMIT:g} s", late.why, mend) from None
    failed = [line for line in log.splitlines() if line.startswith("✗")]
    if failed:
        raise CheckFailed(f"tests of {bed.client} failed", "\n".join(failed), mend)


def _causes_of_client(bed: TestBed, site: ProjectSite) -> list[Cause]:
    """Why the client's tests failed: they are made again, as its log is for people, and looked into."""
    client = site.expected[bed.client]
    params = {"entries": given_entries(site, client), "health": client.environment["WS_CLIENT_HEALTH"]}
    try:
        events = ask(site, bed.client, "client", params, CLIENT_LIMIT)
    except WsError:  # it can't be run there, which is looked into, too
        events = []
    causes = diagnose_client(site, events)
    said = _said(events)
    return [Cause(said["cause"], said["detail"], causes[0].remedy)] if causes[0].key == "ray-error" and said else causes


def _said(events: Sequence[Event]) -> Event | None:
    """A test that failed, and whose cause the client itself could tell."""
    failed = (event for event in events if event["event"] == "check" and not event["ok"])
    return next((event for event in failed if event["cause"] not in (None, "ray-error")), None)
