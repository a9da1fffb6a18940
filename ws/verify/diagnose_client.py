"""Why a Ray Client does not get in: the same order as for nodes, from the container to the versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ws.errors import WsError
from ws.verify import diagnose_access as access
from ws.verify import diagnose_state as state
from ws.verify import diagnose_way as way
from ws.verify.diagnose_case import TEST_TEMPLATE, Case, host_and_port, probe_patiently
from ws.verify.programs import Event
from ws.verify.site import Site
from ws.verify.verdict import Cause

_VERSIONS = "import json, platform, ray; print(json.dumps({'ray': ray.__version__, 'python': platform.python_version()}))"
_PYTHON = "import json, platform; print(json.dumps({'python': platform.python_version()}))"
_VERSION_TIME = 30.0  # seconds that `import ray` may take on a busy machine


def diagnose_client(site: Site, events: Sequence[Event], address: str = "") -> list[Cause]:
    """Why the test client can't use the cluster, the most fundamental cause first; never empty.

    Args:
        events: what the program `client` said, empty where it said nothing.
        address: the client entry that it was given (host:port); "": those that its container was given.

    Raises KeyError where the site expects no client.
    """
    return suspect_client(site, address) or [_in_rays_words(Case(site, client_name(site)), events)]


def suspect_client(site: Site, address: str = "") -> list[Cause]:
    """As `diagnose_client`, by looking and probing alone; empty where everything seems to be in order."""
    case = Case(site, client_name(site))
    looks: list[Callable[[], list[Cause]]] = [
        lambda: state.container(case),
        lambda: state.leader(case),
        lambda: access.no_token(case),
        lambda: way.names(case),
        lambda: _given_wrong(case, address),
        lambda: _entries(case, address),
        lambda: _versions(case),
        lambda: _entry_ports(case),
        lambda: state.ended(case),
    ]
    for look in looks:
        if found := look():
            return found
    return []


def client_name(site: Site) -> str:
    """The test client's hostname; raises KeyError where none is expected."""
    for node in site.expected.values():
        if node.role == "client":
            return node.name
    raise KeyError("client")


def given_entries(case: Case) -> list[str]:
    """The client entries that the client's container was told, host:port; those of the plan where it was told none."""
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(case.environment.get("WS_CLIENT_ENTRIES", ""))
        return [f"{entry['name']}:{entry['client']}" for entry in told]
    return [f"{node.name}:{node.entries['client']}" for node in case.site.expected.values() if "client" in node.entries]


def _given_wrong(case: Case, address: str) -> list[Cause]:
    """A port of the plan that is no Ray Client port."""
    for given in [address] if address else given_entries(case):
        host, port = host_and_port(given)
        node = case.site.expected.get(host)
        kinds = [kind for kind, number in node.entries.items() if number == port and kind != "client"] if node else []
        if kinds:
            return [_wrong_port(case, given, "gcs" if kinds[0] == "head" else kinds[0])]
    return []


def _wrong_port(case: Case, given: str, speaks: str) -> Cause:
    key = "wrong-port-gcs" if speaks == "gcs" else "wrong-port"
    whose = access.speaker(speaks)
    what = f"Ray Client on {case.name} was given ray://{given}; {whose} answers there, no Ray Client server"
    rights = access.entries(case.site, "client").replace(", ", ", ray://")
    mend = f"use ray://{rights}; WS_CLIENT_ENTRIES of the service {case.name} in {TEST_TEMPLATE} tells the client"
    return Cause(key, what, mend)


def _entries(case: Case, address: str) -> list[Cause]:
    """How each entry looks from the client, and what answers there."""
    given = {host_and_port(entry): entry for entry in ([address] if address else given_entries(case))}
    found = probe_patiently(case.site, case.name, list(given))
    causes = [cause for at in found for cause in _entry(case, given.get((at["host"], at["port"]), ""), at)]
    return list({(cause.key, cause.what): cause for cause in causes}.values())


def _entry(case: Case, given: str, at: dict[str, Any]) -> list[Cause]:
    if at["outcome"] != "open":
        hint = f"the entries for Ray Client are {access.entries(case.site, 'client')}"
        return [access.unreached(case, at["host"], at, hint)]
    if at.get("speaks") in ("gcs", "dashboard", "health", "http"):
        return [_wrong_port(case, given, at["speaks"])]
    if at.get("token") in ("wrong", "missing"):
        return [access.refused_token(case.name, given, at["token"])]
    return []


def _versions(case: Case) -> list[Cause]:
    """Ray and Python here and on the head; Ray Client refuses another Ray, and another minor release of Python."""
    if case.head is None:
        return []
    own = _ask_versions(case.site, case.name)
    cluster = _ask_versions(case.site, case.head.name)
    image = case.seen.image if case.seen else case.node.image
    wanted = case.node.image or "the cluster's image"
    mend = f"its image is {image}; use {wanted} (`image:` of the service {case.name} in {TEST_TEMPLATE})"
    return access.compared(case.name, own, cluster, mend)


def _ask_versions(site: Site, name: str) -> dict[str, Any]:
    for text in (_VERSIONS, _PYTHON):
        with suppress(WsError, ValueError):
            found = json.loads(site.run(name, ["python3", "-c", text], timeout=_VERSION_TIME).stdout)
            if isinstance(found, dict):
                return found
    return {}


def _entry_ports(case: Case) -> list[Cause]:
    return [cause for node in case.inside if node.entries for cause in way.published(Case(case.site, node.name))]


def _in_rays_words(case: Case, events: Sequence[Event]) -> Cause:
    failed = [event for event in events if event.get("ok") is not True]
    said = [str(event[key]) for event in failed for key in ("why", "detail") if event.get(key)]
    said = said or [line.strip() for line in case.log.splitlines() if "✗" in line][-1:]
    words = said[-1] if said else "it did not connect, and nothing that was looked at tells why"
    mend = f"`docker logs {case.node.container}` shows all that it tried"
    return Cause("ray-error", f"Ray Client on {case.name}: {words}", mend)
