"""Real Ray heads of plain `ray start`, each with its own temp dir and ports; ended by their own processes alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.bases import free_base, give_back
from ws.cluster.endpoint import Endpoint
from ws.cluster.protocol import Speaks, look
from ws.wait import NotYet, wait_for

BLOCK = (
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "runtime-env-agent",
    "metrics-export",
    "node-manager",
    "object-manager",
)
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}
ATTEMPTS = 6
"""Ray gives a node 30 s to start, which is not enough on a machine that is hard at work."""


class HeadEnded(Exception):
    """The head ended while it started."""


@dataclass(frozen=True)
class Head:
    """A head: `base` is its GCS port, the dashboard's is the next one, Ray Client's the one after."""

    base: int
    token: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def gcs(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.base)

    @property
    def dashboard(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.base + 1)

    @property
    def client(self) -> Endpoint:
        return Endpoint("127.0.0.1", self.base + 2)

    @property
    def temp_dir(self) -> Path:
        return self.folder / "ray"

    @property
    def session(self) -> str:
        return (self.temp_dir / "session_latest").readlink().name

    @property
    def gcs_process(self) -> psutil.Process:
        return next(process for process in self.family() if process.name() == "gcs_server")

    def await_answers(self) -> None:
        """Wait until all three speak and know of the node; raises HeadEnded where it has ended instead."""
        wanted = {self.gcs: Speaks.gcs, self.dashboard: Speaks.dashboard, self.client: Speaks.client}

        def all_speak() -> None:
            if self.process.poll() is not None:
                raise HeadEnded((self.folder / "log").read_text(errors="replace")[-3000:])
            for endpoint, speaks in wanted.items():
                found = asyncio.run(look(endpoint, self.token, timeout=5.0))
                if found.speaks is not speaks or not found.node_ids:
                    raise NotYet(str(found))

        wait_for("the head's ports", all_speak, timeout=180)

    def family(self) -> list[psutil.Process]:
        """Every process of it, by its folder or its Ray Client port in their arguments."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                argv = process.cmdline()
                text = " ".join(argv)
                serves_client = "ray.util.client.server" in argv and f"--port={self.base + 2}" in argv
                if str(self.folder) in text or serves_client:
                    found.append(process)
        return found

    def kill(self) -> None:
        """End every process of it at once, by SIGKILL, as a crash of the machine does; its files stay."""
        family = self.family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=30)


@contextmanager
def head(token: str = "") -> Iterator[Head]:
    """A head that is up, on a block of ports of its own; with a token, it asks for it."""
    base = free_base()
    # A short folder: the path of a socket in it may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ws-head-", ignore_cleanup_errors=True) as folder:
        started = _started(base, token, Path(folder))
        try:
            yield started
        finally:
            started.kill()
            give_back(base)


def _started(base: int, token: str, folder: Path) -> Head:
    for attempt in range(ATTEMPTS):
        own = folder / str(attempt)
        own.mkdir()
        trying = Head(base, token, own, _start(base, token, own))
        try:
            trying.await_answers()
        except HeadEnded as ended:
            trying.kill()
            last = ended
        except BaseException:
            trying.kill()
            raise
        else:
            return trying
    raise last


def _start(base: int, token: str, folder: Path) -> subprocess.Popen[bytes]:
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ports = [f"--{name}-port={base + 3 + place}" for place, name in enumerate(BLOCK)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                str(Path(sys.executable).parent / "ray"),
                *("start", "--head", "--block", f"--port={base}", f"--dashboard-port={base + 1}"),
                *(f"--ray-client-server-port={base + 2}", f"--temp-dir={folder}/ray", *ports),
                *(f"--min-worker-port={base + 20}", f"--max-worker-port={base + 99}"),
                *("--num-cpus=1", "--object-store-memory=80000000"),
            ],
            env={**inherited, **QUIET, **secret},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
