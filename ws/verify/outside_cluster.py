"""A cluster that is known by its address alone, and what a run has learned of it so far."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from ws.cluster.dashboard import Dashboard
from ws.errors import EnvironmentProblem, Inconclusive, UsageError
from ws.verify.outside_local import HERE, NO_TOKEN, Credentials, LocalRuns
from ws.verify.outside_look import Outlook
from ws.verify.programs import ask
from ws.verify.stability import window
from ws.verify.verdict import Link

Target = tuple[str, int]
Finding = Mapping[str, Any]
"""One event of the program `netprobe`."""

_ADDRESS = re.compile(r"(?P<scheme>ray://)?(?P<host>[A-Za-z0-9._-]+):(?P<port>\d{1,5})/?")
_PROBE_TIMEOUTS = (2.0, 5.0, 10.0)  # seconds for each of a target's questions, at the first look and at the next ones
_PROBE_START, _PROBE_QUESTIONS = 13.0, 6  # seconds for a probe to start, and questions that it may have for a target
_SETTINGS_LIMIT = 30.0  # seconds for a task on the head
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

    `given_window`: seconds that nodes must stay alive; None for as long as Ray may take to find that one is not.
    `found`: how each port that was looked at looks. `blocked`: why nothing more can be tried, once that is known.
    """

    address: Address
    credentials: Credentials
    given_window: float | None = None
    given_dashboard: str | None = None
    allow_no_token: bool = False
    found: dict[Target, Finding] = field(default_factory=dict)
    _dashboard: Dashboard | None = None
    outlook: Outlook | None = None
    blocked: str = ""
    links: list[Link] = field(default_factory=list)

    @property
    def runs(self) -> LocalRuns:
        return LocalRuns(self.credentials)

    @cached_property
    def window(self) -> float:
        """Seconds that nodes must stay alive: as given, else by the head's settings where it tells them, else Ray's own."""
        if self.given_window is not None:
            return self.given_window
        return window(self._settings())

    def _settings(self) -> Mapping[str, str]:
        """As variables; only one who connects can have the head tell them."""
        if self.address.kind == "client":
            return self.watched().await_settings(_SETTINGS_LIMIT)
        try:
            driver = Outlook(self.runs, self.driver_address(), "nodes")
        except Inconclusive:
            return {}
        driver.start()
        try:
            return driver.await_settings(_SETTINGS_LIMIT)
        finally:
            driver.close()

    def look(self, credentials: Credentials | None = None) -> Finding:
        """How the address looks from here, and what speaks there, with more time each time while nothing is to be seen.

        Raises Inconclusive where it could not be looked at.
        """
        for timeout in _PROBE_TIMEOUTS:
            found = self._probe([self.address.target], credentials or self.credentials, timeout)[self.address.target]
            if found["outcome"] == "open" and found["speaks"] != "unknown" and not found.get("silent"):
                break
        return found

    def look_around(self) -> dict[Target, Finding]:
        """Where Ray usually listens on the address's host. What is there may be anybody's, so it gets no token to see."""
        targets = [(self.address.host, port) for ports in PORTS.values() for port in ports]
        others = [target for target in targets if target != self.address.target]
        return self._probe(others, NO_TOKEN, _PROBE_TIMEOUTS[0])

    def _probe(self, targets: list[Target], credentials: Credentials, timeout: float) -> dict[Target, Finding]:
        params = {"targets": targets, "timeout": timeout, "identify": True}
        limit = _PROBE_START + _PROBE_QUESTIONS * timeout
        heard = ask(LocalRuns(credentials), HERE, "netprobe", params, limit)
        found: dict[Target, Finding] = {
            (event["host"], event["port"]): event for event in heard if event["event"] == "target"
        }
        if any(target not in found for target in targets):
            why = heard[-1].get("why") if heard else None
            raise Inconclusive("the ports could not be looked at", why or f"no answer within {limit:g} s")
        return found

    def beside(self, speaks: str) -> list[Target]:
        """Ports where that protocol was found, all of the address's host."""
        return [
            target
            for target, finding in self.found.items()
            if finding["speaks"] == speaks and target[0] == self.address.host
        ]

    @property
    def knows_dashboard(self) -> bool:
        return self._dashboard is not None

    def dashboard(self) -> Dashboard:
        """The cluster's dashboard; raises Inconclusive where none was found."""
        if self._dashboard is None:
            given = self.given_dashboard
            self._dashboard = Dashboard(given, self.credentials.secret) if given else self._find_dashboard()
        return self._dashboard

    def _find_dashboard(self) -> Dashboard:
        """One that knows a node of this cluster: there may be other clusters.

        The token goes only to where the cluster itself says that its dashboard is: on the host that was given, or on this
        machine where that is the host.
        """
        ids = {node.id for node in self.watched().await_nodes()}
        own = self._told_dashboard()
        places = [(place, NO_TOKEN.secret) for place in self.beside("dashboard")]
        if own:
            host, _, number = own.rpartition(":")
            ours, port = self.credentials.secret, int(number)
            told = ((host, port), ours if is_own(host) and is_own(self.address.host) else NO_TOKEN.secret)
            places = [((self.address.host, port), ours), told, *places]
        for (host, port), secret in places:
            dashboard = Dashboard(f"http://{host}:{port}", secret)
            with contextlib.suppress(EnvironmentProblem):
                if ids & {node.node_id for node in dashboard.nodes()}:
                    return dashboard
        tried = [place for place, _ in places] or [(self.address.host, port) for port in PORTS["dashboard"]]
        listed = ", ".join(f"{host}:{port}" for host, port in dict.fromkeys(tried))
        raise Inconclusive(
            f"this cluster's dashboard was not found at {listed}",
            "`--dashboard http://host:port` names it; unasked, the token is sent to none but the address's own cluster",
        )

    def _told_dashboard(self) -> str | None:
        """host:port as the cluster itself tells it."""
        connection = self.watched().connection
        if connection and connection.dashboard:
            return connection.dashboard
        return self.found[self.address.target]["dashboard"] if self.address.target in self.found else None

    def driver_address(self) -> str:
        """Where a driver or Ray Client on this machine connects; raises Inconclusive where it can't.

        A driver needs a Ray node on its own machine.
        """
        if self.address.kind == "client":
            return str(self.address)
        nodes = self.watched().await_nodes()
        if any(is_own(node.address) for node in nodes):
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


def is_own(address: str) -> bool:
    """Whether an address, or what a name resolves to, is one of this machine's: only those can be listened at."""
    try:
        socket.create_server((address, 0)).close()
    except (OSError, UnicodeError):
        return False
    return True
