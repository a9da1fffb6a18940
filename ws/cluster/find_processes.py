"""Clusters by the Ray processes of this machine and their arguments, those in containers included where they show."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ws.cluster.credentials import as_token
from ws.cluster.endpoint import Endpoint, parse_endpoint
from ws.cluster.find_files import SESSION
from ws.cluster.hints import ENTRY_PORTS, Hint, Way
from ws.node.secret import Secret

_EVERYWHERE = ("0.0.0.0", "::", "")
_WEBUI = re.compile(r"--webui=(\S+)")


def find_by_processes(processes: Iterable[Any] | None = None) -> list[Hint]:
    """A hint for each GCS, raylet, dashboard, Ray Client server and node agent of `ws`, by default among all processes.

    `processes` are psutil's.
    """
    import psutil

    found = []
    for process in processes or psutil.process_iter():
        try:
            argv = process.cmdline()
            role = _role(argv)
            if role and process.status() != psutil.STATUS_ZOMBIE:
                found.append(_hint(process, role, argv))
        except (psutil.Error, OSError):  # it has ended, or is not ours to look at
            continue
    return found


def _role(argv: list[str]) -> str | None:
    """What a process is to its cluster. The first words tell: a shell or an editor may have the rest in its arguments."""
    if not argv:
        return None
    program = Path(argv[0]).name
    if program in ("gcs_server", "raylet"):
        return program
    if any(word.endswith("ray/dashboard/dashboard.py") for word in argv[1:3]):
        return "dashboard"
    if "ray.util.client.server" in argv[1:4] and "--mode=specific-server" not in argv:  # that one serves one driver
        return "client"
    if argv[-1] == "agent" and any(word.endswith("ws/node/__main__.py") for word in argv[1:]):
        return "agent"
    return None


def _hint(process: Any, role: str, argv: list[str]) -> Hint:
    options = dict(_options(argv))
    contained = _is_contained(process.pid)
    environ = {} if contained else _own_environment(process)
    endpoints = _entries(environ) if role == "agent" else _endpoints(role, options)
    folder = options.get("session-dir")
    return Hint(
        Way.processes,
        tuple(_reachable(endpoints, contained)),
        session=_session(options),
        cluster_id=options.get("cluster-id") or options.get("cluster-id-hex"),
        node_id=options.get("node-id"),
        runs=role in ("gcs_server", "raylet"),
        claims=not contained,
        folder=Path(folder) if folder and not contained else None,
        token=_own_token(environ),
        place=f"{role}, process {process.pid}{' in a container' if contained else ''}",
    )


def _options(argv: Iterable[str]) -> Iterator[tuple[str, str]]:
    """--name=value, with - for _ in names; Ray's C++ programs take either."""
    for word in argv:
        name, equals, value = word.partition("=")
        if equals and name.startswith("--"):
            yield name[2:].replace("_", "-"), value


def _session(options: dict[str, str]) -> str | None:
    for name in ("session-name", "session-dir", "log-dir", "logs-dir"):
        found = SESSION.search(options.get(name, ""))
        if found:
            return found[0]
    return None


def _endpoints(role: str, options: dict[str, str]) -> Iterator[Endpoint]:
    """Where this process listens, or what it was told of its cluster."""
    gcs = parse_endpoint(options.get("gcs-address") or options.get("address") or "")
    if gcs:
        yield gcs
    if role == "gcs_server" and options.get("gcs-server-port", "").isdigit():
        port = int(options["gcs-server-port"])  # it listens on every address, whatever it advertises
        yield from (Endpoint(host, port) for host in (options.get("node-ip-address"), "127.0.0.1") if host and port)
    if role in ("dashboard", "client") and options.get("port", "").isdigit():
        host = options.get("host", "")
        yield Endpoint("127.0.0.1" if host in _EVERYWHERE else host, int(options["port"]))
        if role == "client":
            yield Endpoint("127.0.0.1", int(options["port"]))
    webui = _WEBUI.search(options.get("python-worker-command", ""))
    dashboard = parse_endpoint(webui[1]) if webui else None
    if dashboard:
        yield dashboard


def _reachable(endpoints: Iterable[Endpoint], contained: bool) -> Iterator[Endpoint]:
    """Without those that mean something else here: a container's loopback, and names that its own network resolves."""
    for endpoint in dict.fromkeys(endpoints):
        if not contained or (endpoint.ip and not endpoint.is_loopback):
            yield endpoint


def _is_contained(pid: int) -> bool:
    """Whether a process is in another network namespace; where that may not be looked at, it is taken for one of ours."""
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    except OSError:
        return False


def _entries(environ: dict[str, str]) -> Iterator[Endpoint]:
    """The entries of a candidate that runs here: a worker's lead to the head, and Ray knows nothing of them."""
    ports = [environ[name] for name in ENTRY_PORTS if environ.get(name, "").isdigit()]
    for host in environ.get("WS_BIND_HOST", "").split(","):
        yield from (Endpoint(host, int(port)) for port in ports if host)


def _own_environment(process: Any) -> dict[str, str]:
    """The environment of a process of this user's; empty where it is another's."""
    import psutil

    try:
        return dict(process.environ()) if process.uids().real == os.getuid() else {}
    except (psutil.Error, OSError):
        return {}


def _own_token(environ: dict[str, str]) -> Secret | None:
    """The token of a cluster that this user started, from the environment of its process."""
    if environ.get("RAY_AUTH_MODE") != "token":
        return None
    path = Path(environ.get("RAY_AUTH_TOKEN_PATH") or Path(environ.get("HOME", "")) / ".ray" / "auth_token")
    try:
        return as_token(environ.get("RAY_AUTH_TOKEN") or path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
