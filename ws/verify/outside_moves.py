"""Scenarios `links` and `transfer`: what moves between nodes, and in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ws.verify.outside_cluster import Outside
from ws.verify.outside_local import HERE
from ws.verify.programs import ask
from ws.verify.verdict import Cause, Check, Link, Recorder

_PAIR_LIMIT = 10.0  # seconds for the calls of a pair, and as much for its object
_START_LIMIT = 40.0  # seconds for an actor on each node
_CONNECT_LIMIT = 40.0
_TRANSFER_LIMIT = 160.0  # seconds; its steps have limits of their own
_OUTSIDE = "outside"
_LINK_FIELDS = ("source", "target", "median_ms", "p99_ms", "bandwidth", "trouble")


def check_links(outside: Outside, record: Recorder) -> None:
    """Every link between two nodes carries calls and an object; how fast is for the report."""
    names = sorted({node.name for node in outside.watched().await_nodes()})
    pairs = len(names) * (len(names) - 1)
    if not pairs:
        with record.check("every link carries calls and objects", "pairs of nodes") as check:
            check.passed("one node, so there is no link")
        return
    params = {
        "address": outside.driver_address(),
        "nodes": names,
        "pair_timeout": _PAIR_LIMIT,
        "start_timeout": _START_LIMIT,
    }
    heard = ask(outside.runs, HERE, "links", params, _CONNECT_LIMIT + _START_LIMIT + 2 * _PAIR_LIMIT * pairs)
    outside.links = [Link(**{key: event[key] for key in _LINK_FIELDS}) for event in heard if event["event"] == "link"]
    for name in names:
        with record.check(
            f"links from {name} carry calls and objects", "50 calls between actors, and 32 MiB, each"
        ) as check:
            _judge_links(check, [link for link in outside.links if link.source == name], len(names) - 1, heard[-1])


def _judge_links(check: Check, links: list[Link], expected: int, last: Mapping[str, Any]) -> None:
    dead = [link for link in links if link.trouble]
    said = "\n".join(_in_words(link) for link in links)
    if dead:
        check.failed(said, *(_dead(link) for link in dead))
    elif len(links) < expected:
        check.unseen(f"{expected - len(links)} not measured: {last.get('why') or 'there was no time left'}\n{said}".strip())
    else:
        check.passed(said)


def _in_words(link: Link) -> str:
    if link.trouble or link.bandwidth is None:
        return f"to {link.target}: {link.trouble}"
    return f"to {link.target}: {link.median_ms} ms (99 % within {link.p99_ms} ms), {link.bandwidth / 1e6:.0f} MB/s"


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
