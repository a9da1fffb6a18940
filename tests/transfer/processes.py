"""Parties that are processes: killed, stopped and started anew as actors are; over real TCP and real files."""

from __future__ import annotations

import itertools
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.transfer.party_process import COUNTS
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.remote import Remote, algorithms_of, answer_of

REPOSITORY = Path(__file__).parents[2]


class ProcessRemote:
    """A `Remote` whose party is a process. `on_held` is called, once, when it has come to where it was told to hold."""

    name = ""
    actor: Any = None

    def __init__(self, party_id: str, root: Path, counts: Path, *lacking: str) -> None:
        self.id = party_id
        self.addresses: list[list[Any]] = []
        self.algorithms: frozenset[str] = frozenset()
        self.on_held: Callable[[], None] = lambda: None
        self.dead = False
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        command = [sys.executable, "-m", "tests.transfer.party_process", party_id, str(root), str(counts), *lacking]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, name=f"answers of {party_id}")
        self._reader.start()
        self._started = self.call("start")

    def ready(self) -> ProcessRemote:
        about = answer_of(self._started.result(60), self.id)
        self.addresses, self.algorithms = about["addresses"], algorithms_of(about)
        return self

    def call(self, method: str, *args: Any) -> Future[Any]:
        told: Future[Any] = Future()
        assert self.process.stdin
        with self._lock:
            if self.dead:
                raise ConnectionError("the process died")
            number = next(self._numbers)
            self._waiting[number] = told
            with suppress(BrokenPipeError):  # it has just died; the reader says so to all that wait
                pickle.dump((number, method, args), self.process.stdin)
                self.process.stdin.flush()
        return told

    def _read(self) -> None:
        assert self.process.stdout
        with suppress(EOFError, pickle.UnpicklingError):
            while True:
                number, answer = pickle.load(self.process.stdout)
                if number < 0:
                    self.on_held()
                else:
                    self._waiting.pop(number).set_result(answer)
        with self._lock:
            self.dead = True
        for told in self._waiting.values():
            told.set_exception(ConnectionError("the process died"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def memory(self) -> int:
        """The most that it ever had since `forget_peak`, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def forget_peak(self) -> int:
        """From now on `memory` is that of what follows; returns what it has."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory()

    def close(self) -> None:
        self.kill()
        self._reader.join()
        assert self.process.stdin
        assert self.process.stdout
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


class Processes:
    """As a `Session`: each node is a process with a folder of its own as root."""

    plane = "auto"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remotes: dict[str, ProcessRemote] = {}
        self.gone: set[str] = set()
        self.without_blake3: set[str] = set()
        self._all: list[ProcessRemote] = []
        self._lock = threading.Lock()

    def root(self, node: str) -> Path:
        root = self.folder / node
        root.mkdir(exist_ok=True)
        return root

    def start(self, nodes: Iterable[str]) -> None:
        """Those that do not run, all at once."""
        for remote in [self._begin(node) for node in nodes if node not in self.remotes or self.remotes[node].dead]:
            remote.ready()

    def party(self, party_id: str, fresh: bool = False) -> Remote:
        with self._lock:
            if party_id in self.gone:
                raise TransferProblem(LOST, f"{party_id} is not there")
            known = self.remotes.get(party_id)
            if known is None or (fresh and known.dead):
                known = self._begin(party_id).ready()
            return known

    def counts(self, node: str) -> tuple[int, int]:
        """Bytes that it has taken and given, in all its lives."""
        taken, given = COUNTS.unpack(self._counts(node).read_bytes())
        return taken, given

    def _counts(self, node: str) -> Path:
        return self.folder / f"{node}.counts"

    def _begin(self, node: str) -> ProcessRemote:
        counts = self._counts(node)
        if not counts.exists():
            counts.write_bytes(COUNTS.pack(0, 0))
        lacking = ["blake3"] if node in self.without_blake3 else []
        remote = self.remotes[node] = ProcessRemote(node, self.root(node), counts, *lacking)
        self._all.append(remote)
        return remote

    def close(self) -> None:
        for remote in self._all:
            remote.close()
