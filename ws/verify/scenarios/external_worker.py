"""Scenario external-worker: a node outside the whitelist becomes a worker, and works, both ways through the host."""

from __future__ import annotations

from contextlib import suppress

from ws.cluster.dashboard import RayNode
from ws.errors import CheckFailed, EnvironmentProblem, Inconclusive
from ws.process import Spawn
from ws.verify.diagnose import certain, diagnose, suspect
from ws.verify.diagnose_case import Case, spans
from ws.verify.diagnose_state import SHM, name_twice, registered_twice, shared_memory
from ws.verify.diagnose_way import block_of
from ws.verify.programs import Event
from ws.verify.proof import CHECKS, WORDS, Proof, prove
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.blaming import Vain, await_node, blaming
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Recorder
from ws.wait import NotYet

_START_LIMIT = 30.0  # seconds until its agent has decided
_JOIN_LIMIT = 75.0
_COUNT_LIMIT = 15.0  # seconds; Ray counts anew about once a second
_PROOF_LIMIT = 40.0
_HOPELESS_LIMIT = 15.0  # seconds for the proof where it is known already that something is wrong


def _run(site: Site, record: Recorder) -> None:
    workers = [node for node in site.expected.values() if node.role == "external"]
    if not workers:
        with record.check("there is an external worker", "the configuration") as check:
            check.unseen("the configuration names none (cluster_test.enabled)")
    for worker in workers:
        _check_whitelist(site, record, worker)
        _check_mode(site, record, worker)
        if _check_joined(site, record, worker):
            _check_memory(site, record, worker)
            causes = _check_ways(site, record, worker)
            _check_cpus(site, record, worker)
            _check_proof(site, record, worker, causes)
            _check_logs(site, record, worker)


def _check_whitelist(site: Site, record: Recorder, node: Expected) -> None:
    what = f"{node.name} is not in the whitelist"
    how = "nodes.head_whitelist, HEAD_WHITELIST in its container, its hostname"
    with blaming(site, record, node.name, what, how) as check:
        seen = site.seen(node.name)
        if seen is None:
            raise Vain("it has no container", diagnose(site, node.name))
        shown = ", ".join(site.whitelist)
        listed = [part.strip() for part in seen.environment.get("HEAD_WHITELIST", "").split(",")]
        if {node.name, seen.hostname} & {*site.whitelist, *listed}:
            raise Vain(f"its hostname is {seen.hostname}, the whitelist is {shown}", _in_whitelist(site, node))
        check.passed(f"hostname {seen.hostname}; the whitelist is {shown}")


def _in_whitelist(site: Site, node: Expected) -> list[Cause]:
    what = f"the whitelist names {node.name}, which is outside the main network and can't be a candidate"
    own = Cause("environment-differs", what, f"take {node.name} out of `nodes.head_whitelist` in config.yaml, then `ws up`")
    return certain(site, node.name) or [own]


def _check_mode(site: Site, record: Recorder, node: Expected) -> None:
    how = "its log: `Mode: worker` and `HEAD_ADDRESS: …`"
    with blaming(site, record, node.name, f"{node.name} becomes a worker of the address it was given", how) as check:
        said = await_node(site, node.name, "its agent has decided", lambda: mode_lines(site, node.name), _START_LIMIT)
        if said["Mode"] != "worker":
            raise Vain(f"Mode: {said['Mode']}", diagnose(site, node.name, f"it became {said['Mode']}"))
        check.passed(f"Mode: worker, HEAD_ADDRESS: {said['HEAD_ADDRESS']}")


def mode_lines(site: Site, name: str) -> dict[str, str]:
    """What a node's agent said last: {"Mode", "HEAD_ADDRESS"}; raises NotYet where it has not said both."""
    said = dict(line.split(": ", 1) for line in site.log(name).splitlines() if line.startswith(("Mode: ", "HEAD_ADDRESS: ")))
    missing = [word for word in ("HEAD_ADDRESS", "Mode") if word not in said]
    if missing:
        raise NotYet(f"no line `{missing[0]}: …` in its log")
    return {key: value.strip() for key, value in said.items()}


def _check_joined(site: Site, record: Recorder, node: Expected) -> bool:
    what = f"{node.name} has joined under its own name"
    with blaming(site, record, node.name, what, "the GCS, by the dashboard") as check:
        row = await_node(site, node.name, f"{node.name} is alive at the head", lambda: _up(site, node.name), _JOIN_LIMIT)
        case = Case(site, node.name)
        twins = name_twice(case) or registered_twice(case)
        if twins:
            raise Vain("it is not the only one of its name", twins)
        check.passed(f"alive, node id {row.node_id[:12]}, {row.resources.get('CPU', 0):g} CPUs")
        return True
    return False


def _up(site: Site, name: str) -> RayNode:
    """The living node whose Ray this container has started; its name may be alive at the head from an earlier life."""
    if "Ray is up after" not in site.log(name).rpartition("Mode: ")[2]:
        raise NotYet("its log does not say that Ray is up")
    return alive(site, name)


def alive(site: Site, name: str, but: frozenset[str] = frozenset()) -> RayNode:
    """The living node of that name whose id is not among `but`; raises NotYet."""
    try:
        rows = site.dashboard().nodes()
    except EnvironmentProblem as problem:
        raise NotYet(problem.what) from None
    for row in rows:
        if row.alive and row.name == name and row.node_id not in but:
            return row
    dead = any(row.name == name and row.node_id not in but for row in rows)
    raise NotYet("at the head it is dead" if dead else "the head does not know it")


