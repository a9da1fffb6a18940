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
_LOG_TIMEOUT = 10  # whole seconds that the dashboard gives a node's agent
_UNAUTHORIZED = 401


@dataclass(frozen=True)
class RayNode:
    """One Ray node as the GCS knows it; `resources` are totals, memory in bytes; `address` is what the node advertises."""

    name: str
    node_id: str
    alive: bool
    head: bool
    resources: dict[str, float]
    address: str = ""


class Dashboard:
    """Ray's dashboard at `url` (http://host:port), asked with the cluster's token."""

    def __init__(self, url: str, token: Token) -> None:
        self.url = url.rstrip("/")
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
                    address=row.get("node_ip") or "",
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

    def version(self) -> str:
        """The head's Ray version; source: `GET /api/version`."""
        answer = self._get("/api/version")
        with self._understood():
            return str(answer["ray_version"])

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
        path = "/api/v0/logs/file"
        return self._ask(path, node_id=node_id, filename=name, lines=lines, timeout=_LOG_TIMEOUT).content

    def refuses_strangers(self) -> bool:
        """Whether it answers 401 to who has no token."""
        return Dashboard(self.url, "")._response("/api/v0/nodes").status_code == _UNAUTHORIZED

    def _get(self, path: str, **query: str | int) -> Any:
        response = self._ask(path, **query)
        with self._understood():
            return response.json()

    def _ask(self, path: str, **query: str | int) -> requests.Response:
        """An answer that is no refusal; the query's `timeout` is the dashboard's own."""
        response = self._response(path, **query)
        if response.status_code == _UNAUTHORIZED:
            raise EnvironmentProblem(f"the dashboard at {self.url} refuses the token")
        if not response.ok:
            what = f"the dashboard at {self.url} answers {response.status_code} to {path}"
            raise EnvironmentProblem(what, _said(response))
        return response

    def _response(self, path: str, **query: str | int) -> requests.Response:
        timeout = max(_TIMEOUT, float(query.get("timeout", 0)) + 1)
        try:
            return self._session.get(self.url + path, params=query, timeout=timeout)
        except requests.RequestException as error:
            raise EnvironmentProblem(f"the dashboard at {self.url} does not answer", str(error)) from None

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Any server may listen on a port that a dashboard has left."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError):
            raise EnvironmentProblem(f"what answers at {self.url} is no Ray dashboard") from None


def _said(response: requests.Response) -> str | None:
    """What an error's answer says of itself, in one line."""
    try:
        text = str(response.json()["msg"])
    except (ValueError, TypeError, KeyError):
        text = response.text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else None
