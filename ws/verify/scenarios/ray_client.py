"""Scenario ray-client: programs outside use the cluster by every candidate's entry, and only with the token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ws.verify.diagnose_access import wants_token
from ws.verify.diagnose_client import diagnose_client
from ws.verify.programs import Event, ask
from ws.verify.scenarios import Scenario
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Recorder

_LIMIT = 75.0  # seconds for all that the client does by one entry
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
        params = {"entries": [entry], "nodes": _living(site)}
        events = ask(site, client.name, "client", params, _LIMIT)
        last = events[-1] if events else {"event": "broken", "why": "it said nothing"}
        if last["event"] == "done":
            versions = next((event for event in events if event["event"] == "versions"), None)
            check.passed(_versions(versions) if versions else "it came to its end")
        else:
            why = last.get("why") or f"it was not done after {_LIMIT:g} s"
            check.failed(why, *diagnose_client(site, events, _address(entry)))
    _check_each(site, record, client, entry, events)


def _living(site: Site) -> list[str]:
    """The nodes that a client must see; the joiner comes and goes."""
    return [node.name for node in site.expected.values() if node.ray_node and node.role != "joiner"]


def _address(entry: Entry) -> str:
    return f"{entry['name']}:{entry.get('client')}"


def _versions(event: Event) -> str:
    sides = {"here": event.get("mine"), "the cluster": event.get("cluster")}
    return "; ".join(f"{side}: Ray {of['ray']}, Python {of['python'] or 'unknown'}" for side, of in sides.items() if of)


def _check_each(site: Site, record: Recorder, client: Expected, entry: Entry, events: list[Event]) -> None:
    made = {event["check"]: event for event in events if event["event"] == "check"}
    failed = {name: event for name, event in made.items() if not _holds(site, event)}
    causes = _causes(site, events, entry, list(failed.values())) if failed else []
    for name in _NEEDED:
        what = _WORDS[name].format(entry["name"])
        with record.check(what, f"from {client.name}, {_address(entry)}") as check:
            event = made.get(name)
            if event is None:
                check.unseen(f"not tried, because of what failed before: {', '.join(failed) or 'the program broke'}")
            elif name in failed:
                check.failed(event["detail"], *causes)
            else:
                check.passed(f"{event['detail']} ({event['seconds']:.1f} s)")


def _holds(site: Site, event: Event) -> bool:
    """Whether a check passed; a task on a joiner that was just leaving does not count."""
    if event["check"] == "tasks" and not event["ok"]:
        lost = set(event.get("evidence", {}).get("failed", ["?"]))
        return lost <= {node.name for node in site.expected.values() if node.role == "joiner"}
    return bool(event["ok"])


def _causes(site: Site, events: list[Event], entry: Entry, failed: list[Event]) -> list[Cause]:
    """What was found out here; where that is nothing, what the client itself says."""
    causes = diagnose_client(site, events, _address(entry))
    said = next((event for event in failed if event.get("cause") not in (None, "ray-error")), None)
    if causes[0].key != "ray-error" or said is None:
        return causes
    return [Cause(said["cause"], said["detail"], causes[0].remedy)]


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
SCENARIO = Scenario("ray-client", TITLE, 240.0, _run)
