"""What speaks at an address: told apart by protocol, with a deadline, without `import ray`."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ws.cluster.endpoint import Endpoint, parse_endpoint
from ws.cluster.records import TokenNeed
from ws.cluster.wire import Answer, Tongue, ask, in_thread
from ws.node.secret import Token

_PATIENCE = 0.6
"""The share of the time that the first word may take; the rest is for the questions that follow it."""
_ALIVE = f"/api/v0/nodes?limit=1&filter_keys=state&filter_predicates={quote('=')}&filter_values=ALIVE"


class Speaks(enum.StrEnum):
    """What answers at host:port. `health`: a health server of ours; `silent`: accepts, and says nothing in time."""

    gcs = "gcs"
    client = "client"
    dashboard = "dashboard"
    health = "health"
    http = "http"
    silent = "silent"
    closed = "closed"
    unknown = "unknown"


RAY = (Speaks.gcs, Speaks.client, Speaks.dashboard)


@dataclass(frozen=True)
class Sighting:
    """What answered at an endpoint, and what it said of its cluster.

    Attributes:
        nodes: how many are alive.
        node_ids: of nodes of this cluster, some or all.
        dashboard: where the GCS says that the dashboard is.
        healthy: False for a dashboard that has lost its GCS.
    """

    endpoint: Endpoint
    speaks: Speaks
    token: TokenNeed = TokenNeed.unknown
    cluster_id: str | None = None
    session: str | None = None
    ray_version: str | None = None
    python_version: str | None = None
    nodes: int | None = None
    node_ids: frozenset[str] = frozenset()
    dashboard: Endpoint | None = None
    healthy: bool = True

    @property
    def is_ray(self) -> bool:
        return self.speaks in RAY

    @property
    def is_named(self) -> bool:
        """Whether it told which cluster it belongs to."""
        return bool(self.cluster_id or self.session or self.node_ids)


def identify(host: str, port: int, token: Token = "", timeout: float = 1.0) -> Speaks:
    """What speaks at host:port, found within `timeout` seconds; works with and without the token.

    Not to be called in a thread that runs an event loop.
    """
    return asyncio.run(look(Endpoint(host, port), token, timeout=timeout)).speaks


async def look(endpoint: Endpoint, token: Token = "", others: Sequence[Token] = (), timeout: float = 1.0) -> Sighting:
    """What answers at `endpoint`, within `timeout` seconds; never raises for what it meets.

    A token is sent only to what says that it wants one: `token`, which is the user's, then `others`.
    """
    deadline = time.monotonic() + timeout
    first = await ask(endpoint, "/api/version", timeout=timeout * _PATIENCE)
    if first.tongue is Tongue.http2:
        return await _ask_grpc(endpoint, first.peer, token, others, deadline)
    if first.tongue is Tongue.http:
        return await _Dashboard(endpoint, token, others, deadline).sighting(first)
    return Sighting(endpoint, _SPEAKS[first.tongue])


_SPEAKS = {Tongue.silent: Speaks.silent, Tongue.closed: Speaks.closed, Tongue.other: Speaks.unknown}


async def _ask_grpc(endpoint: Endpoint, peer: str, token: Token, others: Sequence[Token], deadline: float) -> Sighting:
    from ws.cluster.ray_rpc import question

    left = deadline - time.monotonic()
    found = await in_thread(lambda: question(str(Endpoint(peer, endpoint.port)), token, others, left), f"ask {endpoint}")
    if not found.service:
        return Sighting(endpoint, Speaks.unknown)
    return Sighting(
        endpoint,
        Speaks(found.service),
        found.token,
        found.cluster_id,
        found.session,
        found.ray_version,
        found.python_version,
        found.nodes,
        found.node_ids,
        _seen_from_here(found.dashboard, peer),
    )


def _seen_from_here(address: str | None, peer: str) -> Endpoint | None:
    """A dashboard's own address: loopback is the head's loopback, and the head is where its GCS answers."""
    own = parse_endpoint(address) if address else None
    return Endpoint(peer, own.port) if own and own.is_loopback else own


class _Dashboard:
    """Questions to an HTTP server that may be a dashboard, with one deadline for all of them."""

    def __init__(self, endpoint: Endpoint, token: Token, others: Sequence[Token], deadline: float) -> None:
        self._endpoint = endpoint
        self._user_token = token
        self._others = others
        self._deadline = deadline
        self._token: Token = ""

    async def sighting(self, first: Answer) -> Sighting:
        version = first.json()
        if "ray_version" in version:
            return await self._described(version, TokenNeed.not_needed)
        if first.status in (401, 403) and await self._wants_token():
            return await self._with_token()
        return Sighting(self._endpoint, Speaks.health if await self._is_health_server() else Speaks.http)

    async def _wants_token(self) -> bool:
        return (await self._get("/api/authentication_mode")).json().get("authentication_mode") == "token"

    async def _with_token(self) -> Sighting:
        need = TokenNeed.needed
        for token in dict.fromkeys(each for each in (self._user_token, *self._others) if each):
            self._token = token
            version = (await self._get("/api/version")).json()
            if "ray_version" in version:
                return await self._described(version, need)
            if token == self._user_token:
                need = TokenNeed.refused
        healthy = await self._has_gcs()
        return Sighting(self._endpoint, Speaks.dashboard, need, healthy=healthy)

    async def _described(self, version: dict[str, Any], need: TokenNeed) -> Sighting:
        healthy, metadata, nodes = await asyncio.gather(
            self._has_gcs(), self._get("/api/v0/cluster_metadata"), self._get(_ALIVE)
        )
        count, node_ids = _living(nodes.json())
        return Sighting(
            self._endpoint,
            Speaks.dashboard,
            need,
            session=_text(version, "session_name"),
            ray_version=_text(version, "ray_version"),
            python_version=_text(_object(metadata.json(), "data"), "pythonVersion"),
            nodes=count,
            node_ids=node_ids,
            healthy=healthy,
        )

    async def _has_gcs(self) -> bool:
        """A dashboard outlives its GCS for a while, and goes on telling its version."""
        return (await self._get("/api/gcs_healthz")).status == 200

    async def _is_health_server(self) -> bool:
        root, lease = await asyncio.gather(self._get("/"), self._get("/lease"))
        return root.status == 200 and root.body.strip() == b"OK" and (lease.status == 401 or "lease" in lease.json())

    async def _get(self, path: str) -> Answer:
        left = max(0.01, self._deadline - time.monotonic())
        return await ask(self._endpoint, path, self._token, left)


def _living(answer: dict[str, Any]) -> tuple[int | None, frozenset[str]]:
    """The count of living nodes, and the id of one, in an answer of the state API that holds one row at most."""
    result = _object(_object(answer, "data"), "result")
    rows, count = result.get("result"), result.get("num_filtered")
    if not isinstance(rows, list) or not isinstance(count, int):
        return None, frozenset()
    return count, frozenset(str(row["node_id"]) for row in rows if isinstance(row, dict) and "node_id" in row)


def _text(answer: dict[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and value.isprintable() else None


def _object(answer: dict[str, Any], name: str) -> dict[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}
