"""What Ray says of a self-elected cluster: the GCS, names, and `ray status`. Part of the scenario self-election."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress

from ws.cluster.dashboard import RayNode
from ws.verify.diagnose import diagnose
from ws.verify.diagnose_again import again
from ws.verify.scenarios.looking import absence, listed, ray_nodes, running
from ws.verify.site import Expected, Head, Site
from ws.verify.verdict import Cause, Check, Recorder
from ws.wait import NotYet, WaitTimeout, wait_for

_JOIN_PATIENCE = 12.0  # seconds that a node may take to join anew, when the head has just moved
_REPORT_PATIENCE = 10.0  # seconds; `ray status` shows a report that is made about once a second
_ACTIVE_NODE = re.compile(r"^ *\d+ node_([0-9a-f]+)", re.MULTILINE)


def check_joined(site: Site, record: Recorder, leader: Head | None) -> None:
    """Checks that the leader is the GCS's one head, and that every node of the main network is there once."""
    nodes = _check_gcs(site, record, leader)
    if nodes is None:
        return
    for node in ray_nodes(site):
        if node.inside:
            _check_node(site, record, node, nodes)
    _check_names(site, record, nodes)
    _check_ray_status(site, record, leader)


def no_leader(site: Site) -> Cause:
    """That nobody leads, with the containers that are missing for it."""
    gone = [cause.what for node in site.expected.values() if (cause := absence(node, site.seen(node.name)))]
    what = f"none of the candidates ({listed(site.whitelist)}) leads{''.join(f'; {one}' for one in gone)}"
    return Cause("no-leader", what, "`ws logs NAME` of a candidate tells what it waits for; `ws up` starts what is stopped")


def last(pattern: str, text: str) -> str | None:
    """The last match of a pattern with one group, which sees each line by itself."""
    found = re.findall(pattern, text, re.MULTILINE)
    return str(found[-1]) if found else None


def _check_gcs(site: Site, record: Recorder, leader: Head | None) -> list[RayNode] | None:
    """The GCS's nodes, once all of the main network are alive or were given time for it."""
    with record.check(
        "the GCS knows exactly one head, the leader", "GET /api/v0/nodes of the dashboard, is_head_node"
    ) as check:
        nodes = _settled_nodes(site)
        heads = [node.name for node in nodes if node.alive and node.head]
        if leader is None:
            check.failed(f"heads: {listed(heads) or 'none'}; nobody leads", no_leader(site))
        elif heads == [leader.name]:
            check.passed(f"{leader.name} among {sum(node.alive for node in nodes)} nodes alive")
        else:
            what = f"the GCS has {listed(heads) or 'no node'} for its head, the lease {leader.name} (epoch {leader.epoch})"
            key = "two-heads" if heads else "no-leader"
            check.failed(
                what, Cause(key, what, f"`ws logs {leader.name}` shows how its Ray started; `ws up` proves all nodes")
            )
        return nodes
    return None


def _settled_nodes(site: Site) -> list[RayNode]:
    wanted = {node.name for node in running(site, ray_nodes(site)) if node.inside}
    nodes: list[RayNode] = []

    def joined() -> None:
        nonlocal nodes
        nodes = site.dashboard().nodes()
        if missing := wanted - {node.name for node in nodes if node.alive}:
            raise NotYet(listed(sorted(missing)))

    with suppress(WaitTimeout):  # each node's own check says so
        wait_for("the nodes to join", joined, timeout=_JOIN_PATIENCE, interval=0.5)
    return nodes


def _check_node(site: Site, record: Recorder, node: Expected, nodes: list[RayNode]) -> None:
    with record.check(f"{node.name} has joined", "its name among the nodes that the GCS has alive") as check:
        records = [one for one in nodes if one.name == node.name]
        alive = [one for one in records if one.alive]
        if alive:
            check.passed(f"alive as {alive[0].node_id[:12]}, {alive[0].resources.get('CPU', 0):g} CPUs")
            return
        known = "dead at the GCS" if records else "not known to the GCS"
        check.failed(f"{known}, though its container should run", *diagnose(site, node.name, known))


