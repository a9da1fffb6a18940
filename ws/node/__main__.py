"""`python3 …/ws/node/__main__.py agent|health|look`: the way in, wherever the folder `ws/node` lies."""

from __future__ import annotations

import sys
from importlib import import_module, util
from pathlib import Path

PROGRAMS = ("agent", "health", "look")


def _make_importable() -> None:
    """Let `import ws.node` find this folder. Its own folder leaves the path: its modules are not top-level ones."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    try:
        found = util.find_spec("ws.node")
    except ModuleNotFoundError:
        found = None
    if found is None:
        sys.path.insert(0, str(here.parent.parent))


def main(arguments: list[str]) -> int:
    """Run one program; the answer is its exit code, 2 for a wrong call."""
    if len(arguments) != 1 or arguments[0] not in PROGRAMS:
        print(f"usage: python3 {sys.argv[0]} {'|'.join(PROGRAMS)}", file=sys.stderr)
        return 2
    _make_importable()
    return int(import_module(f"ws.node.{arguments[0]}").main() or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
