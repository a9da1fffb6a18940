"""The agent's log: lines for people, with marks that scripts can look for."""

from __future__ import annotations

import sys
import threading
import time

_lock = threading.Lock()

STEP, GOOD, BAD = "→", "✓", "✗"


def say(text: str, mark: str = "") -> None:
    """Print one line: time of day, mark, text. Lines of several threads never mix."""
    prefix = f"{mark} " if mark else ""
    with _lock:
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {prefix}{text}\n")
        sys.stdout.flush()


def plain(text: str) -> None:
    """Print a line that scripts grep for, without time or mark."""
    with _lock:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
