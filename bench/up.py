"""`ws up` to proven, against the same two nodes by bare `docker compose up` and `ray start` to both alive.

    python bench/up.py [ROUNDS]

Interleaved rounds, medians, the ratio round by round. The bare side has no token, no election, no proof, and publishes
the head's three ports alone. Its end is told twice: when the GCS knows two living nodes, watched by one cheap process in
the head, which is the bar; and when `ray status` shows them, which is how a user sees it, and which `ws up` waits for, too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from common import WS, machine, ratio, spread, timed, verdict

IMAGE = f"rayproject/ray:{version('ray')}-py{sys.version_info.major}{sys.version_info.minor}"
BARE = f"""
name: bench-bare
services:
  ray-cpu:
    image: {IMAGE}
    hostname: ray-cpu
    shm_size: 2560m
    command: [ray, start, --head, --port=6379, --dashboard-host=0.0.0.0, --num-cpus=4, --block]
    ports: ["127.0.0.1:6379:6379", "127.0.0.1:8265:8265", "127.0.0.1:10001:10001"]
  ray-gpu:
    image: {IMAGE}
    hostname: ray-gpu
    shm_size: 2560m
    command: [ray, start, --address=ray-cpu:6379, --num-cpus=4, --block]
    depends_on: [ray-cpu]
"""
WATCHER = """
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", 6379), 1).close()
        break
    except OSError:
        time.sleep(0.1)
from ray._raylet import GcsClient
while True:
    try:
        client = GcsClient(address="127.0.0.1:6379")
        while sum(node.state == 0 for node in client.get_all_node_info().values()) < 2:
            time.sleep(0.1)
        break
    except Exception:
        time.sleep(0.1)
print("alive", flush=True)
import subprocess
while subprocess.run(["ray", "status"], capture_output=True, text=True).stdout.count(" 1 node_") < 2:
    time.sleep(0.2)
"""


def bare(folder: Path) -> tuple[float, float, float]:
    """Seconds to both alive at the GCS, to both shown by `ray status`, and of `docker compose down`."""
    (folder / "compose.yaml").write_text(BARE)
    began = time.perf_counter()
    timed(["docker", "compose", "up", "--detach"], folder)
    argv = ["docker", "exec", "-i", "bench-bare-ray-cpu-1", "python3", "-c", WATCHER]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline().strip() == "alive"
        alive = time.perf_counter() - began
    return alive, time.perf_counter() - began, timed(["docker", "compose", "down"], folder)


def ours(folder: Path) -> tuple[float, float]:
    """(seconds of `ws up`, seconds of `ws down`)."""
    return timed([*WS, "-C", str(folder), "up"]), timed([*WS, "-C", str(folder), "down"])


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    up: list[tuple[float, float]] = []
    plain: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        timed([*WS, "-C", one, "init"])
        for number in range(rounds):
            up.append(ours(Path(one)))
            plain.append(bare(Path(two)))
            print(f"round {number + 1}: ws up {up[-1][0]:.2f} s, bare {plain[-1][0]:.2f} s", file=sys.stderr)
    print(f"{machine()}; {rounds} rounds, interleaved; median (min to max), seconds")
    print(f"ws up, proof included       {spread([a for a, _ in up])}")
    print(f"bare, both alive            {spread([a for a, _, _ in plain])}")
    print(f"bare, shown by ray status   {spread([b for _, b, _ in plain])}")
    print(f"ws down                     {spread([b for _, b in up])}")
    print(f"bare docker compose down    {spread([c for _, _, c in plain])}")
    shown = ratio([a for a, _ in up], [b for _, b, _ in plain])
    print(f"  ws up / bare shown by ray status: {shown:.2f}")
    met = [
        verdict("ws up / bare, both alive", ratio([a for a, _ in up], [a for a, _, _ in plain]), 1.25),
        verdict("ws down, slowest, seconds", max(b for _, b in up), 6),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
