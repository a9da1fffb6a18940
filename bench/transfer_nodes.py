"""Containers for bench/transfer.py: a real cluster of its own, a shell in each node, and what a run costs there."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from common import WS, timed

IMAGE = "cslr-exp-platform/bench:latest"
"""The node image with the peers in it, from tools/get-peers: all run in the very same containers."""
PROJECT = "ws-test-33"
BASE, SUBNET, TEST_SUBNET = 23300, "172.26.132.0/24", "172.26.133.0/24"
"""Number 33 among the sandboxes of tests/clusters.py, so that nothing collides."""
CLIENT_PORT = BASE + 93
DATA = "/home/ray/data"
SAMPLE_EVERY = 0.1
"""Seconds between two looks at a node's memory; one node after the other, for the kernel adds up anew at each look."""

CONFIG = """
project: {{name: {name}}}
network: {{name: {name}-net, subnet: {subnet}, port_base: {base}, publish_blocks: {publish}}}
nodes: {{head_whitelist: [ray-cpu]}}
services:
  health: {{port: {health}}}
  ray:
    image: {image}
    gpu_image: {image}
    cpu:
      {{cpus: {cpus}, memory: {memory}, replicas: {replicas},
        head_port: {head}, dashboard_port: {dashboard}, client_port: {client}}}
cluster_test:
  enabled: {test}
  network: {{name: {name}-test, subnet: {test_subnet}}}
  worker: {{memory: {memory}}}
"""
# Runs in a node: a script a line comes in as JSON, its exit code and output go out.
SHELL = """
import json, subprocess, sys
for line in sys.stdin:
    argv = ["bash", "-c", json.loads(line)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    print(json.dumps([done.returncode, done.stdout + done.stderr]), flush=True)
"""


