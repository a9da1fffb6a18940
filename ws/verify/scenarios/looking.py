"""What scenarios that inspect a cluster have in common: is a container there, look at all at once, how do ports look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ws.errors import Inconclusive, WsError
from ws.verify.diagnose_again import LONG_LOOK
from ws.verify.programs import ask
from ws.verify.site import Expected, Seen, Site
from ws.verify.verdict import Cause, Check

T = TypeVar("T")

_AT_ONCE = 4
_PROBE_TIMEOUT = 2.0  # seconds for each target
_PROBE_LIMIT = 30.0  # seconds for all of a probe, its start included

Target = tuple[str, int]
Finding = Mapping[str, Any]
"""One event of the program `netprobe`."""


def absence(node: Expected, seen: Seen | None) -> Cause | None:
    """Why a container that is expected does not run; None where it does. For the health server, that it is down."""
    key, what, remedy = _absence(node, seen)
    if not key:
        return None
    return Cause("health-down" if node.role == "health" else key, what, remedy)


def container(site: Site, check: Check, node: Expected) -> Seen | None:
    """The node's container; None where there is none, and the check has failed for it."""
    seen = site.seen(node.name)
    if seen is None:
        gone = absence(node, seen)
        check.failed("there is no container to look at", *([gone] if gone else []))
    return seen


def _absence(node: Expected, seen: Seen | None) -> tuple[str, str, str]:
    name = node.container
    if seen is None:
        return "node-missing", f"there is no container {name}", f"{brings_up(node)} makes and starts it"
    if seen.state == "paused":
        return "node-paused", f"the container {name} is paused", f"`docker unpause {name}`"
    if seen.state == "running":
        return "", "", ""
    facts = [seen.state, *([f"exit code {seen.exit_code}"] if seen.exit_code is not None else []), seen.detail]
    facts += [f"started anew {seen.restarts} time{'s' * (seen.restarts != 1)}"] if seen.restarts else []
    what = f"the container {name} does not run: {listed(fact for fact in facts if fact)}"
    return "node-exited", what, f"`docker logs {name}` tells why it ended; `docker start {name}`, or {brings_up(node)}"


def brings_up(node: Expected) -> str:
    """The command that starts this node, and makes its container anew where the config has changed."""
    return "`ws up`" if node.inside else "`ws test --up`"


def made_anew(node: Expected) -> str:
    """How its container is made by the config again, whatever was done to it: one that runs by its label is left alone."""
    return f"`docker rm -f {node.container}`, then {brings_up(node)}"


def running(site: Site, nodes: Iterable[Expected]) -> list[Expected]:
    """Those whose containers run now."""
    return [node for node in nodes if absence(node, site.seen(node.name)) is None]


def ray_nodes(site: Site) -> list[Expected]:
    """The Ray nodes that a run is about: those of the main network, and the external one; not the joiner."""
    return [node for node in site.expected.values() if node.ray_node and node.role != "joiner"]


def for_each(names: Sequence[str], look: Callable[[str], T]) -> dict[str, T | WsError]:
    """What `look` gives for each name, several at once; an error of ours is an answer, too."""

    def guarded(name: str) -> T | WsError:
        try:
            return look(name)
        except WsError as error:
            return error

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return dict(zip(names, pool.map(guarded, names), strict=True))


def probe(
    site: Site, node: str, targets: Iterable[Target], *, identify: bool = False, timeout: float = _PROBE_TIMEOUT
) -> dict[Target, Finding]:
    """How these ports look from a node. Raises Inconclusive where it could not be seen there, saying why."""
    wanted = list(dict.fromkeys(targets))
    if not wanted:
        return {}
    params = {"targets": wanted, "timeout": timeout, "identify": identify}
    heard = ask(site, node, "netprobe", params, _PROBE_LIMIT)
    found: dict[Target, Finding] = {(event["host"], event["port"]): event for event in heard if event["event"] == "target"}
    if missing := [target for target in wanted if target not in found]:
        last = heard[-1] if heard else {}
        why = last.get("why") or f"no answer within {_PROBE_LIMIT:g} s"
        raise Inconclusive(f"{node} could not look at {len(missing)} of {len(wanted)} ports", why)
    return found


def answering(finding: Finding) -> bool:
    """A port that accepts and says nothing is Docker's proxy, which does not get through to what listens behind it."""
    return bool(finding["outcome"] == "open" and finding["speaks"] != "unknown")


def probe_again(site: Site, node: str, findings: Mapping[Target, Finding]) -> dict[Target, Finding]:
    """The same findings, of which those that do not answer are looked at once more, with more time."""
    doubtful = [target for target, finding in findings.items() if not answering(finding)]
    return {**findings, **probe(site, node, doubtful, identify=True, timeout=LONG_LOOK)}


def in_words(finding: Finding) -> str:
    """A finding for people: `ray-cpu:6379 → 172.17.0.1: timeout (no answer within 2 s)`."""
    address = f" → {finding['ip']}" if finding.get("ip") and finding["ip"] != finding["host"] else ""
    detail = f" ({finding['detail']})" if finding.get("detail") else ""
    speaks = f", speaks {finding['speaks']}" if finding.get("speaks") else ""
    return f"{finding['host']}:{finding['port']}{address}: {finding['outcome']}{detail}{speaks}"


def listed(words: Iterable[object]) -> str:
    return ", ".join(str(word) for word in words)
