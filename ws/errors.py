"""What can go wrong, as one tree.

    WsError                 something the user can act on; never a bug of ours
    ├── UsageError          wrong use of a command                         exit 2
    │   └── ConfigError     config.yaml has problems, all of them at once  exit 2
    ├── EnvironmentProblem  the machine lacks something (Docker, a port)   exit 4
    │   └── CommandFailed   a program that we ran failed
    │       └── StillRunning  … to end within its time
    ├── CheckFailed         a check ran and its answer is no               exit 1
    └── Inconclusive        what should be judged could not be observed    exit 3

Foreign errors are translated into these once, at each boundary. Anything else that reaches the command line is
a bug (exit 70).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class WsError(Exception):
    """An error with its cause and its mend.

    Attributes:
        what: what happened, one sentence without a full stop.
        why: the cause, where it is known; may have several lines (the tail of a log).
        mend: what to do, a command where there is one.
    """

    exit_code = 1

    def __init__(self, what: str, why: str | None = None, mend: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.mend = mend

    def __str__(self) -> str:
        return "\n".join(part for part in (self.what, self.why, self.mend) if part)


class UsageError(WsError):
    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One finding in a configuration: where (file, 1-based line, dotted path), what is wrong, what would be right."""

    path: str
    what: str
    mend: str | None = None
    file: str | None = None
    line: int | None = None

    @property
    def where(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        return f"{place} {self.path}".strip()

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f"; {self.mend}" if self.mend else "")


class ConfigError(UsageError):
    """Every problem of a configuration at once."""

    def __init__(self, problems: Sequence[Problem], what: str | None = None) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(
            what or f"the configuration has {count} problem{'s' * (count != 1)}",
            "\n".join(str(problem) for problem in self.problems),
        )


class EnvironmentProblem(WsError):
    exit_code = 4


class CommandFailed(EnvironmentProblem):
    """A program that we ran ended with an error.

    Attributes:
        argv: the command with its arguments, secrets redacted.
        code: its exit code; negative: the signal that ended it.
        output: what it printed, standard output and error in one.
    """

    def __init__(self, argv: Sequence[str], code: int, output: str, mend: str | None = None) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.output = output
        super().__init__(f"`{' '.join(argv)}` ended with exit code {code}", output.strip() or None, mend)


class StillRunning(CommandFailed):
    """A program that we ran did not end within its time, and was ended."""


class CheckFailed(WsError):
    exit_code = 1


class Inconclusive(WsError):
    exit_code = 3
