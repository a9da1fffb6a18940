"""What the benches share: rounds, medians, tables."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WS = [sys.executable, "-m", "ws"]


def machine() -> str:
    """One line about the machine, for the table's head."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def timed(argv: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> float:
    """Seconds that a command takes; raises where it fails, with what it printed."""
    began = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


def spread(values: Sequence[float]) -> str:
    """`median (min to max)` in seconds."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios round by round, which holds where the machine's speed drifts."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def verdict(name: str, value: float, bar: float) -> bool:
    """Print one figure against its bar; returns whether it is met."""
    met = value <= bar
    print(f"{'✓' if met else '✗'} {name}: {value:.2f} (at most {bar:g})")
    return met
