"""`ws test` on a healthy cluster, again and again: every run must pass.

    python bench/verdict.py [RUNS]

Prints each run's verdict and seconds, and how long the run took beyond its start and Ray's health-check window. The cluster
is brought up once, with the default configuration in a folder of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import WS, machine, spread, timed, verdict

WINDOW = 65.0  # seconds; Ray's defaults: five checks, each with a period of 3 s and a timeout of 10 s


def one(folder: Path) -> tuple[float, dict[str, Any]]:
    """(seconds, report) of one run."""
    began = time.perf_counter()
    done = subprocess.run([*WS, "-C", str(folder), "test", "--json"], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if not done.stdout:
        raise SystemExit(done.stderr)
    return seconds, json.loads(done.stdout)


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    passed, whole, beyond = 0, [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed([*WS, "-C", name, "init"])
        timed([*WS, "-C", name, "up"])
        try:
            for number in range(runs):
                seconds, report = one(folder)
                start = next(scenario["seconds"] for scenario in report["scenarios"] if scenario["name"] == "start")
                passed += report["verdict"] == "pass"
                whole.append(seconds)
                beyond.append(report["seconds"] - start - WINDOW)
                print(f"run {number + 1}: {report['verdict']}, {seconds:.1f} s", file=sys.stderr)
                for scenario in report["scenarios"]:
                    for check in scenario["checks"]:
                        if check["verdict"] != "pass":
                            print(f"  {scenario['name']}: {check['what']}: {check['evidence']}", file=sys.stderr)
        finally:
            timed([*WS, "-C", name, "down"])
    print(f"{machine()}; {runs} runs, median (min to max), seconds")
    print(f"ws test, as a whole                 {spread(whole)}")
    print(f"beyond start and window             {spread(beyond)}")
    met = [
        verdict("runs that did not pass", runs - passed, 0),
        verdict("seconds beyond start and window, slowest", max(beyond), 15),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
