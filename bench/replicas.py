"""Twenty replicas of one CPU on this machine: all proven within 75 s, every run.

    python bench/replicas.py [RUNS]

Bare `docker compose up` of the same brings 2 of 20 up, ever: Ray gives a starting node 30 s, and twenty at once starve
each other. Here the gate lets as many start at a time as the host has cores.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from common import ROOT, WS, machine, spread, timed, verdict

LIMIT = 75.0


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        timed([*WS, "-C", folder, "init"])
        shutil.copy(ROOT / "examples" / "replicas-20.yaml", Path(folder) / "config.yaml")
        for run in range(runs):
            try:
                seconds.append(timed([*WS, "-C", folder, "up", "--timeout", "180"]))
            finally:
                timed([*WS, "-C", folder, "down"])
            print(f"run {run + 1}: {seconds[-1]:.1f} s", file=sys.stderr)
    print(f"{machine()}; 20 replicas of 1 CPU, {runs} runs; seconds to all proven: {spread(seconds)}")
    return 0 if verdict(f"slowest of {runs} runs, seconds", max(seconds), LIMIT) else 1


if __name__ == "__main__":
    sys.exit(main())
