"""The token for somebody else's cluster: from a file, or from where Ray's own clients take it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ws.errors import EnvironmentProblem
from ws.node.secret import Secret

_ONE_WORD = re.compile(r"[!-~]+")
"""Else it can't be sent in a header, and what refuses it may print it."""
_NO_TOKEN = "a token is one word of plain letters and digits"  # noqa: S105


def as_token(text: str) -> Secret | None:
    """The token in `text`, with what is white around it taken off; None where that is no token."""
    word = text.strip()
    return Secret(word) if _ONE_WORD.fullmatch(word) else None


def find_token(file: Path | None, environ: Mapping[str, str], project: Path | None = None) -> Secret:
    """The token in `file`, else `RAY_AUTH_TOKEN`, the file `RAY_AUTH_TOKEN_PATH`, the folder `project`, ~/.ray/auth_token.

    Empty where there is none. Raises EnvironmentProblem where a file or variable that was named holds none.
    """
    if file is None:
        if text := environ.get("RAY_AUTH_TOKEN", "").strip():
            return as_token(text) or _raise("RAY_AUTH_TOKEN holds no token")
        named = environ.get("RAY_AUTH_TOKEN_PATH", "").strip()
        own = [project / ".ws" / "token"] if project else []
        usual = [*own, Path(environ.get("HOME", "/nowhere"), ".ray", "auth_token")]
        file = Path(named) if named else next((path for path in usual if path.is_file()), None)
        if file is None:
            return Secret()
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise EnvironmentProblem(f"the token file {file} can't be read", why) from None
    if not text:
        raise EnvironmentProblem(f"the token file {file} is empty")
    return as_token(text) or _raise(f"the file {file} holds no token")


def _raise(what: str) -> Secret:
    raise EnvironmentProblem(what, _NO_TOKEN)
