"""The ways between nodes: names, published ports, advertised addresses, and every port of a block as others see it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ws.verify.diagnose_case import Case, add, edit, probe_all, probe_patiently, spans
from ws.verify.programs import Event
from ws.verify.site import Expected, Seen
from ws.verify.verdict import Cause

_CONSEQUENCES = {
    "node_manager": "the head marks the node dead after 15 to 65 s, and no task starts there",
    "object_manager": "objects can't be pulled from it",
    "runtime_env_agent": "tasks with a runtime_env hang or fail",
    "dashboard_agent_grpc": "the dashboard knows nothing of the node",
    "dashboard_agent_listen": "the node's logs can't be read through the dashboard",
    "metrics_export": "the node's metrics are missing",
    "transfer": "files can't be transferred directly",
    "agent": "nobody can ask the node's agent",
    "head": "nobody joins by this entry",
    "client": "no Ray Client connects by this entry",
    "dashboard": "the dashboard can't be read by this entry",
    "worker": "tasks and actors hang",
}
Survey = dict[tuple[str, str, int], Event]
"""What netprobe found: by (from, host, port)."""
Glance = tuple[str, Event]

_ADVERTISED = re.compile(r"advertised as (\S+)")


def role_of(node: Expected, port: int) -> str:
    """What a port of a node is for: `object_manager`, `worker`, … ("port" where the plan does not know it)."""
    for name, number in (*node.ports.items(), *node.entries.items()):
        if number == port:
            return "worker" if name.startswith("worker") else name
    return "port"


def block_of(node: Expected) -> list[int]:
    """A node's own ports, its entries left out."""
    return [port for port in node.ports.values() if port not in node.entries.values()]


def names(case: Case) -> list[Cause]:
    """Every name that must lead through the host, on this node and on the nodes that must find it."""
    others = [peer for peer in [*case.inside, *case.outside] if peer.inside != case.node.inside and case.seen_of(peer.name)]
    return [
        *_names(case, case.node, others),
        *(cause for peer in others if case.node.ray_node for cause in _names(case, peer, [case.node])),
    ]


def _names(case: Case, holder: Expected, wanted: list[Expected]) -> list[Cause]:
    seen, right = case.seen_of(holder.name), case.site.host_address
    if seen is None:
        return []
    given = {node.name: seen.extra_hosts.get(node.name) for node in wanted}
    missing = [name for name, address in given.items() if address is None]
    wrong = {name: address for name, address in given.items() if address not in (None, right, "host-gateway")}
    found = []
    if missing:
        what = f"{holder.name} does not know {', '.join(missing)}: its container has no `extra_hosts` entry for the name"
        mend = add(holder, "extra_hosts", *(f"{name}:{right}" for name in missing))
        found.append(Cause("name-unknown", what, mend))
    if wrong:
        said = ", ".join(f"{address} for {name}" for name, address in wrong.items())
        what = f"`extra_hosts` of {holder.name} gives {said}; the host is {right}"
        found.append(Cause("name-wrong", what, edit(holder, "extra_hosts", _hosts(right, wrong))))
    return found


def _hosts(address: str, names: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{name}:{address}"' for name in names) + "]"


def published(case: Case) -> list[Cause]:
    """What Docker really publishes of this node's block and, for one outside, of the blocks of the others."""
    nodes = [case.node, *(() if case.node.inside else case.inside)]
    return [cause for node in nodes for cause in _published(node, case.seen_of(node.name))]


