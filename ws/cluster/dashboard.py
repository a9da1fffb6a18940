"""A cluster as its dashboard's HTTP API shows it; no driver and no `import ray` needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from ws.errors import EnvironmentProblem
from ws.node.secret import Token, revealed

_TIMEOUT = 5.0


@dataclass(frozen=True)
class RayNode:
    """One Ray node as the GCS knows it; `resources` are totals, memory in bytes."""

    name: str
    node_id: str
    alive: bool
    head: bool
    resources: dict[str, float]


class Dashboard:
    """Ray's dashboard at `url` (http://host:port), asked with the cluster's token."""

    def __init__(self, url: str, token: Token) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business between us and our own machine
        if token:
            self._session.headers["Authorization"] = f"Bearer {revealed(token)}"

    def nodes(self) -> list[RayNode]:
        """Every node that the GCS remembers, dead ones included; source: `GET /api/v0/nodes`."""
        answer = self._get("/api/v0/nodes?limit=10000")
        with self._understood():
            return [
                RayNode(
                    name=row["node_name"],
                    node_id=row["node_id"],
                    alive=row["state"] == "ALIVE",
                    head=bool(row.get("is_head_node")),
                    resources=row.get("resources_total") or {},
                )
                for row in answer["data"]["result"]["result"]
            ]

    def usage(self) -> dict[str, tuple[float, float]]:
        """Resource → (used, total) over the cluster; source: `GET /api/cluster_status`."""
        answer = self._get("/api/cluster_status")
        with self._understood():
            report = answer["data"]["clusterStatus"]
            usage = ((report.get("loadMetricsReport") or {}).get("usage")) or {}
            return {name: (float(used), float(total)) for name, (used, total) in usage.items()}

    def _get(self, path: str) -> Any:
        try:
            response = self._session.get(self._url + path, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise EnvironmentProblem(f"the dashboard at {self._url} does not answer", str(error)) from None
        if response.status_code == 401:
            raise EnvironmentProblem(f"the dashboard at {self._url} refuses the token")
        if not response.ok:
            raise EnvironmentProblem(f"the dashboard at {self._url} answers {response.status_code} to {path}")
        with self._understood():
            return response.json()

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Any server may listen on a port that a dashboard has left."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError):
            raise EnvironmentProblem(f"what answers at {self._url} is no Ray dashboard") from None
