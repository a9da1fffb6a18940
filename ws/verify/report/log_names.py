"""Where the log of each node lies in the run folder."""

from __future__ import annotations

import re
from collections.abc import Iterable


def log_names(nodes: Iterable[str]) -> dict[str, str]:
    """`logs/NAME.log` for each node, in order; what is no part of a file's name becomes `_`, and no two are the same."""
    paths: dict[str, str] = {}
    for node in nodes:
        stem = path = re.sub(r"[^A-Za-z0-9._-]", "_", node)
        number = 2
        while f"logs/{path}.log" in paths.values():
            path, number = f"{stem}-{number}", number + 1
        paths[node] = f"logs/{path}.log"
    return paths
