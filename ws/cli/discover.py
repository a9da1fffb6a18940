"""`ws discover`: the Ray clusters that can be found from here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ws import console
from ws.cli.common import JSON
from ws.console import Progress
from ws.errors import UsageError

if TYPE_CHECKING:
    from ws.cluster.discover import Scan
    from ws.cluster.records import ClusterRecord
    from ws.node.secret import Token


def discover(
    host: list[str] = typer.Option([], "--host", metavar="HOST", help="A further host to look at; may be repeated."),
    port: list[int] = typer.Option([], "--port", min=1, max=65535, help="A further port to ask; may be repeated."),
    cidr: list[str] = typer.Option([], "--cidr", metavar="CIDR", help="A network whose hosts are asked, as 10.0.0.0/24."),
    temp_dir: list[Path] = typer.Option([], "--temp-dir", metavar="DIR", help="A further temp dir of Ray; may be repeated."),
    token_file: Path | None = typer.Option(None, "--token-file", metavar="FILE", help="A token for clusters that want one."),
    timeout: float = typer.Option(1.0, min=0.1, max=60, help="Seconds that each address may take to answer."),
    as_json: bool = JSON,
) -> None:
    """Find Ray clusters: on this machine, in its containers, on given hosts; dead ones' leftovers are told as stale."""
    from ws.cluster.discover import Search, scan

    for folder in temp_dir:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}")
    progress = Progress(quiet=as_json)
    found = scan(Search(host, port, cidr, temp_dir, _token(token_file, cidr, progress), timeout))
    if as_json:
        clusters = [record.as_json() for record in found.records]
        console.result_json({"clusters": clusters, "problems": found.problems, "seconds": round(found.seconds, 3)})
        return
    for problem in found.problems:
        progress.warn(problem)
    console.result("\n".join(_lines(found)))


def _token(file: Path | None, cidrs: list[str], progress: Progress) -> Token:
    """Who scans a network sends a token to its hosts only where the command line says so."""
    from ws.cluster.credentials import find_token

    token = find_token(file, os.environ)
    if token and cidrs and not file:
        progress.warn("with --cidr your token is sent to nobody; --token-file FILE sends that one")
        return ""
    return token


def _lines(found: Scan) -> list[str]:
    alive = [record for record in found.records if record.alive]
    stale = [record for record in found.records if not record.alive]
    lines = [line for record in alive for line in [*_cluster(record), ""]]
    if not alive:
        lines += ["no cluster found", "→ `ws up` starts one; --host, --port, --cidr and --temp-dir look further", ""]
    lines += [line for record in stale for line in _stale(record)]
    count = f"{len(alive)} cluster{'s' * (len(alive) != 1)}"
    return [*lines, f"{count}{f', {len(stale)} stale' if stale else ''} ({found.seconds:.1f} s)"]


def _cluster(record: ClusterRecord) -> list[str]:
    nodes = "nodes unknown" if record.nodes is None else f"{record.nodes} node{'s' * (record.nodes != 1)}"
    token = {"needed": "token needed", "refused": "token refused", "not needed": "no token", "unknown": "token unknown"}
    versions = _versions(record)
    lines = [f"✓ {record.id}", f"    {', '.join([nodes, *versions, token[record.token.value]])}"]
    for kind, addresses in sorted(record.addresses.items()):
        lines.append(f"    {kind.value:<10} {', '.join(_SHAPES.get(kind.value, '{}').format(each) for each in addresses)}")
    lines.append(f"    found by   {', '.join(record.found_by)}")
    return [*lines, *(f"    ! {note}" for note in record.notes)]


_SHAPES = {"client": "ray://{}", "dashboard": "http://{}"}


def _versions(record: ClusterRecord) -> list[str]:
    """Ray's and Python's; Ray's beside our own where they differ."""
    from importlib.metadata import version

    here = version("ray")
    differs = f" (here {here})" if record.ray_version not in (None, here) else ""
    ray = [f"Ray {record.ray_version}{differs}"] if record.ray_version else []
    return [*ray, *([f"Python {record.python_version}"] if record.python_version else [])]


def _stale(record: ClusterRecord) -> list[str]:
    return [f"✗ stale: {record.session or record.id}", f"    {record.stale}", *(f"    {note}" for note in record.notes)]
