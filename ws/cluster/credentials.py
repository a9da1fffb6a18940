"""The token for somebody else's cluster: from a file, or from where Ray's own clients take it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ws.errors import EnvironmentProblem
from ws.node.secret import Secret


def find_token(file: Path | None, environ: Mapping[str, str]) -> Secret:
    """The token in `file`, else in `RAY_AUTH_TOKEN`, else in the file `RAY_AUTH_TOKEN_PATH` or ~/.ray/auth_token.

    Empty where there is none. Raises EnvironmentProblem where a file that was named holds none.
    """
    if file is None:
        if token := environ.get("RAY_AUTH_TOKEN", "").strip():
            return Secret(token)
        named = environ.get("RAY_AUTH_TOKEN_PATH", "").strip()
        file = Path(named) if named else Path(environ.get("HOME", "/nowhere")) / ".ray" / "auth_token"
        if not named and not file.is_file():
            return Secret()
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise EnvironmentProblem(f"the token file {file} can't be read", why) from None
    if not token:
        raise EnvironmentProblem(f"the token file {file} is empty")
    return Secret(token)
