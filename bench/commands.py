"""How quick the commands are that people type often: `ws --help` and `ws status`.

    python bench/commands.py [ROUNDS]

`ws status` is compared with `ray status` against the same cluster, which this bench brings up as local processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from common import WS, machine, ratio, spread, timed, verdict


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{machine()}; {rounds} rounds, interleaved; median (min to max), seconds")
    script = str(Path(sys.executable).with_name("ws"))
    imports = [sys.executable, "-c", "import typer, rich"]
    met = [compare("ws --help", [script, "--help"], "import typer, rich", imports, 2.0, rounds)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WS_SERVICES__HEALTH__PORT"] = "28080"
        # The flags of `up` belong to one run; the config tells the later commands the same.
        os.environ["WS_SERVICES__RAY__CPU__HEAD_PORT"] = "26379"
        os.environ["WS_SERVICES__RAY__CPU__DASHBOARD_PORT"] = "28265"
        os.environ["WS_SERVICES__RAY__CPU__CLIENT_PORT"] = "20001"
        project = [*WS, "-C", folder]
        timed([*project, "up", "--engine", "local"])
        try:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=f"{folder}/.ws/token")
            ray = [str(Path(sys.executable).with_name("ray")), "status", "--address", "127.0.0.1:26379"]
            met.append(compare("ws status", [*project, "status"], "ray status", ray, 1.5, rounds))
        finally:
            timed([*project, "down"])
    return 0 if all(met) else 1


def compare(name: str, ours: list[str], peer: str, theirs: list[str], bar: float, rounds: int) -> bool:
    a, b = [], []
    timed(ours), timed(theirs)
    for _ in range(rounds):
        a.append(timed(ours))
        b.append(timed(theirs))
    print(f"{name:<28}{spread(a)}\n{peer:<28}{spread(b)}")
    return verdict(f"{name} / {peer}", ratio(a, b), bar)


if __name__ == "__main__":
    sys.exit(main())
