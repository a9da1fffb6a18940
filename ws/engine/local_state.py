"""What the local engine keeps on disk: logs and exit codes in `<project>/.ws/local`, Ray's files in /tmp."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ws.engine.base import Project
from ws.engine.token import ensure_token
from ws.errors import EnvironmentProblem

KILLED = 137
_FOLLOW_INTERVAL = 0.2


def cluster_id(folder: Path) -> str:
    """The mark of a project folder's cluster, the same by whichever path the folder is reached."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]


def temp_folder(folder: Path) -> Path:
    """Ray's files of all nodes; short, because the path of a socket in it may have 107 bytes at most."""
    return Path(f"/tmp/ws-{os.getuid()}-{cluster_id(folder)[:8]}")  # noqa: S108, private by `make_private`


class LocalState:
    """The files of one project's cluster. `prepare` makes their folders, `remove` leaves only the logs."""

    def __init__(self, project: Project) -> None:
        self.folder = (project.state / "local").resolve()
        self.health = self.folder / "health"
        self._logs = self.folder / "logs"
        self._token_path = project.token_path
        self._temp = temp_folder(project.folder)

    def prepare(self) -> None:
        ensure_token(self._token_path)
        self._logs.mkdir(parents=True, exist_ok=True)
        make_private(self._temp)

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def logged(self) -> list[str]:
        """The names that there is a log of."""
        return sorted(path.stem for path in self._logs.glob("*.log"))

    def record(self, name: str) -> Path:
        return self.folder / f"{name}.exit"

    def recorded(self) -> list[str]:
        """The names of all that was started, ended or not."""
        return [path.stem for path in self.folder.glob("*.exit")]

    def exit_code(self, name: str) -> int:
        """What the wrapper wrote; where it could not, it was killed with its agent, or the machine was."""
        try:
            return int(self.record(name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return KILLED

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One `up` or `down` at a time. The lock ends with its process, however that ends."""
        if not self.folder.exists():
            yield
            return
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def remove(self) -> list[str]:
        """Remove all but the logs; returns what could not be removed, in words."""
        failures = []
        for path in (*self.folder.glob("*.exit"), self.health, self._temp):
            try:
                path.unlink() if path.is_file() else shutil.rmtree(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                failures.append(f"{path}: {error.strerror or error}")
        return failures


def make_private(folder: Path) -> None:
    """Make a folder that is this user's alone; raises where somebody else was there first."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EnvironmentProblem(f"{folder} is not a private folder of this user", mend=f"remove {folder}")


def skip_to_tail(file: BinaryIO, tail: int | None) -> None:
    """Move to the last `tail` lines; None: leave the file at its beginning."""
    if tail is None:
        return
    lines = file.readlines()
    file.seek(sum(len(line) for line in lines[: max(0, len(lines) - tail)]))


def read_lines(file: BinaryIO, grows: Callable[[], bool]) -> Iterator[str]:
    """Every line that is there, and those that come as long as the file `grows`."""
    rest = b""
    while True:
        goes_on = grows()  # asked before reading, so that the last lines are read, too
        for piece in file:
            rest += piece
            if rest.endswith(b"\n"):
                yield rest[:-1].decode(errors="replace")
                rest = b""
        if not goes_on:
            break
        time.sleep(_FOLLOW_INTERVAL)
    if rest:
        yield rest.decode(errors="replace")
