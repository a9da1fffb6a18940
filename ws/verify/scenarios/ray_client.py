"""Scenario ray-client: programs outside use the cluster by every candidate's entry, and only with the token."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ws.verify.diagnose import suspect
from ws.verify.diagnose_access import wants_token
from ws.verify.diagnose_client import diagnose_client, suspect_client
from ws.verify.programs import Event, ask
from ws.verify.scenarios import Scenario
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Recorder

_LIMIT = 175.0  # seconds for all that the client does by one entry; each of its steps has a limit of its own, 150 s in all
_REFUSAL_LIMIT = 35.0
_WORDS = {
    "resolve": "the name of {} resolves",
    "ping": "{} answers ping",
    "gcs-port": "the GCS entry of {} is open, and a GCS",
    "client-port": "the Ray Client entry of {} is open, and a Ray Client server",
    "init": 'ray.init("ray://…") by {}',
    "resources": "the cluster's resources and nodes, by {}",
    "tasks": "a task on every node, by {}",
    "actor": "an actor, by {}",
    "object": "an object there and back, by {}",
}
_NEEDED = tuple(_WORDS)
_GETTING_IN = ("resolve", "ping", "gcs-port", "client-port", "init")

_TIMED_OUT = re.compile(r"no answer (within|in time)|[Tt]ime(d )?-?out|DEADLINE_EXCEEDED")
NO_CAUSE = "and nothing that was looked at is wrong: a machine that is too busy may be that slow"

Entry = Mapping[str, Any]


def _run(site: Site, record: Recorder) -> None:
    client = next((node for node in site.expected.values() if node.role == "client"), None)
    if client is None:
        with record.check("there is a client outside", "the configuration") as check:
            check.unseen("the configuration names none (cluster_test.enabled)")
        return
    entries = given_entries(site, client)
    params = {"entries": entries, "without_token": True}
    with ThreadPoolExecutor(max_workers=1) as pool:
        # It waits more than it works: meanwhile, the others are made.
        refusal = pool.submit(ask, site, client.name, "client", params, _REFUSAL_LIMIT)
        for entry in entries:
            _check_entry(site, record, client, entry)
        _check_refusal(site, record, client, refusal)


def given_entries(site: Site, client: Expected) -> list[Entry]:
    """The entries that the client's container was told, as the program `client` takes them; else those of the plan."""
    seen = site.seen(client.name)
    with suppress(ValueError):
        told = json.loads(seen.environment.get("WS_CLIENT_ENTRIES", "") if seen else "")
        if isinstance(told, list) and told:
            return told
    return [
        {"name": node.name, "gcs": node.entries["head"], "client": node.entries["client"]}
        for node in site.expected.values()
        if "client" in node.entries
    ]


def _check_entry(site: Site, record: Recorder, client: Expected, entry: Entry) -> None:
    """All that the program does by one entry, a check for each; what was not come to failed with what came before it."""
    events: list[Event] = []
    with record.check(f"the client's program runs for {entry['name']}", f"the program `client` on {client.name}") as check:
        events, causes = _made(site, client, entry)
        last = events[-1] if events else {"event": "broken", "why": "it said nothing"}
        if last["event"] == "done":
            versions = next((event for event in events if event["event"] == "versions"), None)
            check.passed(_versions(versions) if versions else "it came to its end")
        elif last["event"] == "timeout" and not causes:
            check.unseen(f"it was not done after {_LIMIT:g} s, {NO_CAUSE}")
        else:
            why = last.get("why") or f"it was not done after {_LIMIT:g} s"
            check.failed(why, *(causes or diagnose_client(site, events, _address(entry))))
    _check_each(site, record, client, entry, events, causes)


def _made(site: Site, client: Expected, entry: Entry) -> tuple[list[Event], list[Cause]]:
    """What the program says, and what is found to be wrong. Where it did not get in, and nothing is, it is asked again."""
    params = {"entries": [entry], "nodes": _living(site)}
    events: list[Event] = []
    for _ in range(2):
        events = ask(site, client.name, "client", params, _LIMIT)
        failed = _failed(site, events)
        if not failed and events and events[-1]["event"] == "done":
            return events, []
        causes = suspect_client(site, _address(entry)) or _of_nodes(site, failed)
        if causes or not any(event["check"] in _GETTING_IN for event in failed):
            return events, causes
    return events, []


