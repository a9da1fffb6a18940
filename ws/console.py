"""Everything that a command shows: progress on stderr, results on stdout, errors in one shape.

A spinner on a terminal, plain lines elsewhere; NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ws.errors import WsError

if TYPE_CHECKING:
    from rich.console import Console

BUG_EXIT = 70
GREEN, RED, YELLOW, DIM, BOLD = "32", "31", "33", "2", "1"


def paint(text: str, colour: str, stream: TextIO) -> str:
    """The text in this colour, where the stream is a terminal that wants colours."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


class Progress:
    """Named steps on stderr, each with its duration. `quiet` shows warnings alone."""

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._spinner: Any = None

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step that runs while the body does; a mark and its seconds when it ends."""
        began = time.monotonic()
        with self._spinning(text):
            try:
                yield
            except BaseException:
                self._end("✗", RED, text, began)
                raise
        self._end("✓", GREEN, text, began)

    @contextmanager
    def _spinning(self, text: str) -> Iterator[None]:
        if self._quiet or not self._stream.isatty():
            yield
            return
        from rich.status import Status

        with Status(text, console=_rich(self._stream)) as self._spinner:
            yield
        self._spinner = None

    def _end(self, mark: str, colour: str, text: str, began: float) -> None:
        if not self._quiet:
            seconds = paint(f"({time.monotonic() - began:.1f} s)", DIM, self._stream)
            self._print(f"{paint(mark, colour, self._stream)} {text} {seconds}")

    def note(self, text: str) -> None:
        """A line within a step."""
        if not self._quiet:
            self._print(f"  {paint(text, DIM, self._stream)}")

    def warn(self, text: str) -> None:
        self._print(f"{paint('!', YELLOW, self._stream)} {text}")

    def _print(self, text: str) -> None:
        if self._spinner is not None:
            self._spinner.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)


def _rich(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False)


def result(text: str) -> None:
    """A result, on stdout."""
    print(text, flush=True)


def result_json(value: object) -> None:
    """A result for programs: one JSON document on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False), flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; plain text, so that it can be grepped and piped."""
    widths = [max(len(str(row[column])) for row in [header, *rows]) for column in range(len(header))]
    lines = ("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows])
    return "\n".join(line.rstrip() for line in lines)


def show_error(error: WsError) -> None:
    """What happened, why, and what mends it."""
    stream = sys.stderr
    print(f"{paint('✗', RED, stream)} {paint(error.what, BOLD, stream)}", file=stream)
    for line in (error.why or "").splitlines():
        print(f"  {line}", file=stream)
    if error.mend:
        print(f"→ {error.mend}", file=stream, flush=True)


def show_bug(error: BaseException) -> None:
    """A bug of ours: the traceback goes to a file, and the user is told where."""
    with tempfile.NamedTemporaryFile("w", prefix="ws-bug-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(f"argv: {sys.argv}\npython: {sys.version}\n\n")
        traceback.print_exception(error, file=file)
        path = Path(file.name)
    show_error(
        WsError(
            f"a bug in ws: {type(error).__name__}: {error}",
            mend=f"the traceback is in {path}; please report it with that file",
        )
    )
