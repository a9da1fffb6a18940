"""From what a user wrote to what answers there: parse, try the candidate ports, correct what is mixed up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ws.cluster.dashboard import NoDashboard, TokenRefused
from ws.cluster.endpoint import Endpoint
from ws.cluster.protocol import Sighting, Speaks, look
from ws.cluster.records import TokenNeed
from ws.cluster.versions import Versions, mismatch
from ws.cluster.wire import missing_host
from ws.errors import EnvironmentProblem, UsageError
from ws.node.secret import Token

AUTO = "auto"
GCS_PORT, CLIENT_PORT = 6379, 10001
DASHBOARD_PORTS = tuple(range(8265, 8270))
_TIMEOUT = 2.0
_BESIDE = 0.5
"""Seconds for a GCS that may be beside a given dashboard: it is a help, and no more, so nobody waits for it long."""

_ADDRESS = re.compile(r"(?:(?P<scheme>[A-Za-z]+)://)?(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:/?#@\s]+)(?::(?P<port>\d{1,5}))?/?")
_SCHEMES = ("ray", "http")
_MEND = "write host:port, ray://host:port or http://host:port, such as 127.0.0.1:6379"
TOKEN_MEND = "give the cluster's own: --token-file FILE, or RAY_AUTH_TOKEN_PATH (`ws up` keeps it in .ws/token)"  # noqa: S105


@dataclass(frozen=True)
class Target:
    """An address as it was written: `scheme` is "ray", "http" or empty, `port` None where none was given."""

    scheme: str
    host: str
    port: int | None

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports to try, the likeliest first."""
        if self.port is not None:
            return (self.port,)
        by_scheme = {
            "ray": (CLIENT_PORT, GCS_PORT, *DASHBOARD_PORTS),
            "http": DASHBOARD_PORTS,
            "": (GCS_PORT, *DASHBOARD_PORTS, CLIENT_PORT),
        }
        return by_scheme[self.scheme]

    def __str__(self) -> str:
        scheme = f"{self.scheme}://" if self.scheme else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}{host}{'' if self.port is None else f':{self.port}'}"


