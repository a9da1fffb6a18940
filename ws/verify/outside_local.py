"""Programs that are run on this machine, with or without the cluster's token."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ws.errors import UsageError
from ws.node.secret import Secret
from ws.process import Completed, run, start

HERE = "here"
"""The one node that programs are run on: this machine."""

_RAYS_OWN = "~/.ray/auth_token"


@dataclass(frozen=True)
class Credentials:
    """A token, and the words that tell where it is from. Without a token, `secret` is empty."""

    secret: Secret
    source: str

    def environment(self) -> dict[str, str]:
        """The variables with which Ray uses this token, and no other one."""
        if not self.secret:
            # A path that is set hides the file in the home folder, which Ray would take.
            return {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": os.devnull}
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.secret.reveal(), "RAY_AUTH_TOKEN_PATH": os.devnull}


NO_TOKEN = Credentials(Secret(), "no token")


def find_credentials(given: Path | None, folder: Path | None, environ: Mapping[str, str]) -> Credentials:
    """The token from the file that was given, else that which the environment names, else of the project in `folder`.

    Without a `folder`, as for a cluster of another machine, no project's token is taken; where there is none of all that, it
    is the one in the home folder, as Ray would have it. Raises UsageError where a file that was named can't be read.
    """
    if given is not None:
        return Credentials(_read(given, "--token-file"), f"the token in {given}")
    if environ.get("RAY_AUTH_TOKEN"):
        return Credentials(Secret(environ["RAY_AUTH_TOKEN"].strip()), "the token in RAY_AUTH_TOKEN")
    if path := environ.get("RAY_AUTH_TOKEN_PATH"):
        return Credentials(_read(Path(path), "RAY_AUTH_TOKEN_PATH"), f"the token in {path} (RAY_AUTH_TOKEN_PATH)")
    for found in (*([folder / ".ws" / "token"] if folder else []), Path(_RAYS_OWN).expanduser()):
        if found.is_file():
            return Credentials(_read(found, "its owner"), f"the token in {found}")
    return NO_TOKEN


def _read(path: Path, named_by: str) -> Secret:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} can't be read", str(error), f"look at {named_by}") from None
    if not text:
        raise UsageError(f"the token file {path} is empty", mend=f"look at {named_by}")
    return Secret(text)


class LocalRuns:
    """Runs programs as child processes, in this Python and with these credentials."""

    def __init__(self, credentials: Credentials) -> None:
        # Under `uv run`, Ray would have every worker of the cluster run by uv, with this folder uploaded.
        # As in `programs.common.connect`.
        own = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}
        self._environment = {**credentials.environment(), **own}

    def spawn(self, node: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        return start(_here(argv), self._environment)

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        return run(_here(argv), env=self._environment, timeout=timeout, check=False)


def _here(argv: Sequence[str]) -> list[str]:
    return [sys.executable if argv[0] == "python3" else argv[0], *argv[1:]]
