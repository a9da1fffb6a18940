"""A finding in a configuration before it is known which file and line it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Keys from the root of config.yaml to a value; whole numbers are positions in a list, from 0."""


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file with its 1-based line, or a variable's name, or the command line."""

    file: str
    line: int | None = None


@dataclass(frozen=True)
class Finding:
    """What is wrong at `path`, and what would be right.

    Attributes:
        exposure: whether it tells who else can reach the cluster.
        concerns: further paths that take part; the finding is shown at the first path that somebody wrote.
        rests_on: paths without which it would mean nothing; not shown.
        origin: where it is, if that is not where the path was written.
    """

    path: Path
    what: str
    mend: str | None = None
    warning: bool = False
    exposure: bool = False
    concerns: tuple[Path, ...] = ()
    rests_on: tuple[Path, ...] = ()
    origin: Origin | None = None


def dotted(path: Iterable[str | int]) -> str:
    """`nodes.head_whitelist[1]`, for people: bounded, and without what a terminal would act on."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + readable(part)
    return text


def readable(key: str) -> str:
    short = key[:60] + "…" if len(key) > 60 else key
    return short if short.isprintable() else ascii(short)[1:-1]