def parse(text: str) -> Target:
    """The target that `text` names; raises UsageError where it names none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or len(text) > 300:
        raise UsageError("this is no address of a cluster" if "@" in text else f"{text[:80]!r} is no address", mend=_MEND)
    scheme, host, port = (match["scheme"] or "").lower(), match["host"].strip("[]"), match["port"]
    if scheme and scheme not in _SCHEMES:
        raise UsageError(f"{text[:80]!r} is no address of a cluster: {scheme}:// is not known here", mend=_MEND)
    if port is not None and not 1 <= int(port) <= 65535:
        raise UsageError(f"{text[:80]!r} is no address: ports are 1 to 65535", mend=_MEND)
    return Target(scheme, host, None if port is None else int(port))


@dataclass(frozen=True)
class Route:
    """What was found at an address.

    Attributes:
        at: where something of the cluster answers, and `speaks` what.
        dashboard: the URL of the same cluster's dashboard, where one can be reached.
        gcs: where the same cluster's GCS answers, where that is known.
        wants_token: whether it asks for one; to one that does not, none is sent.
        versions: of the cluster; empty where unknown.
        notes: what was taken differently from what was written, in words.
    """

    at: Endpoint
    speaks: Speaks
    dashboard: str | None = None
    gcs: Endpoint | None = None
    wants_token: bool = False
    versions: Versions = field(default_factory=lambda: Versions("", ""))
    notes: tuple[str, ...] = ()


def resolve(target: Target, token: Token = "", timeout: float = _TIMEOUT, gcs: Endpoint | None = None) -> Route:
    """What answers at `target`, within about twice `timeout` seconds. Not for a thread that runs an event loop.

    `gcs` is where the cluster's GCS was seen, where it was; else the usual port of the same host is tried.

    Raises:
        TokenRefused: the cluster wants a token, and this is not it.
        Mismatch: a driver would be needed to watch it, and the cluster's versions are not ours.
        EnvironmentProblem: no cluster answers there; what does, is said.
    """
    return asyncio.run(_resolve(target, token, timeout, gcs or Endpoint(target.host, GCS_PORT)))


async def _resolve(target: Target, token: Token, timeout: float, gcs: Endpoint) -> Route:
    found, beside = await asyncio.gather(
        _look_at([Endpoint(target.host, port) for port in target.ports], token, timeout), _look_at([gcs], token, _BESIDE)
    )
    best = next((sighting for sighting in found if sighting.is_ray), None)
    if best is None:
        raise await _nothing(target, found, token, timeout)
    _check_token(best, token)
    if not best.healthy:
        raise EnvironmentProblem(f"the dashboard at {best.endpoint} has lost its GCS", "its head has died, or is starting")
    dashboard = best if best.speaks is Speaks.dashboard else await _dashboard_of(best, token, timeout)
    told = dashboard or best
    route = Route(
        at=best.endpoint,
        speaks=best.speaks,
        dashboard=f"http://{dashboard.endpoint}" if dashboard else None,
        gcs=next((seen.endpoint for seen in [*found, *beside] if seen.speaks is Speaks.gcs and _same(seen, told)), None),
        wants_token=told.token is not TokenNeed.not_needed,
        versions=Versions(told.ray_version or best.ray_version or "", told.python_version or best.python_version or ""),
        notes=tuple(_corrections(target, best)),
    )
    if dashboard is None and (obstacle := mismatch(route.versions, Versions.ours())):
        raise obstacle
    return route


async def _look_at(endpoints: Sequence[Endpoint], token: Token, timeout: float) -> list[Sighting]:
    return list(await asyncio.gather(*(look(endpoint, token, timeout=timeout) for endpoint in endpoints)))


async def _dashboard_of(sighting: Sighting, token: Token, timeout: float) -> Sighting | None:
    """The dashboard of the same cluster: where the GCS says, or its port on the host that we know, or the usual ones."""
    host = sighting.endpoint.host
    told = sighting.dashboard
    places = [told, Endpoint(host, told.port)] if told else [Endpoint(host, port) for port in DASHBOARD_PORTS]
    for found in await _look_at(list(dict.fromkeys(places)), token, timeout):
        if found.speaks is Speaks.dashboard and _same(found, sighting) and found.healthy:
            return found
    return None


def _same(one: Sighting, other: Sighting) -> bool:
    """Whether both are of one cluster; two that tell no name may be of two."""
    return bool((one.session and one.session == other.session) or one.node_ids & other.node_ids)


def _check_token(sighting: Sighting, token: Token) -> None:
    if sighting.token is TokenNeed.refused:
        raise TokenRefused(f"the cluster at {sighting.endpoint} refuses this token", mend=TOKEN_MEND)
    if sighting.token is TokenNeed.needed and not token:
        raise TokenRefused(f"the cluster at {sighting.endpoint} wants a token", mend=TOKEN_MEND)


def _corrections(target: Target, best: Sighting) -> list[str]:
    """What an address names differently from what answers there."""
    if target.port is None:
        return []
    at = best.endpoint
    if best.speaks is Speaks.gcs and target.scheme:
        return [f"{at} is a GCS, not {_meant(target)}: taken as {at}"]
    if best.speaks is Speaks.client and target.scheme != "ray":
        return [f"{at} is Ray Client's port{f', not {_meant(target)}' if target.scheme else ''}: taken as ray://{at}"]
    if best.speaks is Speaks.dashboard and target.scheme == "ray":
        return [f"{at} is a dashboard, not {_meant(target)}: taken as http://{at}"]
    return []


def _meant(target: Target) -> str:
    return "Ray Client" if target.scheme == "ray" else "a dashboard"


_WORDS = {
    Speaks.closed: "nothing listens there, or no way leads there",
    Speaks.silent: "something accepts connections there, and says nothing",
    Speaks.http: "what answers there speaks HTTP, and is no Ray dashboard",
    Speaks.health: "what answers there is a health server of ws, which stands beside a cluster",
    Speaks.unknown: "what answers there is no part of a Ray cluster",
}


async def _nothing(target: Target, found: Sequence[Sighting], token: Token, timeout: float) -> EnvironmentProblem:
    """Why there is no cluster, with what there is on the same host, which may be another cluster."""
    where = f"at {target}" if target.port is not None else f"on {target.host} (ports {', '.join(map(str, target.ports))})"
    if missing := await missing_host(target.host, timeout):
        return EnvironmentProblem(f"no Ray cluster answers {where}", missing, "ws discover shows what can be found")
    telling = next((sighting.speaks for sighting in found if sighting.speaks is not Speaks.closed), Speaks.closed)
    if target.port is None:
        return EnvironmentProblem(f"no Ray cluster answers {where}", _WORDS[telling], "give the port: --address HOST:PORT")
    others = [port for port in Target("", target.host, None).ports if port != target.port]
    beside = [
        seen for seen in await _look_at([Endpoint(target.host, port) for port in others], token, timeout) if seen.is_ray
    ]
    mend = f"a {beside[0].speaks} answers at {beside[0].endpoint}: --address {beside[0].endpoint}" if beside else None
    kind = NoDashboard if telling is Speaks.http else EnvironmentProblem
    return kind(f"no Ray cluster answers {where}", _WORDS[telling], mend or "ws discover shows what can be found")
