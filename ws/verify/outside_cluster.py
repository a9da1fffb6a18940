"""A cluster that is known by its address alone, and what a run has learned of it so far."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ws.cluster.dashboard import Dashboard
from ws.errors import EnvironmentProblem, Inconclusive, UsageError
from ws.verify.outside_local import HERE, Credentials, LocalRuns
from ws.verify.outside_look import Outlook
from ws.verify.programs import ask
from ws.verify.verdict import Link

Target = tuple[str, int]
Finding = Mapping[str, Any]
"""One event of the program `netprobe`."""

_ADDRESS = re.compile(r"(?P<scheme>ray://)?(?P<host>[A-Za-z0-9._-]+):(?P<port>\d{1,5})/?")
_PROBE_TIMEOUT = 2.0  # seconds for each of a target's questions
_PROBE_LIMIT = 25.0  # seconds for all of a probe, its start included
PORTS = {"gcs": (6379, 6380), "client": (10001, 10002), "dashboard": (8265, 8266)}
"""Where these usually listen: Ray's own defaults, and those of a second candidate."""


@dataclass(frozen=True)
class Address:
    """Where a cluster is reached: by Ray Client (`ray://host:port`), or by its GCS (`host:port`)."""

    kind: Literal["client", "gcs"]
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError for what is neither."""
        found = _ADDRESS.fullmatch(text.strip())
        if not found or not 0 < int(found["port"]) < 65536:
            raise UsageError(
                f"{text!r} is no address of a Ray cluster",
                "wanted: ray://host:port for Ray Client, or host:port for the GCS",
                "for example `ws verify ray://127.0.0.1:10001`",
            )
        return cls("client" if found["scheme"] else "gcs", found["host"], int(found["port"]))

    @property
    def target(self) -> Target:
        return self.host, self.port

    def __str__(self) -> str:
        return f"{'ray://' if self.kind == 'client' else ''}{self.host}:{self.port}"


@dataclass
class Outside:
    """The cluster at `address`, and what is known of it.

    `found`: how each port that was looked at looks. `blocked`: why nothing more can be tried, once that is known.
    """

    address: Address
    credentials: Credentials
    window: float
    given_dashboard: str | None = None
    found: dict[Target, Finding] = field(default_factory=dict)
    dashboard_url: str | None = None
    outlook: Outlook | None = None
    blocked: str = ""
    links: list[Link] = field(default_factory=list)

    @property
    def runs(self) -> LocalRuns:
        return LocalRuns(self.credentials)

    def probe(self, targets: Iterable[Target], credentials: Credentials | None = None) -> dict[Target, Finding]:
        """How these ports look from here, and what speaks there. Raises Inconclusive where that could not be seen."""
        wanted = list(dict.fromkeys(targets))
        params = {"targets": wanted, "timeout": _PROBE_TIMEOUT, "identify": True}
        heard = ask(LocalRuns(credentials or self.credentials), HERE, "netprobe", params, _PROBE_LIMIT)
        found: dict[Target, Finding] = {
            (event["host"], event["port"]): event for event in heard if event["event"] == "target"
        }
        if any(target not in found for target in wanted):
            why = heard[-1].get("why") if heard else None
            raise Inconclusive("the ports could not be looked at", why or f"no answer within {_PROBE_LIMIT:g} s")
        return found

    def beside(self, speaks: str) -> list[Target]:
        """Ports where that protocol was found, all of the address's host."""
        return [
            target
            for target, finding in self.found.items()
            if finding["speaks"] == speaks and target[0] == self.address.host
        ]

    def dashboard(self) -> Dashboard:
        """The cluster's dashboard; raises Inconclusive where none was found."""
        if self.dashboard_url is None:
            self.dashboard_url = self.given_dashboard or self._find_dashboard()
        return Dashboard(self.dashboard_url, self.credentials.secret)

    def _find_dashboard(self) -> str:
        """A dashboard on the address's host that knows one of this cluster's nodes: there may be other clusters."""
        ids = {node.id for node in self.watched().await_nodes()}
        places = self.beside("dashboard")
        own = self.watched().connection
        if own and own.dashboard:
            host, _, number = own.dashboard.rpartition(":")
            places = [(self.address.host, int(number)), (host, int(number)), *places]
        for host, port in places:
            url = f"http://{host}:{port}"
            with contextlib.suppress(EnvironmentProblem):
                if ids & {node.node_id for node in Dashboard(url, self.credentials.secret).nodes()}:
                    return url
        tried = ", ".join(
            f"{host}:{port}" for host, port in places or [(self.address.host, port) for port in PORTS["dashboard"]]
        )
        raise Inconclusive(f"this cluster's dashboard was not found at {tried}", "`--dashboard http://host:port` names it")

    def driver_address(self) -> str:
        """Where a driver or Ray Client on this machine connects; raises Inconclusive where it can't.

        A driver needs a Ray node on its own machine.
        """
        if self.address.kind == "client":
            return str(self.address)
        nodes = self.watched().await_nodes()
        if any(_is_own(node.address) for node in nodes):
            return str(self.address)
        raise Inconclusive(
            f"a driver for the GCS at {self.address} needs a Ray node on this machine, and there is none",
            f"the cluster's nodes: {', '.join(sorted(node.name for node in nodes))}. "
            f"Give Ray Client's address instead (ray://{self.address.host}:10001), or run this on one of the nodes",
        )

    def watched(self) -> Outlook:
        """The eyes on the nodes, open from the first call on."""
        if self.outlook is None:
            program = "nodes" if self.address.kind == "client" else "watch"
            self.outlook = Outlook(self.runs, str(self.address), program)
            self.outlook.start()
        return self.outlook


def is_loopback(host: str) -> bool:
    """Whether it leads to this machine without a network; a name that does not resolve does not."""
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except (OSError, UnicodeError, ValueError):
        return False


def _is_own(address: str) -> bool:
    """Whether an address, or what a name resolves to, is one of this machine's: only those can be listened at."""
    try:
        socket.create_server((address, 0)).close()
    except (OSError, UnicodeError):
        return False
    return True
