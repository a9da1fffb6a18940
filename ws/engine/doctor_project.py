"""The project folder: its token, its rendered files, and what its config opens."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ws.engine.base import Project
from ws.engine.doctor_finding import Finding, bad, good, warn
from ws.engine.render import COMPOSE_FILE, outdated
from ws.errors import Problem


def token(project: Project) -> Iterator[Finding]:
    """There, not empty, and nobody else's on this machine to read."""
    state, path = project.state, project.token_path
    try:
        if not path.exists():
            yield good("token", "none yet: `ws up` makes one")
            return
        text = path.read_text(encoding="utf-8").strip()
        mode = stat.S_IMODE(state.stat().st_mode)
    except PermissionError:
        yield bad("token", f"{state} belongs to {_owner(state)}", f'sudo chown -R "$USER" {state}')
        return
    except (OSError, UnicodeDecodeError) as error:
        yield bad("token", f"{path} is no token file: {error}", f"rm -r {path}; `ws up` makes a new one")
        return
    if mode & 0o077:
        yield bad("token", f"{state} is open to other users of this machine ({mode:04o})", f"chmod 700 {state}")
    if not text:
        yield warn("token", f"{path} is empty", "`ws up` makes a new one")
    elif not mode & 0o077:
        yield good("token", f"{path}, for this user alone")


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}"


def rendered(project: Project) -> Iterator[Finding]:
    stale = outdated(project)
    if not (project.folder / COMPOSE_FILE).exists():
        yield good("rendered files", "none yet: `ws up` writes them")
    elif stale:
        yield warn("rendered files", f"not in step with config.yaml and the templates: {', '.join(stale)}", "ws render")
    else:
        yield good("rendered files", "in step with config.yaml and the templates")


def odd(warnings: Sequence[Problem]) -> Iterator[Finding]:
    """What loading the config warned of, but for exposure."""
    yield from _told("config", warnings)
    if not warnings:
        yield good("config", "nothing odd in it")


def exposed(exposure: Sequence[Problem]) -> Iterator[Finding]:
    """Who can reach what containers publish, as loading the config warned of it."""
    yield from _told("exposure", exposure)
    if not exposure:
        yield good("exposure", "ports are published for this machine and its containers alone")


def _told(subject: str, problems: Sequence[Problem]) -> Iterator[Finding]:
    for problem in problems:
        yield warn(subject, f"{problem.where}: {problem.what}", problem.mend or "docs/config.md tells what it means")
