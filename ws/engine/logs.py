"""Logs of several nodes as one stream."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence

from ws.engine.base import Engine, Project

_WAITING_LINES = 10_000


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
