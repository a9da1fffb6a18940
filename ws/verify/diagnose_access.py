"""Who may join, and by which address: tokens, versions, entries."""

from __future__ import annotations

import re
from typing import Any

from ws.verify.diagnose_case import TEST_TEMPLATE, Case, add, edit, host_and_port, probe_patiently
from ws.verify.site import Site
from ws.verify.verdict import Cause

_TOKEN_FILE = re.compile(r"RAY_AUTH_TOKEN_PATH=\S+ (?:can't be read \([^)]*\)|is empty|is no text)")
_REFUSED = re.compile(r"refuses this node's token|Unauthenticated|UNAUTHENTICATED|InvalidAuthToken")
_MISMATCH = re.compile(
    r"Version mismatch.*?Ray:\s*(?P<ray>\S+).*?Python:\s*(?P<python>\S+)"
    r".*?This process.*?Ray:\s*(?P<own_ray>\S+).*?Python:\s*(?P<own_python>\S+)",
    re.DOTALL,
)
_BANNER = re.compile(r"Ray (?P<ray>\d\S*), Python (?P<python>\d[\d.]*)")
_GAVE_UP = re.compile(r"no head within .*?\(WAIT_FOR_HEAD\): (?P<why>.*)")
_SAME_FILE = "mount the project's `.ws/token` there (`secrets: [ray_token]`, from ${WS_TOKEN_FILE:-./.ws/token})"


def no_token(case: Case) -> list[Cause]:
    """Where the cluster wants a token, the container must have one."""
    given = case.environment
    if case.seen is None or not wants_token(case.site, case.name):
        return []
    without = [name for name in ("RAY_AUTH_MODE",) if given.get(name) != "token"]
    if not (given.get("RAY_AUTH_TOKEN_PATH") or given.get("RAY_AUTH_TOKEN")):
        without.append("RAY_AUTH_TOKEN_PATH")
    if without:
        what = f"the cluster wants a token, and the environment of {case.name} has no {' and no '.join(without)}"
        mend = edit(case.node, "environment", "{RAY_AUTH_MODE: token, RAY_AUTH_TOKEN_PATH: /run/secrets/ray_token}")
        return [Cause("token-missing", what, f"{mend}, and {_SAME_FILE}")]
    found = _TOKEN_FILE.search(case.trouble)
    return [Cause("token-missing", f"{case.name} says {found.group(0)}", _SAME_FILE)] if found else []


def wants_token(site: Site, name: str) -> bool:
    """Whether the config gives this node a token, or one of its cluster's nodes has one."""
    wanted = site.expected[name].environment
    if "RAY_AUTH_MODE" in wanted:
        return wanted["RAY_AUTH_MODE"] == "token"
    candidates = [site.seen(node.name) for node in site.expected.values() if node.role == "candidate"]
    return any(seen and seen.environment.get("RAY_AUTH_MODE") == "token" for seen in candidates)


def token_refused(case: Case) -> list[Cause]:
    """The node's own log says that the head refused it."""
    if not _REFUSED.search(case.trouble):
        return []
    return [Cause("token-wrong", f"the head refuses the token of {case.name}, as its log says", _other_token(case.name))]


def _other_token(name: str) -> str:
    return f"{name} must have the token that the head has: {_SAME_FILE}, then start it again"


def wrong_entry(case: Case) -> list[Cause]:
    """HEAD_ADDRESS must be a GCS entry; Ray Client and dashboard have ports of their own."""
    host, port = host_and_port(case.entry)
    for node in case.site.expected.values():
        kinds = [kind for kind, number in node.entries.items() if number == port and kind != "head"]
        if kinds and host in (node.name, case.site.host_address):
            return [_no_gcs(case, kinds[0], f"{node.name}'s {_PORT_OF[kinds[0]]}")]
    return []


def speaker(kind: str) -> str:
    """What answers at a port, in words, from what `netprobe` heard it speak."""
    return _SPEAKERS.get(kind, "something else")


_PORT_OF = {"client": "Ray Client port", "dashboard": "dashboard port"}


def _no_gcs(case: Case, speaks: str, whose: str) -> Cause:
    what = f"HEAD_ADDRESS of {case.name} is {case.entry}, which is {whose}; a worker joins by a GCS port"
    key = "wrong-port-client" if speaks == "client" else "wrong-port"
    return Cause(key, what, f"HEAD_ADDRESS must be one of {entries(case.site)}")


def entries(site: Site, kind: str = "head") -> str:
    """The addresses that lead to the head, in words."""
    return ", ".join(f"{node.name}:{node.entries[kind]}" for node in site.expected.values() if kind in node.entries)


def versions_refused(case: Case) -> list[Cause]:
    """Ray prints both sides' versions where it refuses a node."""
    found = _MISMATCH.search(case.trouble)
    if not found:
        return []
    cluster = {"ray": found["ray"], "python": found["python"]}
    return compared(case.name, {"ray": found["own_ray"], "python": found["own_python"]}, cluster, _image(case))


