"""Scenarios `dashboard` and `stability`: what the cluster shows of itself, and whether its nodes stay alive."""

from __future__ import annotations

from ws.cluster.dashboard import Dashboard, RayNode
from ws.errors import EnvironmentProblem, Inconclusive
from ws.verify.outside_cluster import Outside
from ws.verify.outside_look import Life, Outlook
from ws.verify.outside_work import check_still_working
from ws.verify.scenarios.looking import in_words
from ws.verify.verdict import Cause, Check, Recorder
from ws.wait import NotYet, WaitTimeout, wait_for

_SHOWN_LIMIT = 20.0  # seconds that a node which has just joined may take to be shown
_LOG = "raylet.out"


# dashboard


def check_dashboard(outside: Outside, record: Recorder) -> None:
    dashboard: Dashboard | None = None
    with record.check("the dashboard answers", "GET /api/version") as check:
        dashboard = outside.dashboard()
        try:
            check.passed(f"{dashboard.url}, Ray {dashboard.version()}")
        except EnvironmentProblem as problem:
            remedy = "start the head with --dashboard-host=0.0.0.0, publish its port, or give the right one by --dashboard"
            check.failed(_in_words(problem), Cause("dashboard-down", problem.what, remedy))
            return
    if dashboard is None:
        return
    for node in _check_shown(outside, record, dashboard):
        if not outside.watched().left(node.name):
            _check_logs(record, dashboard, node)


def _check_shown(outside: Outside, record: Recorder, dashboard: Dashboard) -> list[RayNode]:
    shown: list[RayNode] = []
    with record.check("it shows every node", "GET /api/v0/nodes, against the nodes that a client sees") as check:
        wanted = {node.id: node.name for node in outside.watched().await_nodes()}

        def complete() -> None:
            shown[:] = [node for node in dashboard.nodes() if node.alive]
            missing = sorted(name for node_id, name in wanted.items() if node_id not in {node.node_id for node in shown})
            if missing:
                raise NotYet(", ".join(missing))

        try:
            wait_for("the dashboard to show every node", complete, timeout=_SHOWN_LIMIT, interval=0.5)
        except WaitTimeout as late:
            what = f"{dashboard.url} does not show {late.why}"
            remedy = "look whether it is this cluster's dashboard, and at dashboard.log on the head"
            check.failed(
                f"it shows {', '.join(node.name for node in shown) or 'no node'}", Cause("dashboard-down", what, remedy)
            )
        else:
            check.passed(", ".join(sorted(node.name for node in shown)))
    return shown


def _check_logs(record: Recorder, dashboard: Dashboard, node: RayNode) -> None:
    with record.check(f"the logs of {node.name} can be read", f"GET /api/v0/logs, and the end of {_LOG}") as check:
        try:
            files = dashboard.log_files(node.node_id)
            size = len(dashboard.log_file(node.node_id, _LOG))
        except EnvironmentProblem as problem:
            what = f"the dashboard can't read the logs of {node.name}: {_in_words(problem)}"
            remedy = f"open the port of {node.name}'s dashboard agent to the head (--dashboard-agent-grpc-port)"
            check.failed(_in_words(problem), Cause("port-blocked", what, remedy))
        else:
            check.passed(f"{len(files)} files; {size} bytes from the end of {_LOG}")


def _in_words(problem: EnvironmentProblem) -> str:
    return f"{problem.what}{f' ({problem.why})' if problem.why else ''}"


# stability


def check_stability(outside: Outside, record: Recorder) -> None:
    """Every node that was ever seen stays alive until the window's end, counted from when the first was seen.

    A node that joins late, or leaves because it should, is no trouble. Who is alive by the GCS' word may be paused: at the
    end every node has to work again, where there is a way to try.
    """
    outlook, window = outside.watched(), outside.window
    outlook.await_nodes()
    if not window:
        with record.check("the nodes stay alive", "a window of 0 s") as check:
            check.unseen("not watched: the window is 0 s. A node that nobody reaches is marked dead only after Ray's own")
        return
    _wait(outlook, window)
    if outlook.lost:
        with record.check("the nodes can be watched", "the program in the background; then, how the address looks") as check:
            _judge_silence(outside, check, outlook.lost)
    for life in sorted(outlook.lives(), key=lambda life: life.node.name):
        with record.check(f"{life.node.name} stays alive", f"watched for {window:g} s, once a second") as check:
            _judge_life(check, life, window, outlook.lost)
    if not outlook.lost:
        check_still_working(outside, record)


def _judge_life(check: Check, life: Life, window: float, lost: str) -> None:
    node = life.node
    if life.trouble:
        remedy = f"open {node.name}'s port block to the head, and see to it that {node.address} leads to it from there"
        told = f"alive for {life.seconds:.0f} s, then {life.trouble}"
        check.failed(told, Cause("node-dead", f"{node.name} ({node.address}): {told}", remedy))
    elif life.left:
        check.passed(f"alive for {life.seconds:.0f} s; {life.left}")
    elif lost:
        raise Inconclusive(f"seen alive for {life.seconds:.0f} s, and not watched to the end", lost)
    elif life.seconds < window:
        check.passed(f"alive for {life.seconds:.0f} s: it joined while others were watched, and was not watched for longer")
    else:
        check.passed(f"alive for {life.seconds:.0f} s")


def _judge_silence(outside: Outside, check: Check, lost: str) -> None:
    """A cluster that has fallen silent, or a connection that broke? The address tells."""
    finding = outside.look()
    if finding["outcome"] == "open" and finding["speaks"] == outside.address.kind and not finding.get("silent"):
        check.unseen(f"{lost}; but {in_words(finding)}")
        return
    what = f"{outside.address} answers no more: {lost}"
    remedy = (
        "look whether the head still runs, and is not paused; its logs (gcs_server.out, ray_client_server*.err) tell why"
    )
    check.failed(f"{lost}; {in_words(finding)}", Cause("entry-dead", what, remedy))


def _wait(outlook: Outlook, window: float) -> None:
    """Return when the first node was watched for `window` seconds, or something has happened that no waiting mends."""

    def over() -> None:
        lives = outlook.lives()
        if outlook.lost or any(life.trouble for life in lives):
            return
        if max(life.seconds for life in lives) < window:
            raise NotYet("not over")

    wait_for("the window's end", over, timeout=window + 30.0, interval=0.2)
