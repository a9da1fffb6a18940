"""The cluster's token: generated once per project, readable by nobody else on this machine."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def ensure_state(state: Path) -> None:
    """Make the project's state folder: for its owner alone, and invisible to git."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)
    ignore = state / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def ensure_token(path: Path) -> bool:
    """Make sure that there is a token at `path`; returns whether it was made now.

    The file's own mode lets user `ray` read it inside a container, whatever the uid of its owner; on this machine the
    folder around it (0700) keeps everyone else out.
    """
    ensure_state(path.parent)
    if path.exists() and path.read_text(encoding="utf-8").strip():
        path.chmod(0o644)
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    path.chmod(0o644)
    return True
