"""One node under diagnosis, and what is known of its site at this moment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, cached_property

from ws.cluster.dashboard import RayNode
from ws.errors import WsError
from ws.verify.diagnose_again import LONG_LOOK, head_now
from ws.verify.programs import Event, ask
from ws.verify.site import Expected, Head, Seen, Site

RUNNING = ("running",)
ENDED = ("exited", "restarting", "dead", "created")
TEST_TEMPLATE = "template/cluster-test.compose.yaml.jinja2"
TEMPLATE = "template/compose.yaml.jinja2"
_PROBE_TIME = 25.0  # seconds that a probing program may take as a whole on a busy machine


class Case:
    """A node, or a client, with each fact about its site looked up once. Raises KeyError for a name that nobody expects."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.node: Expected = site.expected[name]
        self.seen_of = cache(site.seen)

    @property
    def seen(self) -> Seen | None:
        return self.seen_of(self.name)

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.seen.environment) if self.seen else {}

    @property
    def runs(self) -> bool:
        return self.seen is not None and self.seen.state in RUNNING

    @cached_property
    def log(self) -> str:
        try:
            return self.site.log(self.name)
        except WsError:
            return ""

    @property
    def trouble(self) -> str:
        """The log since Ray was last up: what was in the way before that is over."""
        return self.log.rpartition("Ray is up after")[2]

    @cached_property
    def head(self) -> Head | None:
        return head_now(self.site)

    @cached_property
    def rows(self) -> list[RayNode]:
        """The nodes as the GCS knows them; empty where the dashboard does not answer."""
        try:
            return self.site.dashboard().nodes()
        except WsError:
            return []

    @property
    def alive(self) -> bool:
        return any(row.alive and row.name == self.name for row in self.rows)

    @property
    def entry(self) -> str:
        """The address that this node was told to join by (host:port), "" for one that finds the head by itself."""
        given = self.environment
        address = given.get("HEAD_ADDRESS") or ("" if self.node.role == "candidate" else given.get("HEAD_ADDRESS_CFG"))
        return (address or "").strip()

    @property
    def inside(self) -> list[Expected]:
        """The Ray nodes of the main network, this one left out."""
        return [node for node in self.site.expected.values() if node.inside and node.ray_node and node.name != self.name]

    @property
    def outside(self) -> list[Expected]:
        """The external Ray nodes that there are now, this one left out."""
        others = [node for node in self.site.expected.values() if node.ray_node and node.name != self.name]
        return [node for node in others if not node.inside and self.seen_of(node.name)]

    def peers(self) -> list[Expected]:
        """The running nodes that must reach this one, and it them: all, but external ones among themselves."""
        wanted = [*self.inside, *self.outside] if self.node.inside else self.inside
        return [node for node in wanted if (seen := self.seen_of(node.name)) and seen.state in RUNNING]

    def tail(self, lines: int = 5) -> str:
        """The last lines of its log, in one."""
        return " | ".join(line.strip() for line in self.log.splitlines()[-lines:] if line.strip())


def edit(node: Expected, field: str, value: str) -> str:
    """The mend of a container: which field of which file, and how it comes to hold."""
    file, command = _made_by(node)
    return f"give the service {node.name} `{field}: {value}` in {file}, then `{command}`"


def add(node: Expected, field: str, *values: str) -> str:
    """The mend of a list that lacks something."""
    file, command = _made_by(node)
    lines = ", ".join(f'`- "{value}"`' for value in values)
    return f"add {lines} to `{field}:` of the service {node.name} in {file}, then `{command}`"


def _made_by(node: Expected) -> tuple[str, str]:
    return (TEMPLATE, "ws up") if node.inside else (TEST_TEMPLATE, "ws test --up")


def probe(site: Site, name: str, targets: Iterable[tuple[str, int]], timeout: float = 2.0) -> list[Event]:
    """How these ports look from that node, and what speaks there; empty where no program can be run on it."""
    params = {"targets": [list(target) for target in targets], "timeout": timeout, "identify": True}
    if not params["targets"]:
        return []
    with suppress(WsError):
        return [event for event in ask(site, name, "netprobe", params, _PROBE_TIME) if event["event"] == "target"]
    return []


def probe_patiently(site: Site, name: str, targets: Sequence[tuple[str, int]]) -> list[Event]:
    """As `probe`; where one is shut or mute, all are looked at again with more time: a busy machine may be slow once."""
    found = probe(site, name, targets)
    if all(event["outcome"] == "open" and event.get("speaks") != "unknown" for event in found):
        return found
    return probe(site, name, targets, timeout=LONG_LOOK) or found


def probe_all(site: Site, plan: dict[str, list[tuple[str, int]]], timeout: float = 2.0) -> dict[tuple[str, str, int], Event]:
    """Probe from several nodes at once: by (from, host, port)."""
    with ThreadPoolExecutor(max_workers=max(1, len(plan))) as pool:
        found = pool.map(lambda item: (item[0], probe(site, item[0], item[1], timeout)), plan.items())
        return {(name, event["host"], event["port"]): event for name, events in found for event in events}


def spans(ports: Sequence[int]) -> str:
    """Port numbers in words: `31048-31063, 31080`."""
    parts: list[list[int]] = []
    for port in sorted(ports):
        if parts and port == parts[-1][-1] + 1:
            parts[-1].append(port)
        else:
            parts.append([port])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)


def host_and_port(address: str) -> tuple[str, int]:
    """Parts of `host:port`, with or without `ray://`; port 0 where there is none."""
    host, _, port = address.partition("://")[2].rpartition(":") if "://" in address else address.rpartition(":")
    return (host, int(port)) if re.fullmatch(r"\d+", port) else (address, 0)
