"""Where a driver enters a cluster: Ray Client before all, as it needs nothing of Ray on this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ws.cluster.address import CLIENT_PORT, Route, parse, resolve
from ws.cluster.connect import GIVEN, Wish
from ws.cluster.discover import discover
from ws.cluster.endpoint import Endpoint, parse_endpoint
from ws.cluster.protocol import Sighting, Speaks, look
from ws.cluster.records import ClusterRecord, Kind, TokenNeed
from ws.errors import EnvironmentProblem
from ws.node.secret import Token

_TIMEOUT = 2.0
_MEND = "give the address of its Ray Client: --address ray://HOST:PORT (10001 unless it was told otherwise)"


@dataclass(frozen=True)
class Entrance:
    """What `ray.init` is given."""

    address: str
    wants_token: bool

    def gateways(self) -> tuple[str, ...]:
        """Hosts by which nodes may be reached from here: the one of the address, and where that is this machine, all of its
        own addresses, for the nodes may be containers whose ports are published on another of them.
        """
        endpoint = parse_endpoint(self.address)
        if endpoint is None:
            return ()
        own = _own_addresses()
        here = endpoint.host in {"localhost", *own}
        return tuple(dict.fromkeys([endpoint.host, *(own if here else [])]))


def find_entrance(wish: Wish, note: Callable[[str], None] = lambda text: None) -> Entrance:
    """The entrance to the cluster that is wished for. Not for a thread that runs an event loop.

    Raises:
        EnvironmentProblem: there is no such cluster, or no way in for a driver (TokenRefused, Mismatch among them).
    """
    if wish.address is None:
        return _best(wish, note)
    if wish.origin != GIVEN:
        note(f"{wish.address} is the address that {wish.origin} names")
    route = resolve(parse(wish.address), wish.token)
    for words in route.notes:
        note(words)
    if route.speaks is Speaks.client:
        return Entrance(f"ray://{route.at}", route.wants_token)
    if client := _usual_client(route, wish.token):
        return Entrance(f"ray://{client}", route.wants_token)
    record = _record_of(route, wish.token)
    address = _address_in(record) if record else None
    if address is None:
        raise EnvironmentProblem(f"no driver gets into the cluster at {route.at}", _why(route), _MEND)
    return Entrance(address, route.wants_token)


def _own_addresses() -> list[str]:
    """This machine's IPv4 addresses."""
    import psutil

    found = psutil.net_if_addrs().values()
    return [address.address for addresses in found for address in addresses if address.family is socket.AF_INET]


def _best(wish: Wish, note: Callable[[str], None]) -> Entrance:
    """Of the most reliable cluster that can be entered."""
    found = [(record, address) for record in discover(token=wish.token) if record.alive and (address := _address_in(record))]
    for record, address in found:
        if record.token is TokenNeed.refused or (record.token is TokenNeed.needed and not wish.token):
            note(f"the cluster at {address} wants a token that is not given")
            continue
        others = f", the most reliable of {len(found)} (--address chooses another)" if len(found) > 1 else ""
        note(f"connecting to {address}{others}")
        return Entrance(address, record.token is not TokenNeed.not_needed)
    raise EnvironmentProblem(
        "no Ray cluster can be found from here",
        "no address was given (--address, RAY_ADDRESS, the config), and discovery found none that lets us in",
        "give its address: --address HOST:PORT; or start one: ws up",
    )


def _usual_client(route: Route, token: Token) -> Endpoint | None:
    """Ray Client's usual port, where the same cluster answers there."""
    hosts = {route.at.host, *([told.host] if route.dashboard and (told := parse_endpoint(route.dashboard)) else [])}
    there = asyncio.run(_look([*(Endpoint(host, CLIENT_PORT) for host in hosts), route.at], token))
    own = there[-1]
    return next((seen.endpoint for seen in there[:-1] if seen.speaks is Speaks.client and _same(seen, own)), None)


async def _look(endpoints: Iterable[Endpoint], token: Token) -> list[Sighting]:
    return list(await asyncio.gather(*(look(endpoint, token, timeout=_TIMEOUT) for endpoint in endpoints)))


def _same(one: Sighting, other: Sighting) -> bool:
    return bool(
        (one.cluster_id and one.cluster_id == other.cluster_id)
        or (one.session and one.session == other.session)
        or one.node_ids & other.node_ids
    )


def _record_of(route: Route, token: Token) -> ClusterRecord | None:
    """What discovery knows of the cluster, its other addresses above all."""
    records = discover(hosts=[route.at.host], ports=[route.at.port], token=token)
    return next((record for record in records if any(str(route.at) in found for found in record.addresses.values())), None)


def _address_in(record: ClusterRecord) -> str | None:
    """Ray Client; else the GCS, where this machine has a raylet of the cluster."""
    if client := record.first(Kind.client):
        return f"ray://{client}"
    return record.first(Kind.gcs) if "processes" in record.found_by else None


def _why(route: Route) -> str:
    return f"a {route.speaks} answers there, Ray Client does not, and this machine is no node of that cluster"
