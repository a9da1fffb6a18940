"""Scenarios `links` and `transfer`: what moves between nodes, and in and out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ws.verify.links_rule import Way, best, lopsided, slow, told
from ws.verify.outside_cluster import Outside
from ws.verify.outside_local import HERE
from ws.verify.programs import ask
from ws.verify.verdict import Cause, Check, Link, Recorder

_PAIR_LIMIT = 10.0  # seconds for the calls of a pair, and as much for its object
_START_LIMIT = 40.0  # seconds for an actor on each node
_CONNECT_LIMIT = 40.0
_LINKS_LIMIT = 500.0  # seconds for all measuring, with what is looked at again
_MOST_NODES = 10  # nodes whose links are measured, which are 90
_TRANSFER_LIMIT = 160.0  # seconds; its steps have limits of their own
_OUTSIDE = "outside"
_LINK_FIELDS = ("source", "target", "median_ms", "p99_ms", "bandwidth", "trouble")


def check_links(outside: Outside, record: Recorder) -> None:
    """Every link between two nodes carries calls and an object, both ways alike; how fast is for the report.

    Of many nodes it is a sample: links are measured one after the other.
    """
    nodes = {node.name: node for node in outside.watched().await_nodes()}
    names = _sample(sorted(nodes, key=lambda name: (not nodes[name].head, name)))
    if len(nodes) == 1:
        with record.check("every link carries calls and objects", "pairs of nodes") as check:
            check.passed("one node, so there is no link")
        return
    if left_out := sorted(nodes.keys() - names):
        with record.check(
            f"{len(names)} of {len(nodes)} nodes are a sample", "the head, and others by their names"
        ) as check:
            check.passed(f"the links between these are measured; none of {', '.join(left_out)}")
    ends = time.monotonic() + _LINKS_LIMIT
    heard = _measure(outside, names, ends)
    measured = best(_links(heard), lambda pair: _links(_measure(outside, pair, ends)))
    outside.links = list(measured.values())
    for name in names:
        with record.check(f"links from {name} carry calls and objects", "calls between actors, and 32 MiB, each") as check:
            _judge_links(outside, check, name, [other for other in names if other != name], measured, heard[-1])


def _sample(names: Sequence[str]) -> list[str]:
    """The first one and others, evenly from among the rest."""
    if len(names) <= _MOST_NODES:
        return list(names)
    rest, count = names[1:], _MOST_NODES - 1
    return [names[0], *(rest[place * len(rest) // count] for place in range(count))]


def _measure(outside: Outside, names: Sequence[str], ends: float) -> list[dict[str, Any]]:
    """What the program `links` says; nothing where there is no time left, by the monotonic clock."""
    left = ends - time.monotonic()
    if left < _CONNECT_LIMIT:
        return []
    pairs = len(names) * (len(names) - 1)
    limit = min(left, _CONNECT_LIMIT + _START_LIMIT + 2 * _PAIR_LIMIT * pairs)
    params = {
        "address": outside.driver_address(),
        "nodes": list(names),
        "pair_timeout": _PAIR_LIMIT,
        "start_timeout": _START_LIMIT,
    }
    return ask(outside.runs, HERE, "links", params, limit)


def _links(heard: Iterable[Mapping[str, Any]]) -> list[Link]:
    return [Link(**{key: event[key] for key in _LINK_FIELDS}) for event in heard if event["event"] == "link"]


def _judge_links(
    outside: Outside,
    check: Check,
    source: str,
    others: Sequence[str],
    measured: Mapping[Way, Link],
    last: Mapping[str, Any],
) -> None:
    """The links from one node; of a lopsided pair it is the slower direction that fails."""
    left = {name: why for name in (source, *others) if (why := outside.watched().left(name))}
    links = [measured[source, other] for other in others if (source, other) in measured]
    dead = [link for link in links if link.trouble and not {link.source, link.target} & left.keys()]
    slower = [link for link in links if _slower(link, measured.get((link.target, link.source)))]
    missing = [other for other in others if (source, other) not in measured and not {source, other} & left.keys()]
    said = "\n".join([*map(told, links), *(f"{name} left meanwhile: {why}" for name, why in left.items())])
    if dead or slower:
        both_ways = {link: f"{told(link)}; {told(measured[link.target, link.source])}" for link in slower}
        check.failed(said, *map(_dead, dead), *(slow(link, both_ways[link]) for link in slower))
    elif missing:
        check.unseen(f"{len(missing)} not measured: {last.get('why') or 'there was no time left'}\n{said}".strip())
    else:
        check.passed(said)


def _slower(link: Link, back: Link | None) -> bool:
    return back is not None and lopsided([link, back]) and (link.bandwidth or 0.0) < (back.bandwidth or 0.0)


def _dead(link: Link) -> Cause:
    remedy = f"open the ports of {link.source} to {link.target}, and those of {link.target} to {link.source}"
    return Cause("link-dead", f"{link.source} → {link.target}: {link.trouble}", remedy)


def check_transfer(outside: Outside, record: Recorder) -> None:
    """A file from here to one node, from there to another, and back; its hash is the same each time."""
    nodes = sorted(outside.watched().await_nodes(), key=lambda node: (not node.head, node.name))
    first, second = nodes[0].name, nodes[-1].name
    heard = _transfer(outside, [first, second])
    if _not_connected(heard):
        heard = _transfer(outside, [first, second])  # a head may be slow to start a server for a client
    hops = {(event["source"], event["target"]): event for event in heard if event["event"] == "hop"}
    for source, target in ((_OUTSIDE, first), (first, second), (second, _OUTSIDE)):
        with record.check(
            f"a file goes {source} → {target}", "16 MiB at random, SHA-256 of what was written there"
        ) as check:
            if _not_connected(heard):
                check.unseen("the driver that should move it could not connect in time, as another one did before")
            elif left := next((why for name in (first, second) if (why := outside.watched().left(name))), ""):
                check.passed(f"not tried to its end, as a node left meanwhile: {left}")
            elif (source, target) in hops:
                _judge_hop(check, hops[source, target])
            else:
                check.unseen(f"not tried: {heard[-1].get('why') or 'the one before did not arrive'}")


def _transfer(outside: Outside, nodes: list[str]) -> list[dict[str, Any]]:
    params = {"address": outside.driver_address(), "nodes": nodes}
    return ask(outside.runs, HERE, "transfer", params, _TRANSFER_LIMIT)


def _not_connected(heard: list[dict[str, Any]]) -> bool:
    return any(event["event"] == "hop" and event["detail"].startswith("connecting:") for event in heard)


def _judge_hop(check: Check, hop: Mapping[str, Any]) -> None:
    if hop["ok"]:
        check.passed(f"SHA-256 {hop['sha256'][:16]}… as sent, {hop['seconds']:.1f} s")
        return
    key = "data-differs" if hop["sha256"] else "link-dead"
    remedy = f"open the object-manager ports between {hop['source']} and {hop['target']}; raylet.out there tells more"
    check.failed(hop["detail"], Cause(key, f"{hop['source']} → {hop['target']}: {hop['detail']}", remedy))
