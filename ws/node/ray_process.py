"""One `ray start … --block`: start it, know when it is up, know when it has died, end all of it.

Ray starts a dozen processes that outlive their parents. We find them again by the session that `ray start` leads, and,
where a task of the user's has left that session, by the variable WS_NODE_INSTANCE in its environment (Ray's own
workers overwrite theirs with their process title). No process that has neither is ever touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from ws.node.settings import Settings

MARKER = "WS_NODE_INSTANCE"
_DEFAULTS = {
    # `ray status` shows a report that Ray's monitor makes anew every five seconds: too old to trust.
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    # Else one Ray Client connection in ten fails on a busy head: gRPC's fork handlers abort the child that should become
    # the client's server ("Starting Ray client server failed", with an empty log).
    # https://github.com/ray-project/ray/issues/63202
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}
_STARTED = "Ray runtime started"
# Seconds for the raylet to take leave of the GCS, then for the rest to end by itself; some of Ray's own processes never
# do, and none of them has anything to save.
_RAYLET_GRACE = 1.5
_REST_GRACE = 0.7
_TAIL_LINES = 30
# Without either of these a node is dead, though `ray start --block` may go on (it takes SIGTERM for an orderly end).
_VITAL = ("raylet", "gcs_server")
_DEAD = ("Z", "X")


def head_command(settings: Settings) -> list[str]:
    """The command line that starts this node as head; its name is its address (FACTS 2)."""
    return [
        *_common(settings),
        "--head",
        f"--port={settings.head_port}",
        f"--ray-client-server-port={settings.client_port}",
        f"--dashboard-host={settings.dashboard_host}",
        f"--dashboard-port={settings.dashboard_port}",
        *([f"--temp-dir={settings.temp_dir}"] if settings.temp_dir else []),
    ]


def worker_command(settings: Settings, head_address: str) -> list[str]:
    """The command line that starts this node as worker of the head at `head_address` (host:port)."""
    return [*_common(settings), f"--address={head_address}"]


def _common(settings: Settings) -> list[str]:
    flags = {
        "node-manager-port": settings.ports.get("node_manager"),
        "object-manager-port": settings.ports.get("object_manager"),
        "runtime-env-agent-port": settings.ports.get("runtime_env_agent"),
        "dashboard-agent-grpc-port": settings.ports.get("dashboard_agent_grpc"),
        "dashboard-agent-listen-port": settings.ports.get("dashboard_agent_listen"),
        "metrics-export-port": settings.ports.get("metrics_export"),
        "memory": settings.memory or None,
        "object-store-memory": settings.object_store_memory or None,
    }
    # Zero lets Ray take any free ports instead of its default range, which other programs' ports may lie in.
    first, last = settings.worker_ports or (0, 0)
    return [
        "ray",
        "start",
        "--block",
        "--disable-usage-stats",
        "--log-color=false",
        f"--node-name={settings.name}",
        f"--node-ip-address={settings.address}",
        f"--num-cpus={settings.num_cpus}",
        f"--num-gpus={settings.num_gpus}",
        f"--min-worker-port={first}",
        f"--max-worker-port={last}",
        *(f"--{flag}={value}" for flag, value in flags.items() if value is not None),
    ]


class RayProcess:
    """A running `ray start --block` and all that it started.

    `instance` marks its processes; `tail()` gives the last lines that it printed.
    """

    def __init__(self, command: Sequence[str], instance: str, environ: Mapping[str, str]) -> None:
        self.instance = instance
        self.started = threading.Event()
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._vital: list[int] = []
        executable = shutil.which(command[0], path=environ.get("PATH")) or command[0]
        # A session of its own, because Ray's reaper ends the whole process group that it is started in.
        self._process = subprocess.Popen(
            [executable, *command[1:]],
            env={**_DEFAULTS, **environ, MARKER: instance},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="ray output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line.rstrip())
                if _STARTED in line:
                    self._vital = [pid for pid, name in self._processes() if name in _VITAL]
                    self.started.set()

    def tail(self) -> list[str]:
        """The last lines that `ray start` printed, blank ones left out."""
        return [line for line in self._lines if line.strip()]

    def ended(self) -> str | None:
        """Why this node is dead, or None while it lives."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=1)
            return f"`ray start` ended with exit code {code}"
        for pid in self._vital:
            if not _alive(pid):
                return "a vital Ray process (raylet or GCS) has ended"
        return None

    def stop(self, politely: bool = True) -> None:
        """End every process of this node: politely for about two seconds, or at once."""
        if politely:
            # The raylet first: it tells the GCS that it leaves, so that nobody waits for a dead node.
            self._signal(signal.SIGTERM, only=("raylet",))
            self._await_end(time.monotonic() + _RAYLET_GRACE, only=("raylet",))
            self._signal(signal.SIGTERM)
            self._await_end(time.monotonic() + _REST_GRACE)
        while self._signal(signal.SIGKILL):
            self._await_end(time.monotonic() + 0.5)
        self._process.wait()

    def _await_end(self, deadline: float, only: Sequence[str] = ()) -> None:
        while time.monotonic() < deadline and any(not only or name in only for _, name in self._processes()):
            self._process.poll()
            time.sleep(0.05)  # other processes' ends can only be polled for

    def _signal(self, number: int, only: Sequence[str] = ()) -> int:
        sent = 0
        for pid, name in self._processes():
            if only and name not in only:
                continue
            try:
                os.kill(pid, number)
                sent += 1
            except (ProcessLookupError, PermissionError):
                pass  # gone meanwhile; or a program that runs as another user, which only its container's end can end
        return sent

    def _processes(self) -> list[tuple[int, str]]:
        return node_processes(self.instance, self._process.pid)


def node_processes(instance: str, session: int) -> list[tuple[int, str]]:
    """(pid, name) of each living process of a node: of its session, or with its mark. Read from /proc."""
    mark = f"{MARKER}={instance}".encode()
    found = []
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        state = _stat(pid)
        if state is None or state[1] in _DEAD:
            continue
        if state[2] == session or mark in _environ(pid):
            found.append((pid, state[0]))
    return found


def _stat(pid: int) -> tuple[str, str, int] | None:
    """(name, state letter, session id) of a process, or None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, rest = file.read().rpartition(")")
    except OSError:
        return None
    fields = rest.split()
    return head.partition("(")[2], fields[0], int(fields[3])


def _environ(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []  # gone meanwhile, or another user's


def _alive(pid: int) -> bool:
    state = _stat(pid)
    return state is not None and state[1] not in _DEAD
