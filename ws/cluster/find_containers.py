"""Clusters in containers that `ws` made, by their label, through Docker's socket on this machine.

Two requests over the socket tell all; the Docker SDK would take a third of the time that a whole scan has, for its import
alone. An engine of another machine is not asked: what it publishes leads to that machine, where `--host` looks.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ws.cluster.credentials import as_token
from ws.cluster.endpoint import Endpoint
from ws.cluster.hints import ENTRY_PORTS, Hint, Way
from ws.errors import EnvironmentProblem
from ws.node.secret import Secret

LABEL = "org.cslr-exp-platform.project"


def find_by_containers(environ: Mapping[str, str], timeout: float = 1.0) -> list[Hint]:
    """A hint for each project of `ws` that has running nodes; none where there is no Docker.

    Raises EnvironmentProblem where there is a Docker daemon that can't be asked.
    """
    path = _socket(environ)
    if path is None:
        return []
    daemon = _Daemon(path, timeout)
    wanted = quote(json.dumps({"label": [LABEL], "status": ["running"]}))
    projects: dict[str, list[_Node]] = {}
    for row in daemon.get(f"/containers/json?filters={wanted}") or ():
        for node in _nodes(daemon.get(f"/containers/{row['Id']}/json")):
            projects.setdefault(row["Labels"][LABEL], []).append(node)
    return [_hint(project, nodes) for project, nodes in projects.items()]


@dataclass(frozen=True)
class _Node:
    """A node's container: where its entries are published, and the token that it was given."""

    endpoints: tuple[Endpoint, ...]
    token: Secret | None


def _hint(project: str, nodes: list[_Node]) -> Hint:
    endpoints = dict.fromkeys(endpoint for node in nodes for endpoint in node.endpoints)
    token = next((node.token for node in nodes if node.token), None)
    place = f"{len(nodes)} container{'s' * (len(nodes) != 1)} of project {project}"
    return Hint(Way.containers, tuple(endpoints), runs=True, claims=True, token=token, place=place)


def _socket(environ: Mapping[str, str]) -> str | None:
    """DOCKER_HOST where that is a socket of this machine, else the usual ones."""
    host = environ.get("DOCKER_HOST", "")
    if host:
        return host.removeprefix("unix://") if host.startswith("unix://") else None
    own = environ.get("XDG_RUNTIME_DIR")
    folders = [Path("/var/run"), *([Path(own)] if own else []), Path.home() / ".docker/run"]
    return next((str(folder / "docker.sock") for folder in folders if (folder / "docker.sock").exists()), None)


class _Daemon:
    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    def get(self, request: str) -> Any:
        """The JSON answer; None where there is no such thing, or no daemon."""
        connection = http.client.HTTPConnection("docker", timeout=self._timeout)
        try:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(self._timeout)
            connection.sock.connect(self._path)
            connection.request("GET", request)
            response = connection.getresponse()
            text = response.read()
            if response.status == 404:
                return None
            if response.status != 200:
                raise EnvironmentProblem(f"the Docker daemon answers {response.status}", text.decode(errors="replace"))
            return json.loads(text)
        except (FileNotFoundError, ConnectionRefusedError):  # the socket of a daemon that has ended
            return None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EnvironmentProblem(f"the Docker daemon at {self._path} can't be asked", str(error)) from None
        finally:
            connection.close()


def _nodes(container: Any) -> Iterator[_Node]:
    if container is None:  # it ended between the two requests
        return
    environ = dict(entry.partition("=")[::2] for entry in container["Config"].get("Env") or ())
    if ENTRY_PORTS[0] in environ:  # the health server is no node
        yield _Node(tuple(_endpoints(container["NetworkSettings"], environ)), _token(container, environ))


def _endpoints(network: dict[str, Any], environ: dict[str, str]) -> Iterator[Endpoint]:
    """Where the entries of a candidate are published; nothing for a node that publishes none."""
    for variable in ENTRY_PORTS:
        for published in (network.get("Ports") or {}).get(f"{environ.get(variable)}/tcp") or ():
            host = published.get("HostIp") or "127.0.0.1"
            yield Endpoint("127.0.0.1" if host in ("0.0.0.0", "::") else host, int(published["HostPort"]))


def _token(container: dict[str, Any], environ: dict[str, str]) -> Secret | None:
    """The cluster's token, from the file of this machine that the container has as its secret, where that is readable."""
    wanted = environ.get("RAY_AUTH_TOKEN_PATH")
    for mount in container.get("Mounts") or ():
        if wanted and mount.get("Destination") == wanted:
            try:
                return as_token(Path(mount["Source"]).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
    return None
