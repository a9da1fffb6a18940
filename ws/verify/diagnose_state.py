"""What the nodes are: their containers, who leads, their names and their memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from ws.cluster.dashboard import RayNode
from ws.errors import EnvironmentProblem
from ws.verify.diagnose_again import lease_now, replaced
from ws.verify.diagnose_case import ENDED, Case, edit, host_and_port
from ws.verify.site import Expected, Seen
from ws.verify.verdict import Cause
from ws.wait import NotYet, WaitTimeout, wait_for

_MIB = 2**20
SHM = "/dev/shm"  # noqa: S108 (it is only named)
_SHM_SHARE = 0.30  # of memory; with less Ray keeps objects on disk (FACTS 9)
_FOUND_DEAD = 20.0  # seconds; a node whose ports refuse is found dead after 15
_NO_PORT = "No available ports"  # the raylet's words
_OVERLOAD = re.compile(r"timed out during startup|Ray did not start within")


def container(case: Case) -> list[Cause]:
    """There must be one, and it must run; a joiner comes and goes, and that there is none right now tells nothing."""
    node, seen = case.node, case.seen
    if seen is None and node.role == "joiner":
        return []
    if seen is None:
        command = "ws up" if node.inside else "ws test --up"
        return [Cause("node-missing", f"there is no container {node.container} for {node.name}", f"start it: `{command}`")]
    return _paused(node, seen)


def _paused(node: Expected, seen: Seen) -> list[Cause]:
    if seen.state != "paused":
        return []
    what = f"the container {node.container} of {node.name} is paused, so nothing on it answers"
    return [Cause("node-paused", what, f"docker unpause {node.container}")]


def leader(case: Case) -> list[Cause]:
    """Whom this node depends on: the head that led at first, the one it was told to join by, the one that leads now."""
    first = case.site.first_head
    found = _depended_on(case, [first.name if first else "", host_and_port(case.entry)[0]])
    if found:
        return found
    now = case.head
    found = _depended_on(case, [now.name if now else ""])
    if not found and first and now and first.name != case.name and replaced(first, now):
        what = f"{first.name} led (epoch {first.epoch}) when the run began, now {now.name} does (epoch {now.epoch})"
        mend = f"`ws logs {first.name}` tells how it ended; test again once `ws status` shows a head"
        found = [Cause("head-lost", what, mend)]
    return found or _nobody(case)


def _depended_on(case: Case, names: list[str]) -> list[Cause]:
    first, nodes = case.site.first_head, case.site.expected
    known = [nodes[name] for name in dict.fromkeys(names) if name in nodes]
    return [cause for node in known for cause in _gone(case, node, led=bool(first and first.name == node.name))]


def _gone(case: Case, node: Expected, led: bool) -> list[Cause]:
    seen = case.seen_of(node.name)
    if seen is None or seen.state in ENDED:
        led = led or _leads_by_its_log(case.site.log(node.name) if seen else "")
        how = f"ended with exit code {seen.exit_code}" if seen and seen.exit_code is not None else "is gone"
        role = "the head" if led else f"which {case.name} depends on"
        what = f"{node.name}, {role}: its container {node.container} {how}{_detail(seen)}"
        remedy = f"`ws logs {node.name}` tells how it ended; `ws up` starts it again"
        return [Cause("head-lost" if led else "node-exited", what, remedy)]
    return _paused(node, seen)


def _leads_by_its_log(log: str) -> bool:
    return log.rpartition("Mode: ")[2].startswith("head")


def _detail(seen: Seen | None) -> str:
    return f" ({seen.detail})" if seen and seen.detail else ""


def _nobody(case: Case) -> list[Cause]:
    """Without a head, or on the way to finding one, the health server counts."""
    if case.head and (case.entry or case.node.role not in ("candidate", "external", "joiner")):
        return []
    if lease_now(case.site) is None:
        return [health_down(case)]
    if case.head:
        return []
    mend = "`ws logs health` tells who asked for it; `ws up` starts what is missing"
    return [Cause("no-leader", "no candidate holds the lease", mend)]


def health_down(case: Case) -> Cause:
    """The health server does not answer; why, as far as its container shows."""
    servers = [node for node in case.site.expected.values() if node.role == "health"]
    name = servers[0].container if servers else "the health server"
    seen = case.seen_of(servers[0].name) if servers else None
    state = "gone" if seen is None else seen.state
    code = f" with exit code {seen.exit_code}" if seen and seen.exit_code is not None else ""
    mend = f"docker unpause {name}" if state == "paused" else "`ws logs health` shows its log; `ws up` starts it again"
    return Cause("health-down", f"the health server does not answer; its container {name} is {state}{code}", mend)


def name_twice(case: Case) -> list[Cause]:
    """A hostname belongs to one container."""
    holders = [node.container for node in case.site.expected.values() if _is_called(case.seen_of(node.name), case.name)]
    holders += [name for name, seen in case.site.strangers().items() if _is_called(seen, case.name)]
    if len(holders) > 1:
        what = f"the containers {' and '.join(sorted(holders))} have the same hostname, {case.name}"
        return [Cause("name-twice", what, f"give each its own `hostname:`; {_own_name(case)}")]
    own = case.seen.hostname if case.seen else case.name
    if own != case.name and own in case.site.expected:
        what = f"the container {case.node.container} has the hostname {own}, which is that of another node"
        return [Cause("name-twice", what, edit(case.node, "hostname", case.name))]
    return []


def registered_twice(case: Case) -> list[Cause]:
    """Two living nodes of one name at the GCS, and not for the moment alone that an ended one needs to be found dead."""
    found: list[RayNode] = []

    def once() -> None:
        nonlocal found
        try:
            found = [row for row in case.site.dashboard().nodes() if row.alive and row.name == case.name]
        except EnvironmentProblem:
            found = []
        if len(found) > 1:
            raise NotYet(f"{len(found)} of them")

    with suppress(WaitTimeout):
        wait_for(f"one node called {case.name}", once, timeout=_FOUND_DEAD, interval=0.5)
        return []
    ids = ", ".join(row.node_id[:8] for row in found)
    what = f"{len(found)} living nodes are called {case.name} (node ids {ids}): what is sent to one may reach the other"
    mend = f"find the other by `ray list nodes` and give it a hostname of its own; {_own_name(case)}"
    return [Cause("name-twice", what, mend)]


def _is_called(seen: Seen | None, name: str) -> bool:
    return seen is not None and seen.hostname == name and seen.state not in ("exited", "dead", "created")


def _own_name(case: Case) -> str:
    return f"{case.name} is the container {case.node.container} in config.yaml"


def hostname(case: Case) -> list[Cause]:
    """A candidate's hostname stands in the whitelist; an external node's does not."""
    if case.seen is None:
        return []
    own, node = case.seen.hostname, case.node
    text = case.environment.get("HEAD_WHITELIST")
    listed = [part.strip() for part in text.split(",")] if text is not None else list(case.site.whitelist)
    shown = ", ".join(listed) or "nobody"
    if node.role == "candidate" and own not in listed:
        what = f"{node.container} has the hostname {own}, and the whitelist names {shown}"
        mend = f"make `nodes.head_whitelist` in config.yaml and `hostname:` of the service {node.name} agree, then `ws up`"
        return [Cause("not-in-whitelist", what, mend)]
    if not node.inside and own in listed:
        what = f"{own} stands in the whitelist ({shown}), though it is outside the main network"
        return [Cause("environment-differs", what, f"take {own} out of `nodes.head_whitelist` in config.yaml, then `ws up`")]
    if own != node.name and own not in case.site.expected:
        what = f"{node.container} has the hostname {own}; config.yaml calls it {node.name}"
        return [Cause("environment-differs", what, edit(node, "hostname", node.name))]
    return []


def other_ports(case: Case) -> list[Cause]:
    """Ray must listen on the block that the plan gives it: that one is published."""
    wanted, given = case.node.environment.get("WS_NODE_PORTS"), case.environment.get("WS_NODE_PORTS")
    if not wanted or wanted == given or case.seen is None:
        return []
    what = f"{case.name} has WS_NODE_PORTS={given or ''}, and its block is {wanted}"
    return [Cause("environment-differs", what, edit(case.node, "environment: WS_NODE_PORTS", wanted))]


def shared_memory(case: Case) -> list[Cause]:
    """`/dev/shm` must hold the object store, else Ray keeps objects on disk."""
    seen, wanted = case.seen, shared_memory_wanted(case.node, case.environment)
    if seen is None or not seen.shm_size or seen.shm_size >= wanted:
        return []
    what = (
        f"{SHM} of {case.name} has {seen.shm_size / _MIB:.0f} MiB, its objects need {wanted / _MIB:.0f} MiB: "
        "Ray falls back to disk for objects, or does not start"
    )
    size = f"{-(-wanted // _MIB)}m"
    mend = f"{edit(case.node, 'shm_size', size)}; or lower its object_store_memory in config.yaml"
    return [Cause("shm-small", what, mend)]


def shared_memory_wanted(node: Expected, environment: Mapping[str, str]) -> int:
    """Bytes that its `/dev/shm` must have: what the config says, its share of the memory, and all of its object store.

    `environment`: the variables that its container has, of which those that it lacks are taken from the config.
    """
    told = ({**node.environment, **environment}.get(name, "") for name in ("WS_MEMORY", "WS_OBJECT_STORE_MEMORY"))
    memory, store = (int(value) if value.isdigit() else 0 for value in told)
    return max(node.shm_size, int(memory * _SHM_SHARE), store)


def ended(case: Case) -> list[Cause]:
    """A container that has ended by itself, where the looks before have found no reason."""
    seen = case.seen
    if seen is None or seen.state not in ENDED:
        return []
    code = f"exit code {seen.exit_code}" if seen.exit_code is not None else "no exit code"
    again = f", started again {seen.restarts} times" if seen.restarts else ""
    what = f"the container {case.node.container} of {case.name} is {seen.state} ({code}{again}){_detail(seen)}"
    log = case.tail()
    what = f"{what}; its log ends: {log}" if log else what
    return [Cause("node-exited", what, f"`docker logs {case.node.container}` shows the whole log")]


def no_worker_port(words: str) -> list[Cause]:
    """Where these words are those of a raylet that has no port left for one more worker process."""
    if _NO_PORT not in words:
        return []
    what = "a node runs as many worker processes (tasks, actors, drivers) as its port block has worker ports"
    mend = "end drivers that are not needed any more; or raise `services.ray.KEY.worker_ports` in config.yaml, then `ws up`"
    return [Cause("worker-ports", what, mend)]


def unexplained(case: Case, symptom: str) -> list[Cause]:
    """What is left to say where nothing that was looked at is wrong: never nothing."""
    if used_up := no_worker_port(symptom):
        return used_up
    if _OVERLOAD.search(case.trouble):
        what = f"Ray on {case.name} was not up in the time that Ray gives it: the machine has too little to give"
        return [Cause("overloaded", what, "end other programs, or lower `cpus` and the number of nodes in config.yaml")]
    dead = any(row.name == case.name for row in case.rows) and not case.alive
    if dead and case.node.ray_node:
        what = f"the head marked {case.name} dead; {symptom or 'its ports and its container look well now'}"
        mend = f"`docker logs {case.node.container}` and the head's gcs_server.out tell when it stopped to answer"
        return [Cause("node-dead", what, mend)]
    last = [line for line in case.trouble.splitlines() if "✗" in line][-1:]
    words = "; ".join([symptom, *last] if symptom else last) or "it does not work, and nothing that was looked at tells why"
    return [
        Cause("ray-error", f"{case.name}: {words}", f"`docker logs {case.node.container}` and `ws doctor` may tell more")
    ]