def _image(case: Case) -> str:
    image = case.seen.image if case.seen else case.node.image
    wanted = case.node.image or "the image of the other nodes"
    return f"its image is {image}; give it {wanted} (`image:` in {TEST_TEMPLATE}, or services.ray.image in config.yaml)"


def compared(name: str, own: dict[str, Any], cluster: dict[str, Any], remedy: str) -> list[Cause]:
    """Ray's versions must be equal, Python's in their first two numbers; a version that is not known is left out."""
    found = []
    if own.get("ray") and cluster.get("ray") and own["ray"] != cluster["ray"]:
        found.append(Cause("ray-version", f"{name} has Ray {own['ray']}, the cluster Ray {cluster['ray']}", remedy))
    if own.get("python") and cluster.get("python") and _minor(own["python"]) != _minor(cluster["python"]):
        what = f"{name} has Python {own['python']}, the cluster Python {cluster['python']}"
        found.append(Cause("python-version", what, remedy))
    return found


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def versions_differ(case: Case) -> list[Cause]:
    """As the agents of this node and of the head say at their start."""
    if case.alive or case.head is None or case.head.name == case.name:
        return []
    own, cluster = _BANNER.search(case.log), _BANNER.search(case.site.log(case.head.name))
    return compared(case.name, own.groupdict(), cluster.groupdict(), _image(case)) if own and cluster else []


_OBSTACLES = {
    "does not resolve": "name-unknown",
    "refuses the connection": "entry-dead",
    "does not answer": "host-unreachable",
}


def gave_up(case: Case) -> list[Cause]:
    """A node that found no head within its time ends, and says what was in the way."""
    found = _GAVE_UP.search(case.trouble)
    if not found or case.runs:
        return []
    why = found["why"]
    key = next((key for words, key in _OBSTACLES.items() if words in why), "no-leader")
    mend = f"the entries are {entries(case.site)}; `ws status` tells who leads"
    return [Cause(key, f"{case.name} found no head: {why}", mend)]


def entry(case: Case) -> list[Cause]:
    """The address that the node joins by, seen from the node."""
    host, port = host_and_port(case.entry)
    if not port:
        return []
    found = probe_patiently(case.site, case.name, [(host, port)])
    if not found:
        return []
    at = found[0]
    if at["outcome"] != "open":
        return [unreached(case, host, at, f"HEAD_ADDRESS must be one of {entries(case.site)}")]
    if at.get("speaks") in ("client", "dashboard", "health", "http"):
        return [_no_gcs(case, at["speaks"], f"the address of {speaker(at['speaks'])}")]
    if at.get("token") in ("wrong", "missing"):
        return [refused_token(case.name, case.entry, at["token"])]
    return _old_versions(case, at.get("versions"))


_SPEAKERS = {
    "client": "a Ray Client server",
    "dashboard": "a dashboard",
    "health": "the health server",
    "http": "some HTTP server",
    "gcs": "a GCS",
}


def _old_versions(case: Case, cluster: dict[str, Any] | None) -> list[Cause]:
    own = _BANNER.search(case.log)
    return compared(case.name, own.groupdict(), cluster, _image(case)) if own and cluster and not case.alive else []


def refused_token(name: str, address: str, how: str) -> Cause:
    """What a probe from a node or client saw of its token at an address."""
    if how == "missing":
        return Cause("token-missing", f"{address} asks for a token, and {name} has none", _other_token(name))
    return Cause("token-wrong", f"{address} refuses the token that {name} has", _other_token(name))


def unreached(case: Case, host: str, at: dict[str, Any], entries_hint: str) -> Cause:
    """Why an address of the cluster can't be reached from a node or client, by how its port looks from there."""
    ip, address = at["ip"], f"{host}:{at['port']}"
    if at["outcome"] == "unresolved":
        mend = add(case.node, "extra_hosts", f"{host}:{case.site.host_address}")
        return Cause("name-unknown", f"the name {host} does not resolve on {case.name}", f"{mend}; {entries_hint}")
    if not case.node.inside and host in case.site.expected and ip not in (case.site.host_address, None):
        what = (
            f"{host} resolves to {ip} on {case.name}: {at['detail'] or at['outcome']}; the host is {case.site.host_address}"
        )
        return Cause("name-wrong", what, edit(case.node, "extra_hosts", f'["{host}:{case.site.host_address}"]'))
    if at["outcome"] == "refused":
        what = f"nobody answers at {address} ({ip}), as seen from {case.name}: {at['detail']}"
        return Cause("entry-dead", what, entries_hint)
    what = f"{address} ({ip}) can't be reached from {case.name}: {at['detail'] or at['outcome']}"
    mend = "check `host.ip_address` in config.yaml and this host's firewall (`sudo iptables -L DOCKER-USER -n -v`)"
    return Cause("host-unreachable", what, mend)
