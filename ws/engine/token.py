"""The cluster's token: generated once per project, readable by nobody else on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ws.errors import EnvironmentProblem
from ws.node.secret import Secret


def ensure_state(state: Path) -> None:
    """Make the project's state folder: for its owner alone, and invisible to git."""
    with _explained(state):
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
    with _explained(path.parent):
        if path.exists() and path.read_text(encoding="utf-8").strip():
            path.chmod(0o644)
            return False
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_hex(32))
        path.chmod(0o644)
        return True


def read_token(path: Path) -> Secret:
    """The token at `path`, empty where there is none yet."""
    with _explained(path.parent):
        return Secret(path.read_text(encoding="utf-8").strip() if path.exists() else "")


@contextlib.contextmanager
def _explained(state: Path) -> Iterator[None]:
    """Another user's files, as after a `sudo ws up`, or something else in their place."""
    try:
        yield
    except PermissionError as error:
        ours = "use a project folder that is yours: ws -C DIR …"
        mend = f'sudo chown -R "$USER" {state}' if state.is_dir() else ours
        raise EnvironmentProblem(f"{state} can't be used by this user", error.strerror, mend) from None
    except (IsADirectoryError, FileExistsError, NotADirectoryError) as error:
        raise EnvironmentProblem(f"{error.filename} is in the way", error.strerror, f"rm -r {error.filename}") from None
