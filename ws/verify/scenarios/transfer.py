"""Scenario transfer: one file from the outside in, from node to node, and out again, unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ws.verify.diagnose import suspect
from ws.verify.diagnose_again import head_now
from ws.verify.diagnose_client import diagnose_client, suspect_client
from ws.verify.programs import Event, ask
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.ray_client import NO_CAUSE, timed_out
from ws.verify.site import Site
from ws.verify.verdict import Cause, Check, Recorder

_LIMIT = 165.0  # seconds; each step has a limit of its own in the program, 145 s in all
_SIZE = 16 * 2**20
OUTSIDE = "outside"


def _run(site: Site, record: Recorder) -> None:
    client = next((node.name for node in site.expected.values() if node.role == "client"), None)
    head = head_now(site)
    address = _entry(site, head.name) if head else None
    if client is None or head is None or address is None:
        with record.check("a file goes in, across and out", "the program `transfer` on the client") as check:
            missing = "no client" if client is None else "no head" if head is None else "no entry for Ray Client"
            causes = suspect(site, next(iter(site.whitelist))) if client and head is None else []
            if causes:
                check.failed(f"there is {missing}", *causes)
            else:
                check.unseen(f"there is {missing}")
        return
    nodes = [head.name, _second(site, head.name)]
    params = {"address": f"ray://{address}", "nodes": nodes, "size": _SIZE}
    hops: list[Event] = []
    with record.check(
        f"a file of {_SIZE // 2**20} MiB is sent", f"the program `transfer` on {client}, ray://{address}"
    ) as check:
        events = _sent(site, client, params, address)
        hops = [event for event in events if event["event"] == "hop"]
        _judge_program(site, check, events, address)
    for source, target in ((OUTSIDE, nodes[0]), (nodes[0], nodes[1]), (nodes[1], OUTSIDE)):
        hop = next((event for event in hops if (event["source"], event["target"]) == (source, target)), None)
        _check_hop(site, record, source, target, hop, address)


def _sent(site: Site, client: str, params: Mapping[str, Any], address: str) -> list[Event]:
    """What the program says; where a step of it had too little time and nothing is found to be wrong, it is run again."""
    events = ask(site, client, "transfer", params, _LIMIT)
    cut = [event for event in events if event["event"] == "hop" and not event["ok"] and timed_out(event["detail"])]
    late = bool(events) and events[-1]["event"] == "timeout"
    if (cut or late) and not _suspect(site, params["nodes"], address):
        return ask(site, client, "transfer", params, _LIMIT)
    return events


def _suspect(site: Site, nodes: Iterable[str], address: str) -> list[Cause]:
    """What is wrong with these nodes, else with the client's way in."""
    return [cause for name in dict.fromkeys(nodes) for cause in suspect(site, name)] or suspect_client(site, address)


def _entry(site: Site, head: str) -> str | None:
    """A candidate's client entry, the head's own where it has one."""
    found = {
        node.name: f"{node.name}:{node.entries['client']}" for node in site.expected.values() if "client" in node.entries
    }
    return found.get(head) or next(iter(found.values()), None)


def _second(site: Site, head: str) -> str:
    """The node that the file goes to from the head: the external one, for the longest way; else any other; else the head."""
    others = [node for node in site.expected.values() if node.ray_node and node.role != "joiner" and node.name != head]
    others.sort(key=lambda node: node.inside)
    return others[0].name if others else head


def _judge_program(site: Site, check: Check, events: list[Event], address: str) -> None:
    sent = next((event for event in events if event["event"] == "file"), None)
    last = events[-1] if events else {"event": "broken"}
    if sent and last["event"] == "done":
        check.passed(f"{sent['bytes']} random bytes, SHA-256 {sent['sha256'][:16]}…")
        return
    why = last.get("why") or f"the program was not done after {_LIMIT:g} s"
    causes = suspect_client(site, address)
    if last["event"] == "timeout" and not causes:
        check.unseen(f"{why}, {NO_CAUSE}")
    else:
        check.failed(why, *(causes or diagnose_client(site, events, address)))


def _check_hop(site: Site, record: Recorder, source: str, target: str, hop: Event | None, address: str) -> None:
    with record.check(f"the file arrives unchanged: {source} → {target}", "SHA-256 of what was written there") as check:
        if hop is None:
            check.unseen("not tried, because of what failed before")
        elif hop["ok"]:
            check.passed(f"SHA-256 {hop['sha256'][:16]}…, {hop['seconds']:.2f} s")
        elif hop["sha256"]:
            mend = "run the test again; where it stays, check memory and disk of both machines"
            check.failed(hop["detail"], Cause("data-differs", f"{source} → {target}: {hop['detail']}", mend))
        elif causes := _suspect(site, [name for name in (source, target) if name != OUTSIDE], address):
            check.failed(hop["detail"], *causes)
        elif timed_out(hop["detail"]):
            check.unseen(f"{hop['detail']}, {NO_CAUSE}")
        else:
            check.failed(hop["detail"], *diagnose_client(site, [hop], address))


TITLE = "A file goes in, from node to node, and out again"
SCENARIO = Scenario("transfer", TITLE, 480.0, _run)
