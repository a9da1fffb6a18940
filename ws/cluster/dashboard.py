"""A cluster as its dashboard's HTTP API shows it; no driver and no `import ray` needed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from ws.errors import EnvironmentProblem
from ws.node.secret import Token, revealed

_TIMEOUT = 5.0
_LOG_TIMEOUT = 10  # whole seconds that the dashboard gives a node's agent
_LARGEST_ANSWER = 256 << 20
_REFUSED = (401, 403)


class TokenRefused(EnvironmentProblem):
    """The cluster asks for a token, and the one that it was given (or none) is not its own."""


class NoDashboard(EnvironmentProblem):
    """Something else answers where a dashboard should."""


@dataclass(frozen=True)
class RayNode:
    """One Ray node as the GCS knows it; `resources` are totals, memory in bytes; `address` is what the node advertises."""

    name: str
    node_id: str
    alive: bool
    head: bool
    resources: dict[str, float]
    address: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a node runs: its machine's name, and its raylet's port."""

    hostname: str | None
    port: int | None


@dataclass(frozen=True)
class RayActor:
    """A living actor; `name` is empty where it has none."""

    actor_id: str
    class_name: str
    name: str
    namespace: str
    node_id: str


class Dashboard:
    """Ray's dashboard at `url` (http://host:port), asked with the cluster's token.

    Every method raises EnvironmentProblem: TokenRefused, NoDashboard, or the plain one where nothing answers within
    `timeout` seconds. Not for several threads at once.
    """

    def __init__(self, url: str, token: Token, timeout: float = _TIMEOUT) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between us and our own machine
        if token:
            self._session.headers["Authorization"] = f"Bearer {revealed(token)}"

    def nodes(self) -> list[RayNode]:
        """Every node that the GCS remembers, dead ones included; source: `GET /api/v0/nodes`."""
        with self._understood():
            return [
                RayNode(
                    name=row["node_name"],
                    node_id=row["node_id"],
                    alive=row["state"] == "ALIVE",
                    head=bool(row.get("is_head_node")),
                    resources=row.get("resources_total") or {},
                    address=row.get("node_ip") or row["node_name"],
                    labels=row.get("labels") or {},
                )
                for row in self._listed("/api/v0/nodes?limit=10000")
            ]

    def actors(self) -> list[RayActor]:
        """Actors that are alive, at most 10,000; source: `GET /api/v0/actors`."""
        with self._understood():
            return [
                RayActor(
                    actor_id=row["actor_id"],
                    class_name=row["class_name"],
                    name=row.get("name") or "",
                    namespace=row.get("ray_namespace") or "",
                    node_id=row.get("node_id") or "",
                )
                for row in self._listed(
                    "/api/v0/actors?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
                )
            ]

    def usage(self) -> dict[str, tuple[float, float]]:
        """Resource → (used, total) over the cluster; source: `GET /api/cluster_status`."""
        with self._understood():
            return _usage(self._report().get("usage"))

    def usage_by_node(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Node id → resource → (used, total), in Ray's camel case (objectStoreMemory); made by Ray every 1 to 5 s."""
        with self._understood():
            by_node = self._report().get("usageByNode") or {}
            return {node_id: _usage(usage) for node_id, usage in by_node.items()}

    def places(self) -> dict[str, Place]:
        """Node id → where it runs; a long answer on large clusters. Source: `GET /nodes?view=summary`."""
        answer = self._get("/nodes?view=summary&nocache=1")
        with self._understood():
            rows = [row["raylet"] for row in answer["data"]["summary"] if row.get("raylet")]
            return {
                row["nodeId"]: Place(row.get("nodeManagerHostname") or None, row.get("nodeManagerPort") or None)
                for row in rows
            }

    def version(self) -> str:
        """The head's Ray version; source: `GET /api/version`."""
        return self.session()[0]

    def session(self) -> tuple[str, str]:
        """Ray's version, and the session's name, which a new head changes; source: `GET /api/version`."""
        answer = self._get("/api/version")
        with self._understood():
            return str(answer["ray_version"]), str(answer["session_name"])

    def cluster_versions(self) -> dict[str, str]:
        """The releases of Ray and Python that the head was started with; source: `GET /api/v0/cluster_metadata`."""
        answer = self._get("/api/v0/cluster_metadata")
        with self._understood():
            return {"ray": str(answer["data"]["rayVersion"]), "python": str(answer["data"]["pythonVersion"])}

    def log_files(self, node_id: str) -> list[str]:
        """Names of a node's log files, as its own dashboard agent lists them; source: `GET /api/v0/logs`."""
        answer = self._get("/api/v0/logs", node_id=node_id, timeout=_LOG_TIMEOUT)
        with self._understood():
            names = [name for group in answer["data"]["result"].values() for name in group]
            return sorted(name for name in names if not name.endswith("/"))

    def log_file(self, node_id: str, name: str, lines: int = 100) -> bytes:
        """The last lines of one of a node's log files; source: `GET /api/v0/logs/file`."""
        return self._body("/api/v0/logs/file", node_id=node_id, filename=name, lines=lines, timeout=_LOG_TIMEOUT)

    def refuses_strangers(self) -> bool:
        """Whether it answers 401 to who has no token."""
        stranger = Dashboard(self.url, "", self._timeout)
        try:
            stranger.nodes()
        except TokenRefused:
            return True
        finally:
            stranger.close()
        return False

    def close(self) -> None:
        self._session.close()

    def _report(self) -> dict[str, Any]:
        report = self._get("/api/cluster_status")["data"]["clusterStatus"]
        return report.get("loadMetricsReport") or {}

    def _listed(self, path: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._get(path)["data"]["result"]["result"]
        return rows

    def _get(self, path: str, **query: str | int) -> Any:
        body = self._body(path, **query)
        with self._understood():
            return json.loads(body)

    def _body(self, path: str, **query: str | int) -> bytes:
        """What it answers, in time: a server that drips gains nothing. A `timeout` in the query is the dashboard's own."""
        timeout = max(self._timeout, float(query.get("timeout", 0)) + 1)
        deadline = time.monotonic() + timeout
        body = bytearray()
        try:
            with self._session.get(self.url + path, params=query, timeout=timeout, stream=True) as response:
                for piece in response.iter_content(1 << 16):
                    body += piece
                    if time.monotonic() > deadline or len(body) > _LARGEST_ANSWER:
                        raise EnvironmentProblem(f"the dashboard at {self.url} does not come to an end")
        except requests.RequestException as error:
            raise EnvironmentProblem(f"the dashboard at {self.url} does not answer", _brief(error)) from None
        self._check(response, path, bytes(body))
        return bytes(body)

    def _check(self, response: requests.Response, path: str, body: bytes) -> None:
        if response.status_code in _REFUSED:
            raise TokenRefused(f"the dashboard at {self.url} refuses the token")
        what = f"the dashboard at {self.url} answers {response.status_code} to {path}"
        if response.status_code == 404:
            raise NoDashboard(what, _said(body))
        if not response.ok:
            raise EnvironmentProblem(what, _said(body))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Any server may listen on a port that a dashboard has left."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise NoDashboard(f"what answers at {self.url} is no Ray dashboard") from None


def _said(body: bytes) -> str | None:
    """What an error's answer says of itself, in one line."""
    text = body.decode(errors="replace")
    with suppress(ValueError, TypeError, KeyError):
        text = str(json.loads(text)["msg"])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else None


def _usage(report: Any) -> dict[str, tuple[float, float]]:
    return {name: (float(used), float(total)) for name, (used, total) in (report or {}).items()}


def _brief(error: requests.RequestException) -> str:
    """The words that tell something: the text of a failed connection nests three exceptions."""
    if isinstance(error, requests.exceptions.InvalidHeader):  # its text shows the header
        return "what was given as its token is none"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if "Connection refused" in str(error):
        return "nothing listens there (connection refused)"
    if "Connection aborted" in str(error):
        return "it breaks the connection off"
    return str(error)