def _failed(site: Site, events: list[Event]) -> list[Event]:
    return [event for event in events if event["event"] == "check" and not _holds(site, event)]


def _of_nodes(site: Site, failed: list[Event]) -> list[Cause]:
    """What is wrong with the nodes on which a task did not work."""
    names = [name for event in failed for name in event.get("evidence", {}).get("failed", []) if name in site.expected]
    return [cause for name in names for cause in suspect(site, name)]


def _living(site: Site) -> list[str]:
    """The nodes that a client must see; the joiner comes and goes."""
    return [node.name for node in site.expected.values() if node.ray_node and node.role != "joiner"]


def _address(entry: Entry) -> str:
    return f"{entry['name']}:{entry.get('client')}"


def _versions(event: Event) -> str:
    sides = {"here": event.get("mine"), "the cluster": event.get("cluster")}
    return "; ".join(f"{side}: Ray {of['ray']}, Python {of['python'] or 'unknown'}" for side, of in sides.items() if of)


def _check_each(
    site: Site, record: Recorder, client: Expected, entry: Entry, events: list[Event], causes: list[Cause]
) -> None:
    made = {event["check"]: event for event in events if event["event"] == "check"}
    failed = {event["check"]: event for event in _failed(site, events)}
    causes = causes or _said(site, events, entry, list(failed.values()))
    for name in _NEEDED:
        what = _WORDS[name].format(entry["name"])
        with record.check(what, f"from {client.name}, {_address(entry)}") as check:
            event = made.get(name)
            if event is None:
                check.unseen(f"not tried, because of what failed before: {', '.join(failed) or 'the program broke'}")
            elif name not in failed:
                check.passed(f"{event['detail']} ({event['seconds']:.1f} s)")
            elif not causes and timed_out(event["detail"]):
                check.unseen(f"{event['detail']}, {NO_CAUSE}")
            else:
                check.failed(event["detail"], *(causes or diagnose_client(site, [event], _address(entry))))


def timed_out(words: str) -> bool:
    """Whether that is how a step ends which had too little time, and not one that went wrong."""
    return bool(_TIMED_OUT.search(words))


def _holds(site: Site, event: Event) -> bool:
    """Whether a check passed; a task on a joiner that was just leaving does not count."""
    if event["check"] == "tasks" and not event["ok"]:
        lost = set(event.get("evidence", {}).get("failed", ["?"]))
        return lost <= {node.name for node in site.expected.values() if node.role == "joiner"}
    return bool(event["ok"])


def _said(site: Site, events: list[Event], entry: Entry, failed: list[Event]) -> list[Cause]:
    """What the client itself says that is wrong, where nothing was found out here."""
    said = next((event for event in failed if event.get("cause") not in (None, "ray-error")), None)
    if said is None:
        return []
    remedy = diagnose_client(site, events, _address(entry))[0].remedy
    return [Cause(said["cause"], said["detail"], remedy)]


def _check_refusal(site: Site, record: Recorder, client: Expected, refusal: Future[list[Event]]) -> None:
    what = "a client without the token is refused"
    with record.check(what, f"the program `client` on {client.name}, without its token") as check:
        if not any(wants_token(site, node.name) for node in site.expected.values() if node.role == "candidate"):
            check.failed("no candidate's environment asks for a token", _token_off("RAY_AUTH_MODE is not `token`"))
            return
        events = refusal.result()
        event = next((event for event in events if event["event"] == "refused"), None)
        if event is None:
            check.unseen(str(events[-1].get("why") or "no answer in time") if events else "the program said nothing")
        elif event["ok"]:
            check.passed(f"{event['how']} ({event['seconds']:.1f} s)")
        elif event["ok"] is None:
            check.unseen(event["how"])
        else:
            check.failed(event["how"], _token_off(f"{event['entry']} let in a client that had none"))


def _token_off(what: str) -> Cause:
    mend = (
        "give each node RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH again (`ws render`, `ws up`): who gets in can run code"
    )
    return Cause("token-off", f"the cluster asks clients for no token: {what}", mend)


TITLE = "Ray Client from the isolated network, by every entry, and only with the token"
SCENARIO = Scenario("ray-client", TITLE, 900.0, _run)  # twice the limit for each of two entries, and looking for causes
