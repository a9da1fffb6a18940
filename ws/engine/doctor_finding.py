"""One finding of `ws doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]
_MARKS: dict[Verdict, str] = {"ok": "✓", "warn": "!", "fail": "✗"}


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and, where it is not ok, the command that mends it.

    `fail` would keep a cluster from working here; `warn` costs something, or will be mended by `ws up` itself.
    """

    subject: str
    verdict: Verdict
    text: str
    mend: str | None = None

    @property
    def mark(self) -> str:
        return _MARKS[self.verdict]


def good(subject: str, text: str) -> Finding:
    return Finding(subject, "ok", text)


def warn(subject: str, text: str, mend: str) -> Finding:
    return Finding(subject, "warn", text, mend)


def bad(subject: str, text: str, mend: str | None) -> Finding:
    return Finding(subject, "fail", text, mend)


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