class Node:
    """One container, with a shell that stays open: `docker exec` for each command would cost more than some commands."""

    def __init__(self, container: str) -> None:
        self.container = container
        asked = "{{.State.Pid}} {{.Config.Hostname}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        pid, self.hostname, self.address = said("docker", "inspect", "--format", asked, container).split()
        self.pid = int(pid)
        self._cpu, self._memory = _cgroup(self.pid, "cpuacct"), _cgroup(self.pid, "memory")
        argv = ["docker", "exec", "-i", "-u", "ray", "-w", "/home/ray", container, "python3", "-u", "-c", SHELL]
        self._shell = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, script: str) -> None:
        """Begin a bash script; one at a time."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(json.dumps(script) + "\n")
        self._shell.stdin.flush()

    def finish(self, name: str = "a script") -> str:
        """What the script printed, both streams; an error ends the bench with it."""
        assert self._shell.stdout is not None
        line = self._shell.stdout.readline()
        if not line:
            raise SystemExit(f"{self.container} is gone")
        code, output = json.loads(line)
        if code:
            raise SystemExit(f"{name} in {self.container} ended with {code}:\n{output}")
        return str(output).strip()

    def run(self, script: str) -> str:
        self.start(script)
        return self.finish(script)

    def has(self, command: str) -> bool:
        return bool(self.run(f"command -v {command} || true"))

    def as_root(self, script: str) -> None:
        """In the container, by its root, for what the user `ray` may not do."""
        said("docker", "exec", "-u", "root", self.container, "bash", "-c", script)

    def in_network(self, *argv: str) -> str:
        """A command of this machine, as its root, in the container's network namespace."""
        return said("nsenter", "--target", str(self.pid), "--net", *argv)

    def use_new_disk(self, image: Path, files: int) -> None:
        """DATA on an ext4 of its own, with room for so many small files, until the container goes.

        For each new file ext4 goes through the inodes freed near it in the last minutes: 10,000 files that went, of
        whatever ran here before, make 10,000 new ones five times as slow, whoever writes them.
        """
        said("truncate", "--size", str((64 << 20) + files * 8192), str(image))
        said("mkfs.ext4", "-q", "-N", str(files), "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        device = said("losetup", "--find", "--show", str(image))
        try:
            number = " ".join(said("stat", "--format", "%Hr %Lr", device).split())
            script = f"mknod /tmp/disk b {number} && mount /tmp/disk {DATA} && mkdir {DATA}/in && chown ray {DATA} {DATA}/in"
            said("nsenter", "--target", str(self.pid), "--mount", "sh", "-c", script)
        finally:
            said("losetup", "--detach", device)  # as soon as nothing has it mounted

    def cpu_seconds(self) -> float:
        """Used by everything in the container since it started."""
        usage = self._cpu / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        return _stat(self._cpu / "cpu.stat")["usage_usec"] / 1e6

    def memory(self) -> int:
        """Bytes of anonymous and shared memory in the container; files in the page cache are not counted."""
        stat = _stat(self._memory / "memory.stat")
        return stat.get("total_rss", stat.get("anon", 0)) + stat.get("total_shmem", stat.get("shmem", 0))

    def close(self) -> None:
        """What still runs there ends with the container."""
        self._shell.kill()
        self._shell.communicate()


@dataclass
class Figures:
    """What the runs of one tool took, in the order of the rounds. Memory is the highest of any run and node, in bytes."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: int = 0


def measure(figures: Figures, nodes: Sequence[Node], action: Callable[[], Any], counts: bool = True) -> None:
    """Add one run. CPU is that of all the nodes and of this process, which coordinates ours; memory what a node grew by.

    An `action` that returns a number has timed itself. A run that does not count (a round to warm up) still adds to
    memory: Ray's object store keeps the pages that it once touched.
    """
    idle = [node.memory() for node in nodes]
    used, ended = [0] * len(nodes), threading.Event()

    def sample() -> None:
        for index in cycle(range(len(nodes))):
            if ended.wait(SAMPLE_EVERY):
                return
            used[index] = max(used[index], nodes[index].memory() - idle[index])

    sampler = threading.Thread(target=sample)
    cpu = _cpu(nodes)
    began = time.perf_counter()
    sampler.start()
    try:
        told = action()
        seconds = time.perf_counter() - began
        cpu = _cpu(nodes) - cpu
    finally:
        ended.set()
        sampler.join()
    figures.memory = max(figures.memory, *used)
    if counts:
        figures.seconds.append(told if isinstance(told, float) else seconds)
        figures.cpu.append(cpu)


@contextmanager
def cluster(folder: Path, replicas: int, cpus: int, memory: str, outside: bool) -> Iterator[list[Node]]:
    """The nodes of a running cluster, the head first. `outside`: with a worker in the test network, which comes last.

    `folder` is that of the one before, if any: Ray keeps the token that it once read for the life of this process.
    """
    if not said("docker", "image", "ls", "-q", IMAGE):
        raise SystemExit(f"there is no {IMAGE} here: tools/get-peers")
    (folder / "config.yaml").write_text(_config(replicas, cpus, memory, outside))
    ws = [*WS, "-C", str(folder)]
    nodes: list[Node] = []
    try:
        timed([*ws, "up"])
        wanted = [f"{PROJECT}-ray-cpu" + (f"-{number}" if number > 1 else "") for number in range(1, replicas + 1)]
        if outside:
            timed([*ws, "test", "--up"])
            wanted.append(f"{PROJECT}-test-worker")
        nodes.extend(map(Node, wanted))
        for node in nodes:
            node.run(f"mkdir -p {DATA}/in")
        yield nodes
    finally:
        for node in nodes:
            node.close()
        for command in (["test", "--down"], ["down"]) if outside else (["down"],):
            try:
                timed([*ws, *command])
            except SystemExit as problem:  # what ended the bench is to be seen, not this
                note(str(problem))


def _config(replicas: int, cpus: int, memory: str, outside: bool) -> str:
    return CONFIG.format(
        name=PROJECT,
        subnet=SUBNET,
        test_subnet=TEST_SUBNET,
        base=BASE,
        publish="gateway" if outside else "none",
        health=BASE + 90,
        head=BASE + 91,
        dashboard=BASE + 92,
        client=CLIENT_PORT,
        image=IMAGE,
        cpus=cpus,
        memory=memory,
        replicas=replicas,
        test=str(outside).lower(),
    )


def said(*argv: str) -> str:
    """What a command of this machine printed; an error ends the bench with it."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def _cgroup(pid: int, controller: str) -> Path:
    """The folder of a process's control group: one for each controller, or one for all (version 2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        root = Path("/sys/fs/cgroup") / (controller if controllers else "")
        if controller in controllers.split(",") or (not controllers and (root / "cgroup.controllers").exists()):
            return root / path.lstrip("/")
    raise SystemExit(f"no control group {controller} of process {pid}; the bench needs this machine's root")


def _stat(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


def _cpu(nodes: Sequence[Node]) -> float:
    here = resource.getrusage(resource.RUSAGE_SELF)
    return sum(node.cpu_seconds() for node in nodes) + here.ru_utime + here.ru_stime


def note(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)
