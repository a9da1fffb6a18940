"""Sizes, rates and times: read from an option, and shown to people."""

from __future__ import annotations

import re

from ws.errors import UsageError
from ws.transfer.onnode.problems import size_text

_SIZE = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>[kmgt]?)(?P<binary>i?)b?(/s)?", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_size(text: str, option: str) -> int:
    """Bytes of `50M` (50,000,000), `1.5GiB` (1,610,612,736), `800k`, `4096`; raises UsageError for anything else, and 0."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or (found["binary"] and not found["unit"]):
        raise UsageError(f"{option}: {text!r} is no size", mend="for example 50M (50,000,000), 800k, 1.5GiB")
    size = int(float(found["number"]) * (1024 if found["binary"] else 1000) ** _POWERS[found["unit"].lower()])
    if size <= 0:
        raise UsageError(f"{option}: {text!r} is nothing", mend="leave the option out for no limit")
    return size


def size(count: float) -> str:
    """`512 B`, `1.5 MiB`."""
    return size_text(round(count))


def rate(per_second: float) -> str:
    return f"{size(per_second)}/s"


def seconds(count: float) -> str:
    """`0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 05 min`."""
    if count < 10:
        return f"{count:.2f} s"
    if count < 60:
        return f"{count:.1f} s"
    whole = round(count)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def left(count: float | None) -> str:
    """Time left, as exact as it can be known: empty where it is not."""
    if count is None:
        return ""
    return f"{max(1, round(count))} s left" if count < 60 else f"{seconds(count)} left"


def counted(count: int, noun: str) -> str:
    """`1 file`, `10,000 files`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
