"""Which cluster to watch, and how: what `Watcher` opens its source with.

Given address, else `RAY_ADDRESS`, else the config's, else the best that discovery finds. No Ray is started here unless
that was allowed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ws.cluster.address import AUTO, Route, parse, resolve
from ws.cluster.dashboard import TokenRefused
from ws.cluster.discover import discover
from ws.cluster.endpoint import Endpoint, parse_endpoint
from ws.cluster.gcs_resources import GcsResources
from ws.cluster.helper import HelperSource, Way, init_arguments
from ws.cluster.look import DashboardSource, Look, Source
from ws.cluster.protocol import Speaks, look
from ws.cluster.records import ClusterRecord, Kind, TokenNeed
from ws.cluster.versions import Mismatch
from ws.errors import EnvironmentProblem
from ws.node.secret import Secret, Token

GIVEN = "--address"
_TRY_DASHBOARD_EVERY = 5.0
_DASHBOARD_TIMEOUT = 1.0
Discover = Callable[[], Sequence[ClusterRecord]]


@dataclass(frozen=True)
class Wish:
    """What is wanted of a connection.

    Attributes:
        address: as the user wrote it; None: the best cluster that can be found.
        origin: who named it, in words; told, unless it was the user just now.
        namespace: for what is made on the cluster.
        allow_local_fallback: where the address leads nowhere, a cluster of this machine will do.
        allow_local_start: where there is no cluster at all, one may be started; it ends with the connection.
    """

    address: str | None = None
    origin: str = GIVEN
    token: Token = ""
    namespace: str | None = None
    allow_local_fallback: bool = False
    allow_local_start: bool = False


def choose(given: str | None, environ: Mapping[str, str], configured: str | None) -> tuple[str | None, str]:
    """The address to use and who named it; `auto` and nothing leave it to discovery (None)."""
    named = ((given, GIVEN), (environ.get("RAY_ADDRESS"), "RAY_ADDRESS"), (configured, "the config"))
    for address, origin in named:
        if address and address.strip():
            return (None, f"{AUTO} ({origin})") if address.strip() == AUTO else (address.strip(), origin)
    return None, "discovery"


class Connector:
    """Opens the source for a wish, again and again; once it led to a cluster, only to that one.

    `note` is told what the user should know; `find` looks for clusters.
    """

    def __init__(self, wish: Wish, note: Callable[[str], None] = lambda text: None, find: Discover | None = None) -> None:
        self._wish = wish
        self._note = note
        self._find = find or partial(discover, token=wish.token)
        self._noted: set[str] = set()
        self._address = wish.address
        self._gcs: Endpoint | None = None
        self._settled = self._started_local = False
        if wish.address is not None:
            parse(wish.address)  # wrong use is told before anything is tried

    def __call__(self) -> Source:
        """A source to look through; raises EnvironmentProblem where no cluster answers."""
        wish = self._wish
        if wish.address is not None and wish.origin != GIVEN:
            self._say(f"{wish.address} is the address that {wish.origin} names")
        if self._started_local:
            return self._local()
        if self._address is None:
            return self._best() or self._start_local() or _raise(_no_cluster())
        try:
            return self._open(self._address)
        except (TokenRefused, Mismatch):  # it leads somewhere
            raise
        except EnvironmentProblem:
            if self._settled or not wish.allow_local_fallback:
                raise
            found = self._best(f"{self._address} leads nowhere") or self._start_local()
            if found is None:
                raise
            return found

    def _open(self, address: str) -> Source:
        route = resolve(parse(address), self._wish.token, gcs=self._gcs)
        for note in route.notes:
            self._say(note)
        self._address, self._settled = address, True
        return self._source(route)

    def _source(self, route: Route) -> Source:
        token = self._wish.token if route.wants_token else ""
        if route.dashboard:
            return _by_dashboard(route.dashboard, token, route.gcs)
        self._say(f"the dashboard of the cluster at {route.at} is not known: a helper process looks instead")
        way = Way(route.speaks.value, str(route.at), init_arguments(self._wish.namespace))
        return TowardsDashboard(HelperSource(way, token), route.at.host, token, route.gcs)

    def _best(self, why: str = "") -> Source | None:
        """The most reliable cluster that lets us in; None where there is none, the first obstacle where none does."""
        alive = [record for record in self._find() if record.alive]
        found = [(address, record.first(Kind.gcs)) for record in alive if (address := _best_address(record))]
        obstacle: EnvironmentProblem | None = None
        for address, gcs in found:
            self._gcs = parse_endpoint(gcs) if gcs else None
            others = f", the most reliable of {len(found)} (--address chooses another)" if len(found) > 1 else ""
            self._say(f"{f'{why}; ' if why else ''}connecting to {address}{others if obstacle is None else ''}")
            try:
                return self._open(address)
            except EnvironmentProblem as problem:
                self._say(problem.what)
                obstacle = obstacle or problem
        if obstacle:
            raise obstacle
        return None

    def _start_local(self) -> Source | None:
        if not self._wish.allow_local_start:
            return None
        self._say("no cluster found: a Ray is started here (allow_local_start), and ends with this connection")
        self._started_local = True
        return self._local()

    def _local(self) -> Source:
        """With a token of its own: without one, `ray.init` writes one into the home folder, for all later clusters."""
        token = self._wish.token or Secret(secrets.token_hex(32))
        return HelperSource(Way("local", init=init_arguments(self._wish.namespace)), token)

    def _say(self, note: str) -> None:
        """Once each: sources are opened again and again."""
        if note not in self._noted:
            self._noted.add(note)
            self._note(note)


class TowardsDashboard:
    """A `Source` that goes over to the cluster's dashboard, once another source has told where it is."""

    def __init__(self, first: Source, host: str, token: Token, gcs: Endpoint | None = None) -> None:
        self.where = first.where
        self._gcs = gcs
        self._source = first
        self._host = host
        self._token = token
        self._try_at = 0.0

    def look(self) -> Look:
        seen = self._source.look()
        told = parse_endpoint(seen.dashboard or "")
        if told and time.monotonic() >= self._try_at:
            self._try_at = time.monotonic() + _TRY_DASHBOARD_EVERY
            for endpoint in dict.fromkeys((Endpoint(self._host, told.port), told)):
                if better := self._same_cluster(endpoint, seen):
                    return better
        return seen

    def close(self) -> None:
        self._source.close()

    def _same_cluster(self, endpoint: Endpoint, seen: Look) -> Look | None:
        """A look by that dashboard, which stays the source if it shows the same living nodes.

        Anything may listen there: the token is kept back until a dashboard asks for it.
        """
        found = asyncio.run(look(endpoint, self._token, timeout=_DASHBOARD_TIMEOUT))
        if found.speaks is not Speaks.dashboard or not found.healthy:
            return None
        url = f"http://{endpoint}"
        dashboard = _by_dashboard(url, "" if found.token is TokenNeed.not_needed else self._token, self._gcs)
        try:
            better = dashboard.look()
        except EnvironmentProblem:
            better = None
        if better is None or not _living(seen) & _living(better):
            dashboard.close()
            return None
        first, self._source, self.where = self._source, dashboard, url
        first.close()
        return better


def _by_dashboard(url: str, token: Token, gcs: Endpoint | None) -> DashboardSource:
    return DashboardSource(url, token, gcs=GcsResources(gcs, token) if gcs else None)


def _living(seen: Look) -> set[str]:
    return {node.node_id for node in seen.nodes if node.alive}


def _best_address(record: ClusterRecord) -> str | None:
    """A dashboard before a GCS before Ray Client: the less of Ray runs on our side, the better."""
    for kind, scheme in ((Kind.dashboard, "http://"), (Kind.gcs, ""), (Kind.client, "ray://")):
        if address := record.first(kind):
            return f"{scheme}{address}"
    return None


def _no_cluster() -> EnvironmentProblem:
    return EnvironmentProblem(
        "no Ray cluster can be found from here",
        "no address was given (--address, RAY_ADDRESS, the config), and discovery found none that is alive",
        "give its address: --address HOST:PORT; or start one: ws up",
    )


def _raise(problem: EnvironmentProblem) -> Source:
    raise problem
