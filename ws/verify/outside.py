"""`ws verify ADDRESS`: a cluster that somebody else started, judged from outside by what it does.

Everything that Ray itself does happens in child processes, each with a deadline: connecting can hang, or end a process.
"""

from __future__ import annotations

import platform
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass

from ws.errors import WsError
from ws.verify.outside_address import check_address, check_token, check_versions
from ws.verify.outside_cluster import Outside
from ws.verify.outside_look import Node
from ws.verify.outside_moves import check_links, check_transfer
from ws.verify.outside_refusal import our_versions
from ws.verify.outside_watch import check_dashboard, check_stability
from ws.verify.outside_work import check_client, check_nodes
from ws.verify.verdict import Abandoned, Check, PictureNode, Recorder, Report, ScenarioResult

OnCheck = Callable[[ScenarioResult, Check], None]
_LOG_LINES = 500


@dataclass(frozen=True)
class OutsideScenario:
    """`run` makes its checks within `deadline` seconds, and those for which it watches; `title` is a sentence for people."""

    name: str
    title: str
    deadline: float
    run: Callable[[Outside, Recorder], None]


STABILITY = "stability"
SCENARIOS = (
    OutsideScenario("address", "The address leads to what it says", 180.0, check_address),
    OutsideScenario("token", "Only who has the token gets in", 360.0, check_token),
    OutsideScenario("versions", "Ray and Python fit", 120.0, check_versions),
    OutsideScenario("ray-client", "A Ray Client connects and works", 360.0, check_client),
    OutsideScenario("nodes", "Every node works", 240.0, check_nodes),
    OutsideScenario("links", "Every link between nodes works", 660.0, check_links),
    OutsideScenario("transfer", "A file goes in, across, and out unchanged", 420.0, check_transfer),
    OutsideScenario("dashboard", "The dashboard shows every node", 300.0, check_dashboard),
    OutsideScenario(STABILITY, "Nodes stay alive beyond Ray's health-check window", 360.0, check_stability),
)
_ALWAYS = ("address", "token", "versions")
"""What the others build upon."""


def verify(outside: Outside, names: Sequence[str], on_check: OnCheck) -> Report:
    """Run the scenarios of these names (all where there are none), and those that they build upon.

    Where one leaves nothing to be tried, the rest is left out; `about` names it.
    """
    report = Report(started=time.time(), about=_about(outside))
    began = time.monotonic()
    wanted = _wanted(outside, names)
    try:
        for place, scenario in enumerate(wanted):
            report.scenarios.append(_run(scenario, outside, on_check))
            if outside.blocked:
                left = ", ".join(one.name for one in wanted[place + 1 :])
                report.about["not tried"] = f"{left}: {outside.blocked}"
                break
        _add_picture(outside, report)
    finally:
        if outside.outlook:
            outside.outlook.close()
    report.links = outside.links
    report.seconds = time.monotonic() - began
    return report


def _wanted(outside: Outside, names: Sequence[str]) -> list[OutsideScenario]:
    """In order. A GCS address says nothing of where Ray Client listens."""
    wanted = [*_ALWAYS, *names] if names else [one.name for one in SCENARIOS]
    if outside.address.kind == "gcs" and "ray-client" not in names:
        wanted = [name for name in wanted if name != "ray-client"]
    return [scenario for scenario in SCENARIOS if scenario.name in wanted]


def _run(scenario: OutsideScenario, outside: Outside, on_check: OnCheck) -> ScenarioResult:
    """What is under way when its time is over is inconclusive, and the thread is left behind."""
    result = ScenarioResult(scenario.name, scenario.title)
    record = Recorder(result, on_check)
    began = time.monotonic()
    deadline = scenario.deadline + (outside.window if scenario.name == STABILITY else 0.0)
    ended: Future[None] = Future()

    def work() -> None:
        try:
            _guarded(scenario, outside, record)
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=work, name=scenario.name, daemon=True).start()
    try:
        ended.result(timeout=deadline)
    except NotInTime:
        record.close(f"not seen to its end within the scenario's {deadline:g} s")
    except BaseException:
        record.close()
        raise
    result.seconds = time.monotonic() - began
    return result


def _guarded(scenario: OutsideScenario, outside: Outside, record: Recorder) -> None:
    try:
        scenario.run(outside, record)
    except Abandoned:
        pass
    except WsError as error:
        with record.check(scenario.title, "the scenario as a whole") as check:
            check.unseen(": ".join(part for part in (error.what, error.why) if part))


def _about(outside: Outside) -> dict[str, str]:
    versions = our_versions()
    return {
        "address": str(outside.address),
        "token": outside.credentials.source,
        "verified from": f"{socket.gethostname()}, {platform.platform()}",
        "with": f"Ray {versions['ray']}, Python {versions['python']}",
    }


def _add_picture(outside: Outside, report: Report) -> None:
    """The nodes that were seen, and this machine beside them; the end of each raylet's log where the dashboard gives it."""
    report.picture = [PictureNode(socket.gethostname(), "client", "outside", "", ())]
    if outside.outlook is None:
        return
    for node in (life.node for life in outside.outlook.lives()):
        role = "head" if node.head else "worker"
        report.picture.append(PictureNode(node.name, role, "the cluster", node.address))
        if not outside.blocked and (text := _log(outside, node)):
            report.logs[node.name] = text


def _log(outside: Outside, node: Node) -> str:
    """The end of its raylet's log, or why there is none; empty where no dashboard is known."""
    if not outside.knows_dashboard:
        return ""
    try:
        return outside.dashboard().log_file(node.id, "raylet.out", _LOG_LINES).decode("utf-8", "replace")
    except WsError as error:
        return str(error)