def _published(node: Expected, seen: Seen | None) -> list[Cause]:
    if seen is None or seen.state in ("exited", "restarting", "created"):  # Docker shows bindings of what runs alone
        return []
    everywhere = {f"0.0.0.0:{place.rpartition(':')[2]}" for place in node.published} & seen.published
    missing = {
        int(port): place
        for place in node.published - seen.published
        if f"0.0.0.0:{(port := place.rpartition(':')[2])}" not in everywhere
    }
    block = {port for port in block_of(node) if any(place.endswith(f":{port}") for place in node.published)}
    if block and block <= missing.keys():
        what = f"{node.name}: none of the ports {spans(sorted(block))} of its block is published{_elsewhere(seen, block)}"
        return [Cause("block-not-published", what, _publish(node, sorted(missing[port] for port in block)))]
    by_role: dict[str, list[int]] = {}
    for number in sorted(missing):
        by_role.setdefault(role_of(node, number), []).append(number)
    return [
        Cause(
            "port-blocked",
            f"{node.name}: its {role} port {spans(ports)} is not published{_elsewhere(seen, set(ports))}: {_follows(role)}",
            _publish(node, [missing[port] for port in ports]),
        )
        for role, ports in by_role.items()
    ]


def _follows(role: str) -> str:
    return _CONSEQUENCES.get(role, "what listens there can't be reached")


def _elsewhere(seen: Seen, ports: set[int]) -> str:
    places = {place.rpartition(":")[0] for place in seen.published if int(place.rpartition(":")[2]) in ports}
    return f" on the right address, but on {', '.join(sorted(places))}" if places else ""


def _publish(node: Expected, places: list[str]) -> str:
    address = places[0].rpartition(":")[0]
    ports = sorted(int(place.rpartition(":")[2]) for place in places)
    mend = add(node, "ports", *(f"{address}:{span}:{span}" for span in spans(ports).split(", ")))
    return f"set `network.publish_blocks: gateway` in config.yaml; or {mend}" if node.inside else mend


def advertised(case: Case) -> list[Cause]:
    """A node advertises its name (FACTS 2); another address must be one that the head reaches."""
    given = case.environment.get("WS_NODE_ADDRESS", "").strip()
    said = _ADVERTISED.findall(case.log)
    address = given or (said[-1] if said else "") or case.name
    address = next((row.address for row in case.rows if row.alive and row.name == case.name and row.address), address)
    if address == case.name or case.head is None or case.head.name == case.name:
        return []
    port = case.node.ports.get("node_manager", 0)
    found = probe_patiently(case.site, case.head.name, [(address, port)])
    if not found or found[0]["outcome"] == "open":
        return []
    at = found[0]
    what = f"{case.name} advertises {address}, which {case.head.name} can't reach (port {port}: {_looks(at)})"
    mend = f"take WS_NODE_ADDRESS={given} out of" if given else "a node advertises its hostname: look at WS_NODE_ADDRESS in"
    return [Cause("advertised-address", what, f"{mend} `environment:` of the service {case.name}, and start it again")]


def ports(case: Case) -> list[Cause]:
    """Every port on which a node listens, as its peers see it; what seems blocked is looked at twice, and patiently."""
    peers = case.peers()
    if not peers:
        return []
    if not _blocked(case, peers, _survey(case, peers, 2.0)):
        return []
    return _blocked(case, peers, _survey(case, peers, 5.0))


def _survey(case: Case, peers: list[Expected], timeout: float) -> Survey:
    def block(node: Expected) -> list[tuple[str, int]]:
        return [(node.name, port) for port in block_of(node)]

    plan = {peer.name: block(peer) + block(case.node) for peer in peers}
    plan[case.name] = block(case.node) + [target for peer in peers for target in block(peer)]
    return probe_all(case.site, plan, timeout)


def _blocked(case: Case, peers: list[Expected], survey: Survey) -> list[Cause]:
    into = [(peer, case.node) for peer in peers]
    out_of = [(case.node, peer) for peer in peers]
    shut: dict[str, dict[int, list[Glance]]] = {}
    found: list[Cause] = []
    for source, target in [*into, *out_of]:
        listening, blocked = _compared(source, target, survey)
        if blocked and (whole := _whole_way(case, source, target, listening, blocked)):
            found.append(whole)
            continue
        for port, event in blocked.items():
            shut.setdefault(target.name, {}).setdefault(port, []).append((source.name, event))
    found += [_one_end(case.site.expected[name], by_port) for name, by_port in shut.items()]
    return found + _deaf(case, survey)