def _check_memory(site: Site, record: Recorder, node: Expected) -> None:
    with blaming(site, record, node.name, f"{SHM} of {node.name} holds its object store", "its size, by Docker") as check:
        causes = shared_memory(Case(site, node.name))
        if causes:
            raise Vain(causes[0].what, causes)
        seen = site.seen(node.name)
        if seen is None:
            raise Vain("it has no container", diagnose(site, node.name))
        check.passed(f"{SHM}: {seen.shm_size / 2**20:.0f} MiB")


def _check_ways(site: Site, record: Recorder, node: Expected) -> list[Cause]:
    """What joined may still not work (FACTS 1): each port, both ways. Returns what is wrong."""
    what = f"the cluster and {node.name} reach each other at every port"
    how = "names, Docker's bindings, and each port that a node listens on, probed from the others"
    causes: list[Cause] = []
    with record.check(what, how) as check:
        causes = suspect(site, node.name)
        if causes:
            check.failed("; ".join(cause.what for cause in causes), *causes)
            return causes
        peers = ", ".join(peer.name for peer in Case(site, node.name).peers())
        check.passed(f"{spans(block_of(node))} of {node.name} as seen from {peers}, and theirs from it")
    return causes


def _check_cpus(site: Site, record: Recorder, node: Expected) -> None:
    what = f"the cluster has grown by the {node.cpus} CPUs of {node.name}"
    with blaming(site, record, node.name, what, "Ray's status report, by the dashboard") as check:
        try:
            check.passed(await_node(site, node.name, what, lambda: _counted(site, node), _COUNT_LIMIT))
        except Vain as vain:
            raise Vain(vain.what, _missing_inside(site) or vain.causes) from None


def _missing_inside(site: Site) -> list[Cause]:
    """Why the cluster has fewer CPUs than it should: nodes of the main network that are not alive."""
    nodes = [node.name for node in site.expected.values() if node.inside and node.ray_node]
    try:
        there = {row.name for row in site.dashboard().nodes() if row.alive}
    except EnvironmentProblem:
        return []
    return [cause for name in nodes if name not in there for cause in diagnose(site, name, "it is not alive at the head")]


def _counted(site: Site, node: Expected) -> str:
    inside = sum(other.cpus for other in site.expected.values() if other.inside and other.ray_node)
    try:
        dashboard = site.dashboard()
        rows = [row for row in dashboard.nodes() if row.alive]
        total = dashboard.usage().get("CPU", (0.0, 0.0))[1]
    except EnvironmentProblem as problem:
        raise NotYet(problem.what) from None
    known = {name for name, other in site.expected.items() if other.inside}
    own = sum(row.resources.get("CPU", 0) for row in rows if row.name == node.name)
    outside = sum(row.resources.get("CPU", 0) for row in rows if row.name not in known)
    if own != node.cpus or total != inside + outside:
        raise NotYet(f"Ray counts {total:g} CPUs, {own:g} of them on {node.name}; expected {inside} + {node.cpus}")
    return f"{total:g} CPUs: {inside} of the main network, {own:g} of {node.name}"


def _check_proof(site: Site, record: Recorder, node: Expected, causes: list[Cause]) -> None:
    """`causes`: what is known already to be wrong."""
    proof, seconds = proven(site, node.name, _HOPELESS_LIMIT if causes else _PROOF_LIMIT)
    for word in CHECKS:
        with blaming(site, record, node.name, f"{WORDS[word]} ({node.name})", "a driver on the head") as check:
            outcomes = proof.checks.get(node.name, {})
            why = outcomes.get(word, proof.trouble or "no answer in time")
            if why is None:
                check.passed(f"after {seconds.get(word, 0.0):g} s")
                continue
            if not causes:
                require_driver(proof, node.name)
            causes = causes or diagnose(site, node.name, f"{WORDS[word]} failed ({why})")
            check.failed(why, *causes)


def proven(site: Site, name: str, timeout: float) -> tuple[Proof, dict[str, float]]:
    """What a driver on the head could prove of a node within `timeout` seconds, and after how many each passed."""
    proof, seconds = Proof((name,)), dict[str, float]()

    def take(event: Event) -> None:
        proof.take(event)
        if event["event"] == "check" and event["ok"]:
            seconds[event["check"]] = event.get("seconds", 0.0)

    def locate() -> tuple[str, Spawn] | None:
        head = site.head()
        return (head.address, lambda argv: site.spawn(head.name, argv)) if head else None

    def watch() -> None:
        if causes := certain(site, name):
            raise Vain(causes[0].what, causes)

    with suppress(CheckFailed):  # what was not proven stands in the proof
        prove([name], locate, timeout=timeout, watch=watch, on_event=take)
    return proof, seconds


def require_driver(proof: Proof, name: str) -> None:
    """Raise Inconclusive where the driver itself could not work: it says nothing of the node then."""
    if proof.trouble and name not in proof.alive:
        raise Inconclusive("the driver on the head could not work", proof.trouble)


def _check_logs(site: Site, record: Recorder, node: Expected) -> None:
    what = f"the logs of {node.name} are readable through the dashboard"
    with blaming(site, record, node.name, what, "GET /api/v0/logs and /api/v0/logs/file") as check:
        dashboard = site.dashboard()
        ids = [row.node_id for row in dashboard.nodes() if row.alive and row.name == node.name]
        if not ids:
            raise Inconclusive(f"{node.name} is not alive at the head")
        files = dashboard.log_files(ids[0])
        for name in sorted(files, key=lambda name: name != "raylet.out"):
            lines = len(dashboard.log_file(ids[0], name).splitlines())
            if lines:
                check.passed(f"{len(files)} files; the last {lines} lines of {name} read")
                return
        check.unseen(f"none of {len(files)} log files has a line")


TITLE = "A node outside the whitelist becomes a worker and works"
SCENARIO = Scenario("external-worker", TITLE, 180.0, _run)
