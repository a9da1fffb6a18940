"""Memory sizes as Compose writes them: a number with b, k, m, g (or kb, mb, gb), in binary units."""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,6})?)\s?(?:b|(?P<unit>[kmg])b?)?", re.IGNORECASE | re.ASCII)


def parse_memory(text: str) -> int:
    """Bytes of a size such as `8g`, `1.5gb`, `512m`, `1024` (bytes). Raises ValueError for anything else."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("not a memory size")
    unit = (match["unit"] or "b").lower()
    return int(Decimal(match["number"]) * _UNITS[unit])


def format_memory(size: int) -> str:
    """The shortest exact text of a number of bytes: `8g`, `512m`, `1000b`."""
    if size < 0:
        raise ValueError("a memory size is not negative")
    for unit in ("g", "m", "k"):
        count, rest = divmod(size, _UNITS[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{size}b"