def _compared(source: Expected, target: Expected, survey: Survey) -> tuple[list[int], dict[int, Event]]:
    """The ports that a node listens on by its own account, and those of them that are shut for the other one."""
    listening, blocked = [], {}
    for port in block_of(target):
        own, seen = survey.get((target.name, target.name, port)), survey.get((source.name, target.name, port))
        if own is None or seen is None or own["outcome"] != "open":
            continue
        listening.append(port)
        if _shut(seen, own, role_of(target, port)):
            blocked[port] = seen
    return listening, blocked


def _whole_way(
    case: Case, source: Expected, target: Expected, listening: list[int], blocked: dict[int, Event]
) -> Cause | None:
    """Where nothing gets through because of a name or an address, the ports are not to blame."""
    first, right = next(iter(blocked.values())), case.site.host_address
    if first["outcome"] == "unresolved":
        mend = add(source, "extra_hosts", f"{target.name}:{right}")
        return Cause("name-unknown", f"the name {target.name} does not resolve on {source.name}", mend)
    if source.inside == target.inside or len(blocked) < len(listening):
        return None
    if first["ip"] != right:
        what = (
            f"{target.name} resolves to {first['ip']} on {source.name}, and nothing of it answers there; the host is {right}"
        )
        return Cause("name-wrong", what, edit(source, "extra_hosts", _hosts(right, [target.name])))
    if len(blocked) > 1 and first["outcome"] in ("timeout", "unreachable"):
        what = f"no port of {target.name} can be reached from {source.name} by way of {right}: {_looks(first)}"
        return Cause("host-unreachable", what, _FIREWALL)
    return None


_FIREWALL = (
    "look for a firewall rule between them: `sudo iptables -L DOCKER-USER -n -v` on the host, `iptables -L -n` inside"
)


def _shut(seen: Event, own: Event, role: str) -> bool:
    """Whether what listens by its own account is shut for another node. Worker processes come and go: they must vanish."""
    if role == "worker":
        return bool(seen["outcome"] in ("timeout", "unreachable", "unresolved"))
    mute = seen["outcome"] == "open" and seen.get("speaks") == "unknown" and own.get("speaks") not in (None, "unknown")
    return seen["outcome"] != "open" or bool(mute)


def _looks(event: Event) -> str:
    return str(event["detail"] or event["outcome"])


def _one_end(target: Expected, shut: dict[int, list[Glance]]) -> Cause:
    """The ports of one node that are shut for others: each with its role, and what follows from the first."""
    words = ", ".join(f"{role_of(target, port)} port {port}" for port in shut)
    sources = ", ".join(dict.fromkeys(name for glances in shut.values() for name, _ in glances))
    port, glances = next(iter(shut.items()))
    event = glances[0][1]
    what = (
        f"{target.name} listens on its {words}, but can't be reached there from {sources} "
        f"({event['ip']}:{port}: {_looks(event)}): {_follows(role_of(target, port))}"
    )
    return Cause("port-blocked", what, _FIREWALL)


def _deaf(case: Case, survey: Survey) -> list[Cause]:
    """Ports that a node can't even reach on itself: a firewall in its own container."""
    found = []
    for port in block_of(case.node):
        own = survey.get((case.name, case.name, port))
        if own and (own["outcome"] == "timeout" or "says nothing" in str(own["detail"])):
            role = role_of(case.node, port)
            what = f"{case.name} can't reach its own {role} port {port} ({_looks(own)}): {_follows(role)}"
            mend = f"`docker exec -u 0 {case.node.container} iptables -L -n` shows what is in the way"
            found.append(Cause("port-blocked", what, mend))
    return found