def _check_names(site: Site, record: Recorder, nodes: list[RayNode]) -> None:
    with record.check(
        "every name stands for one node", "names of the living nodes at the GCS, hostnames of containers"
    ) as check:
        counts = Counter(node.name for node in nodes if node.alive)
        twice = sorted(name for name, count in counts.items() if count > 1)
        hosts = _containers_by_hostname(site)
        twice += [name for name, containers in hosts.items() if len(containers) > 1 and name not in twice]
        if not twice:
            check.passed(listed(sorted(counts)))
            return
        causes = [_twice(name, hosts.get(name, [])) for name in twice]
        check.failed("; ".join(f"{name}: {counts[name]} alive, containers {listed(hosts[name])}" for name in twice), *causes)


def _containers_by_hostname(site: Site) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = {}
    for node in running(site, site.expected.values()):
        if seen := site.seen(node.name):
            hosts.setdefault(seen.hostname, []).append(node.container)
    for container, seen in site.strangers().items():
        if seen.state == "running":
            hosts.setdefault(seen.hostname, []).append(container)
    return hosts


def _twice(name: str, containers: list[str]) -> Cause:
    what = f"{name} is the name of several nodes: {listed(containers) or 'their containers are not of this project'}"
    surplus = containers[-1] if len(containers) > 1 else "NAME"
    return Cause(
        "name-twice", what, f"stop the one that does not belong here: `docker rm -f {surplus}`; or give it another hostname"
    )


def _check_ray_status(site: Site, record: Recorder, leader: Head | None) -> None:
    places = running(site, [node for node in site.expected.values() if node.role == "candidate"])
    places.sort(key=lambda node: leader is None or node.name != leader.name)
    place = places[0] if places else None
    how = f"`docker exec {place.container} ray status`" if place else "`ray status` on a candidate"
    with record.check("`ray status` counts the same nodes", how) as check:
        if place is None:
            check.unseen("no candidate runs")
            return
        _judge_ray_status(site, check, place)


def _judge_ray_status(site: Site, check: Check, place: Expected) -> None:
    """Compares both ways, until they agree: the report lags behind the GCS by a second or two."""
    alive: list[str] = []
    joiners = {node.name for node in site.expected.values() if node.role == "joiner"}  # they come and go

    def difference() -> str:
        nonlocal alive
        done = site.run(place.name, ["ray", "status"], timeout=30.0)
        if done.code:
            return f"it ends with {done.code}: {last(r'^(.+)$', done.stdout + done.stderr)}"
        active = _ACTIVE_NODE.findall(done.stdout.partition("Pending:")[0])
        rows = site.dashboard().nodes()
        names = {row.node_id: row.name for row in rows if row.alive}
        passing = {row.node_id for row in rows if row.name in joiners}
        alive = sorted(name for node_id, name in names.items() if node_id not in passing)
        missing = sorted(name for node_id, name in names.items() if node_id not in {*active, *passing})
        surplus = [node_id[:12] for node_id in active if node_id not in {*names, *passing}]
        told = [f"not {listed(missing)}"] * bool(missing) + [f"{listed(surplus)}, not alive at the GCS"] * bool(surplus)
        return f"{len(active)} nodes, and {', and '.join(told)}" if told else ""

    what = again(difference, lambda words: not words, _REPORT_PATIENCE)
    if what:
        remedy = f"`docker exec -it {place.container} ray status` shows all of it; `ws logs {place.name}` what its Ray says"
        check.failed(what, Cause("ray-error", f"`ray status` on {place.name}: {what}", remedy))
    else:
        check.passed(f"the {len(alive)} nodes that the GCS has alive: {listed(alive)}")
