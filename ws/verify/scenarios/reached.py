"""Who reaches the health server and the dashboards, and from where. Part of the scenario services."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from ws.errors import EnvironmentProblem, WsError
from ws.verify.diagnose import certain
from ws.verify.diagnose_again import again, lease_now
from ws.verify.scenarios.looking import (
    Finding,
    Target,
    absence,
    brings_up,
    for_each,
    in_words,
    made_anew,
    probe,
    probe_again,
)
from ws.verify.scenarios.published import bound, not_published
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Check, Recorder

_TIMEOUT = 5.0  # seconds
_DEFAULT_HEALTH = ("health", 8080)


def check_health(site: Site, record: Recorder) -> None:
    """Checks that the health server answers this machine, and shows the lease to holders of the token alone."""
    _check_health_from_host(site, record)
    _check_lease_wants_token(site, record)


def health_target(site: Site) -> Target:
    """Where nodes look for it: the HEALTH_URL that they are given."""
    for node in site.expected.values():
        parts = urlsplit(node.environment.get("HEALTH_URL", ""))
        if parts.hostname and parts.port:
            return parts.hostname, parts.port
    return _DEFAULT_HEALTH


def _health_cause(site: Site, seen: str) -> Cause:
    health = site.expected.get("health")
    if health is None:
        return Cause("health-down", seen, "start the health server that HEALTH_URL names")
    remedy = f"`docker logs {health.container}` tells why; `docker restart {health.container}` starts it anew"
    return absence(health, site.seen("health")) or Cause("health-down", f"{health.container} runs: {seen}", remedy)


def _health_url(site: Site) -> str | None:
    """Where this machine reaches it: by what is published, else by its own address, which its bridge leads to."""
    health = site.expected.get("health")
    if health and health.published:
        place = min(health.published, key=lambda place: not place.startswith("127."))
        return f"http://{place.replace('0.0.0.0', '127.0.0.1')}"
    seen = site.seen("health") if health else None
    addresses = list(seen.addresses.values()) if seen else []
    return f"http://{addresses[0]}:{health_target(site)[1]}" if addresses else None


def _get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # no proxy between us and our own machine
        try:
            return session.get(url, timeout=_TIMEOUT)
        except requests.RequestException as error:
            why = str(error).rpartition("] ")[2].strip("\"')")  # the telling end of a long chain of errors
            raise EnvironmentProblem(f"GET {url} fails", why) from None


def _check_health_from_host(site: Site, record: Recorder) -> None:
    url = _health_url(site)
    with record.check("the health server answers this machine", f"GET {url or 'of the health server'}/") as check:
        if url is None:
            cause = _health_cause(site, "it publishes nothing, and has no address")
            check.failed(cause.what, cause)
            return
        try:
            answer = again(lambda: _get(url + "/"), lambda answer: answer.status_code == 200)
        except EnvironmentProblem as problem:
            check.failed(f"{problem.what}: {problem.why}", _health_cause(site, problem.what))
            return
        said = f"{answer.status_code} {answer.text.strip()[:40]}"
        if answer.status_code == 200:
            check.passed(said)
        else:
            check.failed(said, _health_cause(site, f"GET {url}/ answers {said}"))


def _check_lease_wants_token(site: Site, record: Recorder) -> None:
    url = _health_url(site)
    with record.check("the lease is shown to holders of the token alone", f"GET {url}/lease without and with it") as check:
        if url is None or lease_now(site) is None:
            cause = _health_cause(site, "GET /lease with the token has no answer")
            check.failed(cause.what, cause)
            return
        status = again(lambda: _get(url + "/lease").status_code, lambda status: status == 401)
        if status == 401:
            check.passed("401 without the token, the lease with it")
        else:
            what = f"GET {url}/lease answers {status} to whoever has no token"
            health = site.expected["health"]
            remedy = f"the health server must have the token file, RAY_AUTH_TOKEN_PATH: {made_anew(health)}"
            check.failed(what, Cause("token-off", what, remedy))


# From other places


def check_reach(site: Site, record: Recorder, place: Expected | None, targets: Mapping[Target, str], words: str) -> None:
    """One check for each target, that it is reached from a node and speaks what it should: `health` or `dashboard`."""
    gone = absence(place, site.seen(place.name)) if place else None
    found: Mapping[Target, Finding] | WsError = {}
    if place and gone is None:
        [found] = for_each([place.name], lambda name: _probe(site, name, targets)).values()
    for target, speaks in targets.items():
        what = f"the {speaks} at {target[0]}:{target[1]} answers {words}"
        with record.check(what, f"its port, looked at from {place.name if place else words}") as check:
            if place is None:
                check.unseen(f"no node runs that could look from {words}")
            elif gone:
                check.failed(gone.what, gone)
            elif isinstance(found, WsError):
                raise found
            else:
                _judge(site, check, place, found, target, speaks)


def _probe(site: Site, name: str, targets: Mapping[Target, str]) -> dict[Target, Finding]:
    return probe_again(site, name, probe(site, name, targets, identify=True))


def _judge(site: Site, check: Check, place: Expected, found: Mapping[Target, Finding], target: Target, speaks: str) -> None:
    finding = found[target]
    if finding["outcome"] == "open" and finding["speaks"] == speaks:
        check.passed(in_words(finding))
        return
    silent = len(found) > 1 and all(one["outcome"] in ("timeout", "unreachable") for one in found.values())
    check.failed(in_words(finding), _unreached(site, place, finding, speaks, silent))


def _unreached(site: Site, place: Expected, finding: Finding, speaks: str, silent: bool) -> Cause:
    """Why a server is not reached; `silent`: nothing that was tried from there answers."""
    host, port, outcome = finding["host"], finding["port"], finding["outcome"]
    what = f"from {place.name}, {in_words(finding)}"
    server, seen = site.expected.get(host), site.seen(host)
    if server and (down := absence(server, seen)):
        return down
    if outcome == "unresolved":
        return Cause("name-unknown", what, _names_it(site, place, host))
    if outcome == "open" and finding["speaks"] != "unknown":
        return Cause(
            "wrong-port", f"{what}, expected is the {speaks}", f"`ws config show` has the port of the {speaks} at {host}"
        )
    if not place.inside and finding["ip"] != site.host_address:
        what = f"{what}; {host} should be {site.host_address} there"
        return Cause("name-wrong", what, f"correct `extra_hosts` of {place.container}: {made_anew(place)}")
    if server and seen and not place.inside and port not in bound(site, seen.published):
        return not_published(server, [f"{site.host_address}:{port}"])
    if outcome in ("timeout", "unreachable"):
        key, which = (
            ("host-unreachable", site.host_address) if silent and not place.inside else ("port-blocked", f"port {port}")
        )
        remedy = (
            f"something drops packets from {place.network} to {which}: `iptables -S` on the host shows its firewall's rules"
        )
        return Cause(key, what, remedy)
    if speaks == "health":
        return _health_cause(site, what)
    if server and server.ray_node and (causes := certain(site, host)):
        return causes[0]
    return Cause(
        "dashboard-down", what, f"`ws logs {host}` tells what it relays; `ws status` who leads; `ws up` proves the head"
    )


def _names_it(site: Site, place: Expected, host: str) -> str:
    seen = site.seen(place.name)
    if seen and host in seen.extra_hosts:  # Docker drops them from /etc/hosts when a network is connected or disconnected
        return f"the /etc/hosts of {place.container} has lost its `extra_hosts`: `docker restart {place.container}`"
    if place.inside:
        return f"{brings_up(place)} puts {host} into {place.network} again"
    return f"{place.container} needs `extra_hosts: {host}:{site.host_address}`: {made_anew(place)}"
