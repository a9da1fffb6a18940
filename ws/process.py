"""The one place that runs other programs (docker, compose, ray, ssh)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ws.errors import CommandFailed, EnvironmentProblem, StillRunning


@dataclass(frozen=True)
class Completed:
    """A program that has ended: its exit code, and what it printed on each stream."""

    code: int
    stdout: str
    stderr: str


Runner = Callable[..., Completed]
Spawn = Callable[[list[str]], "subprocess.Popen[str]"]
"""Starts a program somewhere, with pipes to its stdin and from its stdout and stderr in one."""


def start(argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a program and go on, with pipes as `Spawn` says; `env` is set on top of this process's own."""
    return subprocess.Popen(
        list(argv),
        env={**os.environ, **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as in every shell


def attached(argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run a program on this terminal; returns its exit code, 128 and the signal where one ended it, as a shell does.

    Raises EnvironmentProblem, with a shell's exit codes, where there is no such program or it can't be run.
    """
    try:
        code = subprocess.run(list(argv), env={**os.environ, **(env or {})}, check=False).returncode
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        what = f"there is no program `{argv[0]}`" if missing else f"`{argv[0]}` can't be run"
        problem = EnvironmentProblem(what, error.strerror)
        problem.exit_code = _NOT_FOUND if missing else _NOT_EXECUTABLE
        raise problem from None
    return code if code >= 0 else 128 - code


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Run a program to its end.

    Args:
        argv: the program and its arguments; secrets never belong here, because process lists show them.
        env: variables set on top of this process's own.
        timeout: seconds until the program is ended.
        check: raise where it ends with an error.

    Raises:
        CommandFailed: it ended with an error (with `check`), or not within `timeout`.
        EnvironmentProblem: there is no such program, or this user may not run it.
    """
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if cwd is not None and not cwd.is_dir():
            raise EnvironmentProblem(f"there is no folder {cwd} to run `{argv[0]}` in", error.strerror) from None
        raise EnvironmentProblem(f"`{argv[0]}` is not installed, or not on the PATH", error.strerror) from None
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        raise StillRunning(argv, -1, f"{output}\nstill running after {timeout:g} s") from None
    if check and done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stdout + done.stderr)
    return Completed(done.returncode, done.stdout, done.stderr)
