"""Real Ray nodes as processes of this machine, started by plain `ray start`, as anybody would; ended by pid alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.cluster.bases import free_base, give_back
from tests.node.stage import soon
from tests.plain_ray import plain_ray_environ
from ws.cluster.dashboard import Dashboard
from ws.errors import EnvironmentProblem

RAY = str(Path(sys.executable).with_name("ray"))


class RayNodeHere:
    """One `ray start --block` and all that it started."""

    def __init__(self, argv: list[str], environ: dict[str, str], log: Path) -> None:
        self._argv, self._environ, self._log = argv, environ, log
        self._killed = False
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self._argv, env=self._environ, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        return self._process.pid

    def revive(self) -> None:
        """Start it again where it gave up by itself: Ray allows 30 s, which a busy machine may not have."""
        if not self._killed and self._process.poll() is not None:
            self._start()

    def kill(self, program: str = "") -> None:
        """SIGKILL for everything of this node, or for the one program (raylet, gcs_server) alone."""
        self._killed = True
        try:
            processes = [psutil.Process(self._process.pid)]
            processes += processes[0].children(recursive=True)
        except psutil.NoSuchProcess:
            processes = []
        for process in processes:
            try:
                if not program or Path((process.cmdline() or [""])[0]).name == program:
                    process.kill()
            except psutil.NoSuchProcess:
                continue
        if not program:
            psutil.wait_procs(processes, timeout=20)
            self._process.wait(20)


class RayHere:
    """A head and its workers. Ports: `base` GCS, +1 dashboard, +2 Ray Client, from +20 workers'."""

    def __init__(self, token: str = "") -> None:
        self.base = free_base()
        self.folder = Path(tempfile.mkdtemp(prefix="ws-t-"))
        self.nodes: list[RayNodeHere] = []
        self._token = token
        self._started = 0

    @property
    def gcs(self) -> str:
        return f"127.0.0.1:{self.base}"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.base + 1}"

    @property
    def client(self) -> str:
        return f"ray://127.0.0.1:{self.base + 2}"

    def start_head(self, *flags: str) -> RayNodeHere:
        return self._start(
            "--head",
            f"--port={self.base}",
            f"--dashboard-port={self.base + 1}",
            f"--ray-client-server-port={self.base + 2}",
            "--include-dashboard=true",
            f"--temp-dir={self.folder}",
            *flags,
        )

    def start_worker(self, *flags: str) -> RayNodeHere:
        return self._start(f"--address={self.gcs}", *flags)

    def _start(self, *flags: str) -> RayNodeHere:
        self._started += 1
        cpus = [] if any(flag.startswith("--num-cpus") for flag in flags) else ["--num-cpus=1"]
        common = [*cpus, "--block", "--disable-usage-stats", "--object-store-memory=80000000"]
        ports = [f"--min-worker-port={self.base + 20}", f"--max-worker-port={self.base + 98}"]
        # Said in so many words: a token in the home folder would turn it on.
        mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token} if self._token else {"RAY_AUTH_MODE": "disabled"}
        environ = plain_ray_environ(**mode)
        log = self.folder / f"start-{self._started}.log"
        node = RayNodeHere([RAY, "start", *common, *ports, *flags], environ, log)
        self.nodes.append(node)
        return node

    def await_alive(self, count: int, timeout: float = 240.0) -> None:
        """Wait until the dashboard shows so many living nodes."""
        board = Dashboard(self.dashboard, self._token)

        def there() -> bool:
            for node in self.nodes:
                node.revive()
            try:
                return sum(node.alive for node in board.nodes()) >= count
            except EnvironmentProblem:
                return False

        soon(f"{count} nodes of {self.dashboard}", there, timeout)
        board.close()

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        give_back(self.base)
