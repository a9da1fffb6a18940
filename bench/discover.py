"""How long a whole scan takes: on a machine without clusters, and with three, one of which wants a token.

    python bench/discover.py [ROUNDS]

Each round is a `ws discover --json` of its own, so that imports count. Where this may be done (root, Linux, `unshare` and
`ip`), the bench runs in network and process namespaces of its own, where no cluster of anybody else is in sight.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import WS, machine, spread, verdict

from tests.cluster.heads import head

ISOLATED = "WS_BENCH_ISOLATED"
CLUSTERS = 3


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    isolate()
    load = os.getloadavg()[0]
    print(f"{machine()}; load {load:.1f}; {rounds} rounds; median (min to max), seconds")
    met = [measure("no cluster", 0, rounds, 1.0)]
    with ExitStack() as stack:
        for place in range(CLUSTERS):
            stack.enter_context(head("0123456789abcdef" * 2 if place == 2 else ""))
        met.append(measure("three clusters", CLUSTERS, rounds, 2.0))
    return 0 if all(met) else 1


def measure(name: str, clusters: int, rounds: int, bar: float) -> bool:
    scans, commands, all_there = [], [], True
    for _ in range(rounds):
        began = time.perf_counter()
        done = subprocess.run([*WS, "discover", "--json"], capture_output=True, text=True, check=True)
        commands.append(time.perf_counter() - began)
        found = json.loads(done.stdout)
        alive = sum(cluster["alive"] for cluster in found["clusters"])
        if alive != clusters:  # one of others, or one of ours that a machine hard at work has killed
            all_there = False
            print(f"! {alive} clusters are alive here, not {clusters}; {'; '.join(found['problems'])}")
        scans.append(found["seconds"])
    print(f"{name + ', scan':<30}{spread(scans)}\n{name + ', whole command':<30}{spread(commands)}")
    return verdict(f"{name}, scan", statistics.median(scans), bar) and all_there


def isolate() -> None:
    """Run again in namespaces of our own, once, where that is allowed."""
    tools = [shutil.which(tool) for tool in ("unshare", "ip")]
    if os.environ.get(ISOLATED) or os.getuid() != 0 or not all(tools):
        return
    own = ["unshare", "--net", "--pid", "--fork", "--mount", "--mount-proc"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        return
    # The Docker daemon is not in them, and neither is what it publishes.
    environ = {**os.environ, ISOLATED: "1", "DOCKER_HOST": "unix:///nonexistent", "RAY_TMPDIR": "/nonexistent"}
    script = 'ip link set lo up && mount -t tmpfs none /tmp && exec "$@"'
    os.execvpe("unshare", [*own, "sh", "-c", script, "sh", sys.executable, *sys.argv], environ)


if __name__ == "__main__":
    sys.exit(main())
