"""Logs of several nodes as one stream."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ws.engine.base import Engine, Project

_WAITING_LINES = 10_000
_KEPT_RUNS = 10


def new_log_folder(state: Path) -> Path:
    """A fresh folder under `.ws/logs` for the logs of a run that ends; `latest` leads to it, the oldest ones go."""
    root = state / "logs"
    folder = root / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    latest = root / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name)
    runs = sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
    for old in runs[:-_KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def merged(
    engine: Engine, project: Project, names: Sequence[str], *, tail: int | None, follow: bool
) -> Iterator[tuple[str, str]]:
    """(node, line) of each line; one node after the other, or, when following, as they come."""
    if not follow:
        for name in names:
            for line in engine.logs(project, name, tail=tail):
                yield name, line
        return
    lines: queue.Queue[tuple[str, str | None]] = queue.Queue(_WAITING_LINES)

    def read(name: str) -> None:
        try:
            for line in engine.logs(project, name, tail=tail, follow=True):
                lines.put((name, line))
        finally:
            lines.put((name, None))

    for name in names:
        threading.Thread(target=read, args=(name,), name=f"log of {name}", daemon=True).start()
    open_logs = len(names)
    while open_logs:
        source, found = lines.get()
        if found is None:
            open_logs -= 1
        else:
            yield source, found
