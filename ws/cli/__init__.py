"""The command line: parse, call, print. Every error ends here, with its exit code.

0 pass, 1 a check failed, 2 wrong use, 3 inconclusive, 4 environment, 70 a bug of ours, 130 interrupted.
"""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from ws import console
from ws.cli.app import app
from ws.errors import EnvironmentProblem, UsageError, WsError

INTERRUPTED = 130


def main() -> None:
    """Entry point of the `ws` script."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command line; returns its exit code."""
    try:
        code = app(args=argv, prog_name="ws", standalone_mode=False)
    except WsError as error:
        console.show_error(error)
        return error.exit_code
    except typer.Exit as ended:
        return ended.exit_code
    except TyperException as error:
        return _wrong_use(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except SystemExit as ended:  # Typer ends so after completion, and where the reader of our output has gone
        if isinstance(ended.__context__, BrokenPipeError):
            return 0
        raise
    except Exception as error:
        problem = _of_docker(error)
        if problem:
            console.show_error(problem)
            return problem.exit_code
        console.show_bug(error)
        return console.BUG_EXIT
    if code == INTERRUPTED:  # Typer returns it for Ctrl-C
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _of_docker(error: Exception) -> EnvironmentProblem | None:
    """The daemon's own refusal, or its end in the middle of a command: no bug of ours. Imports nothing."""
    docker, requests = sys.modules.get("docker.errors"), sys.modules.get("requests")
    if docker and requests and isinstance(error, (docker.DockerException, requests.RequestException)):
        return EnvironmentProblem("the Docker daemon refused, or broke off", str(error), "`ws doctor` looks for causes")
    return None


def _wrong_use(error: TyperException) -> int:
    """An option or argument that the parser refuses, in the shape of our own errors."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return 2
    command = getattr(getattr(error, "ctx", None), "command_path", "ws")
    console.show_error(UsageError(error.format_message(), mend=f"`{command} --help` shows its use"))
    return 2
