"""Scenario services: health server and dashboard answer everyone who needs them, and show every node with its logs."""

from __future__ import annotations

from ws.cluster.dashboard import RayNode
from ws.errors import EnvironmentProblem, WsError
from ws.verify.diagnose import diagnose, suspect
from ws.verify.diagnose_again import again, head_now
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.looking import absence, for_each, listed, ray_nodes, running
from ws.verify.scenarios.reached import check_health, check_reach, health_target
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Recorder

_NODE_PATIENCE = 12.0  # seconds until a node that runs must be shown
_LOGS = ("raylet.out", "dashboard_agent.log", "raylet.err")


def _run(site: Site, record: Recorder) -> None:
    check_health(site, record)
    client = next((node for node in site.expected.values() if node.role == "client"), None)
    entries = [node for node in running(site, site.expected.values()) if "dashboard" in node.entries]
    dashboards = {(node.name, node.entries["dashboard"]): "dashboard" for node in entries}
    check_reach(site, record, _inside(site), {health_target(site): "health"}, "a node of the cluster")
    check_reach(site, record, client, {health_target(site): "health", **dashboards}, "the test network")
    _check_dashboard_wants_token(site, record)
    nodes = _check_dashboard(site, record)
    if nodes is None:
        return
    for node in ray_nodes(site):
        _check_shown(site, record, node, nodes)
    alive = {node.name: node for node in nodes if node.alive}
    logs = for_each([node.name for node in ray_nodes(site) if node.name in alive], lambda name: _read_log(site, alive[name]))
    for node in ray_nodes(site):
        _check_log(site, record, node, logs.get(node.name))


def _inside(site: Site) -> Expected | None:
    """A node of the main network to look from: one that runs, the leader last, as it has the most to do."""
    head = site.head()
    places = [node for node in running(site, ray_nodes(site)) if node.inside]
    places.sort(key=lambda node: head is not None and node.name == head.name)
    return places[0] if places else None


def _dashboard_down(site: Site, problem: WsError) -> list[Cause]:
    head = head_now(site)
    node = site.expected.get(head.name) if head else None
    gone = absence(node, site.seen(node.name)) if node else None
    name = head.name if head else "NAME"
    remedy = f"`ws exec {name} -- tail /tmp/ray/session_latest/logs/dashboard.log` tells why; `ws up` proves the head anew"
    down = Cause("dashboard-down", ": ".join(part for part in (problem.what, problem.why) if part), remedy)
    if head is None:
        return [
            Cause(
                "no-leader", "nobody leads, so no dashboard runs", "`ws logs NAME` of a candidate tells what it waits for"
            ),
            down,
        ]
    return [gone, down] if gone else [down]


def _check_dashboard_wants_token(site: Site, record: Recorder) -> None:
    with record.check("the dashboard's API refuses who has no token", "GET /api/v0/nodes without it") as check:
        if again(lambda: site.dashboard().refuses_strangers(), bool):
            check.passed("401")
        else:
            what = "the dashboard shows everything to whoever reaches its port, and so takes jobs from anyone"
            remedy = (
                "RAY_AUTH_MODE=token must be in the head's environment: take what else is there out of config.yaml, `ws up`"
            )
            check.failed(what, Cause("token-off", what, remedy))


def _check_dashboard(site: Site, record: Recorder) -> list[RayNode] | None:
    """The nodes that it shows, once every node that runs is among them, or was given time for it."""
    wanted = {node.name for node in running(site, ray_nodes(site))}
    nodes: list[RayNode] | None = None

    def shown(nodes: list[RayNode]) -> bool:
        return wanted <= {node.name for node in nodes if node.alive}

    with record.check("the dashboard answers this machine", "GET /api/v0/nodes and /api/version, with the token") as check:
        try:
            nodes = again(lambda: site.dashboard().nodes(), shown, _NODE_PATIENCE)  # each node's own check says who lacks
        except EnvironmentProblem as problem:
            check.failed(problem.what, *_dashboard_down(site, problem))
            return None
        board = site.dashboard()
        check.passed(f"{board.url}: Ray {board.version()}, {len(nodes)} nodes")
    return nodes


def _check_shown(site: Site, record: Recorder, node: Expected, nodes: list[RayNode]) -> None:
    with record.check(f"the dashboard shows {node.name} alive", "its name and state in GET /api/v0/nodes") as check:
        records = [one for one in nodes if one.name == node.name]
        alive = [one for one in records if one.alive]
        if alive:
            check.passed(f"ALIVE, {alive[0].node_id[:12]}")
            return
        known = "DEAD" if records else "not shown"
        check.failed(known, *diagnose(site, node.name, f"{known} in the dashboard, while its container runs"))


def _read_log(site: Site, node: RayNode) -> str:
    """Evidence that one of the node's logs can be listed and read; raises EnvironmentProblem where it can't, twice."""
    return again(lambda: _read_log_once(site, node), bool)


def _read_log_once(site: Site, node: RayNode) -> str:
    board = site.dashboard()
    files = board.log_files(node.node_id)
    name = next((name for name in _LOGS if name in files), None)
    if name is None:
        raise EnvironmentProblem(f"the dashboard lists none of {listed(_LOGS)}", f"it lists {listed(files) or 'nothing'}")
    size = len(board.log_file(node.node_id, name))
    if not size:
        raise EnvironmentProblem(f"the dashboard gives nothing of {name}")
    return f"{len(files)} files; {name}: {size} bytes read"


def _check_log(site: Site, record: Recorder, node: Expected, found: str | WsError | None) -> None:
    with record.check(
        f"the logs of {node.name} can be read through the dashboard", "GET /api/v0/logs and /api/v0/logs/file"
    ) as check:
        if isinstance(found, str):
            check.passed(found)
            return
        gone = absence(node, site.seen(node.name))
        if gone or found is None:
            check.failed(gone.what, gone) if gone else check.unseen("it is not among the living nodes")
            return
        port = node.ports.get("dashboard_agent_grpc", 0)
        what = f"{node.name}: {found.what}{f' ({found.why})' if found.why else ''}; its agent listens on {port}"
        remedy = f"open port {port} of {node.name} (dashboard_agent_grpc) for the head; network.publish_blocks publishes it"
        check.failed(found.what, *(suspect(site, node.name) or [Cause("port-blocked", what, remedy)]))


SCENARIO = Scenario("services", "Health server and dashboard answer, and show every node", 180.0, _run)
