"""Scenario isolation: the test network reaches the published ports and nothing else."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ws.errors import WsError
from ws.verify import programs
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.looking import (
    Finding,
    Target,
    absence,
    answering,
    for_each,
    in_words,
    listed,
    probe,
    probe_again,
    running,
)
from ws.verify.scenarios.published import bound, check_published, not_published
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Check, Recorder

_LISTENING = "0A"  # in /proc/net/tcp
_MOST_PORTS = 40  # of one node; each is a thread of the probe
_LIMIT = 15.0  # seconds
_CONTROLS = 2  # ports
_OF_OURS = ("gcs", "client", "dashboard", "health", "grpc")


@dataclass(frozen=True)
class _Seen:
    """What the test client finds, and which ports each node of the main network listens on for others."""

    listening: Mapping[str, frozenset[int] | WsError]
    found: Mapping[Target, Finding]


def _run(site: Site, record: Recorder) -> None:
    check_published(site, record)
    inside = [node for node in site.expected.values() if node.inside]
    client = next((node for node in site.expected.values() if node.role == "client"), None)
    gone = absence(client, site.seen(client.name)) if client else None
    if client is None or gone:
        with record.check("the test network reaches the published ports alone", "every port, from the test client") as check:
            check.failed(gone.what, gone) if gone else check.unseen("there is no client in the test network")
        return
    nodes = running(site, inside)
    with _something_unpublished(site, [node for node in nodes if node.ray_node]):
        seen = _look(site, client, nodes)
    for node in inside:
        _check_inner(site, record, client, node, seen)
    for node in inside:
        _check_published(site, record, client, node, seen)
    _check_unpublished(site, record, seen)


# What the test network reaches


@contextmanager
def _something_unpublished(site: Site, nodes: list[Expected]) -> Iterator[None]:
    """Ports opened on a node for this look alone: what Ray opens unpublished, another Ray on this host may have, too."""
    if not nodes:
        yield
        return
    program = site.spawn(nodes[0].name, programs.argv("listener", {"ports": _CONTROLS}))
    try:
        with suppress(queue.Empty):  # the look goes on without
            programs.events(program).get(timeout=_LIMIT)
        yield
    finally:
        programs.leave(program, done=False)


def _look(site: Site, client: Expected, nodes: list[Expected]) -> _Seen | WsError:
    """One probe from the test client for all that the following checks ask."""
    listening = for_each([node.name for node in nodes], lambda name: _listening(site, name))
    published = _published(site)
    targets: list[Target] = []
    for node in nodes:
        ports = listening[node.name]
        if isinstance(ports, WsError):
            continue
        address = _inner_address(site, node)
        targets += [(address, port) for port in _sample(node, ports)] if address else []
        targets += [(site.host_address, port) for port in {*(ports & _planned(node)), *_sample(node, ports - published)}]
    [found] = for_each([client.name], lambda name: probe(site, name, targets, identify=True)).values() if targets else [{}]
    return found if isinstance(found, WsError) else _Seen(listening, found)


def _listening(site: Site, name: str) -> frozenset[int]:
    """The TCP ports that something on this node listens on, other than for itself alone."""
    done = site.run(name, ["cat", "/proc/net/tcp", "/proc/net/tcp6"], timeout=_LIMIT)
    return frozenset(_open_ports(done.stdout))


def _open_ports(table: str) -> Iterable[int]:
    for line in table.splitlines():
        words = line.split()
        if len(words) < 4 or words[3] != _LISTENING:
            continue
        address, _, port = words[1].partition(":")
        # Numbers are in the machine's byte order: 127.x.x.x ends with 7F, ::1 with 01000000.
        if not (address.endswith("7F") or address == "0" * 24 + "01000000"):
            yield int(port, 16)


def _planned(node: Expected) -> frozenset[int]:
    """Its ports that stay open; those of worker processes come and go."""
    fixed = {port for name, port in node.ports.items() if not name.startswith("worker")}
    return frozenset(fixed | set(node.entries.values()))


def _sample(node: Expected, ports: frozenset[int]) -> list[int]:
    planned = sorted(ports & _planned(node))
    return [*planned, *sorted(ports - set(planned))][:_MOST_PORTS]


def _inner_address(site: Site, node: Expected) -> str:
    seen = site.seen(node.name)
    return seen.addresses.get(node.network, "") if seen else ""


def _check_inner(site: Site, record: Recorder, client: Expected, node: Expected, seen: _Seen | WsError) -> None:
    address = _inner_address(site, node)
    what = f"{node.name} can't be reached past the host"
    with record.check(what, f"what it listens on, at {address or 'its own address'}, from the test client") as check:
        ports = _ports_of(site, check, node, seen)
        if ports is None or isinstance(seen, WsError):
            return
        findings = [seen.found[address, port] for port in _sample(node, ports)]
        reached = [finding for finding in findings if finding["outcome"] == "open"]
        if not findings:
            check.unseen("it listens on no port")
        elif reached:
            evidence = f"{len(reached)} of {len(findings)} ports open; {in_words(reached[0])}"
            check.failed(evidence, _reached(site, client, node, reached))
        else:
            check.passed(f"none of {len(findings)} ports; for example {in_words(findings[0])}")


def _reached(site: Site, client: Expected, node: Expected, reached: list[Finding]) -> Cause:
    what = f"the test network reaches {node.name} at {listed(_place(one) for one in reached[:4])}"
    seen = site.seen(client.name)
    if seen and node.network in seen.addresses:
        what = f"{what}: {client.container} is in {node.network}, too"
        return Cause("not-isolated", what, f"`docker network disconnect {node.network} {client.container}`")
    remedy = "Docker keeps networks apart by iptables, see `iptables -S | grep ISOLATION`; restart Docker to restore that"
    return Cause("not-isolated", what, remedy)


def _place(finding: Finding) -> str:
    return f"{finding['host']}:{finding['port']}"


def _ports_of(site: Site, check: Check, node: Expected, seen: _Seen | WsError) -> frozenset[int] | None:
    """What the node listens on; None where the check has had its verdict instead."""
    gone = absence(node, site.seen(node.name))
    if gone:
        check.failed(gone.what, gone)
        return None
    if isinstance(seen, WsError):
        raise seen
    ports = seen.listening.get(node.name)
    if isinstance(ports, WsError):
        raise ports
    if ports is None:
        check.unseen("it came up only now")
    return ports


def _check_published(site: Site, record: Recorder, client: Expected, node: Expected, seen: _Seen | WsError) -> None:
    what = f"the published ports of {node.name} can be reached"
    with record.check(what, f"those that it listens on, at {site.host_address}, from the test client") as check:
        ports = _ports_of(site, check, node, seen)
        if ports is None or isinstance(seen, WsError):
            return
        wanted = sorted(_planned(node) & ports & bound(site, node.published))
        closed = _still_closed(site, client, [seen.found[site.host_address, port] for port in wanted])
        if not wanted:
            check.unseen(f"nothing that it listens on is published on {site.host_address}")
        elif closed:
            check.failed(
                f"{len(closed)} of {len(wanted)} ports; {in_words(closed[0])}", *_closed(site, client, node, wanted, closed)
            )
        else:
            check.passed(f"{len(wanted)} ports open: {listed(wanted)}")


def _still_closed(site: Site, client: Expected, findings: list[Finding]) -> list[Finding]:
    """Those that do not answer, and not at a second look either: a busy machine may be slow once."""
    found = {(finding["host"], finding["port"]): finding for finding in findings}
    return [finding for finding in probe_again(site, client.name, found).values() if not answering(finding)]


def _closed(site: Site, client: Expected, node: Expected, wanted: list[int], closed: list[Finding]) -> list[Cause]:
    seen = site.seen(node.name)
    ports = [finding["port"] for finding in closed]
    leading_in = bound(site, seen.published) if seen else set()
    unbound = [f"{site.host_address}:{port}" for port in ports if port not in leading_in]
    if unbound:
        return [not_published(node, unbound)]
    if len(closed) == len(wanted) > 1:
        what = f"from {client.name}, none of the ports of {node.name} at the host's address {site.host_address} answers"
        remedy = (
            f"the host's firewall must let {client.network} in: `iptables -S INPUT`; or set host.ip_address in config.yaml"
        )
        return [Cause("host-unreachable", what, remedy)]
    shut = listed(in_words(finding) for finding in closed[:4])
    what = f"from {client.name}, {shut}, though {node.name} listens and Docker publishes it"
    remedy = f"look for what drops it: `iptables -S | grep -e {ports[0]}` on the host and in {node.container}"
    return [Cause("port-blocked", what, remedy)]


def _published(site: Site) -> set[int]:
    """The ports that the config has lead in from the host, whoever listens behind them."""
    return set().union(*(bound(site, node.published) for node in site.expected.values()))


def _check_unpublished(site: Site, record: Recorder, seen: _Seen | WsError) -> None:
    what = "ports that are not published are closed at the host"
    how = (
        f"what nodes listen on (/proc/net/tcp) and the config does not publish, at {site.host_address}, from the test client"
    )
    with record.check(what, how) as check:
        if isinstance(seen, WsError):
            raise seen
        published = _published(site)
        inner = {
            port: node.name
            for node in site.expected.values()
            if node.inside and isinstance(ports := seen.listening.get(node.name), frozenset)
            for port in _sample(node, ports - published)
        }
        _judge_unpublished(site, check, inner, {port: seen.found[site.host_address, port] for port in inner})


def _judge_unpublished(site: Site, check: Check, inner: Mapping[int, str], found: Mapping[int, Finding]) -> None:
    """Another program of the host may have the same port: what speaks there, and Docker's bindings, tell."""
    reached = [port for port, finding in found.items() if finding["outcome"] == "open"]
    bindings = set().union(*(bound(site, seen.published) for name in site.expected if (seen := site.seen(name))))
    ours = [port for port in reached if found[port]["speaks"] in _OF_OURS or port in bindings]
    closed = sorted(set(inner) - set(reached))
    others = "; ".join(in_words(found[port]) for port in reached if port not in ours)
    note = f"another program of the host seems to listen at {others}" if others else ""
    if ours:
        check.failed("; ".join(in_words(found[port]) for port in ours), *(_open(inner[port], found[port]) for port in ours))
    elif closed:
        shown = f"{listed(closed[:6])}{', …' * (len(closed) > 6)}"
        words = f"{len(closed)} ports that nodes listen on and nobody publishes are closed: {shown}"
        check.passed("; ".join(part for part in (words, note) if part))
    else:
        check.unseen(note or "every port that a node listens on is published")


def _open(name: str, finding: Finding) -> Cause:
    what = f"{in_words(finding)}: {name} listens there, and the config publishes it nowhere"
    return Cause("not-isolated", what, f"`docker ps` and `ss -ltnp` tell who opens {finding['port']} on the host")


SCENARIO = Scenario("isolation", "The test network reaches what is published, and nothing else", 120.0, _run)
