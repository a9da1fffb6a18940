"""Clusters by the files that Ray leaves: `ray_current_cluster` and the session folders of temp dirs.

`ray status` reads the same file and asks the GCS that it names, so this tells what it would, of every temp dir.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ws.cluster.endpoint import Endpoint, parse_endpoint
from ws.cluster.hints import Hint, Way

SESSION = re.compile(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_\d+")
_NEWEST = 20
"""Session folders looked at in each temp dir: a machine in use for long has hundreds."""


def temp_dirs(given: Iterable[Path], environ: Mapping[str, str]) -> list[Path]:
    """Ray's default temp dir (RAY_TMPDIR moves it), and those that were given, each once."""
    default = Path(environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray"
    usual = Path("/tmp/ray")  # noqa: S108, where every Ray of this machine that was told nothing else has its files
    return list(dict.fromkeys(path.absolute() for path in (*given, default, usual)))


def find_by_files(folders: Iterable[Path]) -> list[Hint]:
    """A hint for each session folder and each `ray_current_cluster`; folders that are not there have none."""
    return [hint for folder in folders for hint in _of_folder(folder)]


def _of_folder(folder: Path) -> Iterator[Hint]:
    names = sorted((name for name in _names(folder) if SESSION.fullmatch(name)), reverse=True)
    for name in names[:_NEWEST]:
        session = folder / name
        endpoints = tuple(Endpoint("127.0.0.1", port) for port in _gcs_ports(session))
        yield Hint(Way.files, endpoints, session=name, folder=session, place=str(session))
    current = parse_endpoint(_text(folder / "ray_current_cluster"))
    if current:
        # Written by the `ray start` that made session_latest; where that is dead, so is what this leads to.
        latest = _latest(folder)
        yield Hint(Way.files, (current,), session=latest, place=str(folder / "ray_current_cluster"))


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _gcs_ports(session: Path) -> list[int]:
    """The head's GCS port, which Ray keeps on the head's machine in gcs_server_port_<node id>."""
    ports = (_text(session / name).strip() for name in _names(session) if name.startswith("gcs_server_port_"))
    return [int(port) for port in ports if port.isdigit()]


def _latest(folder: Path) -> str | None:
    try:
        name = (folder / "session_latest").readlink().name
    except OSError:
        return None
    return name if SESSION.fullmatch(name) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return ""
