"""Files between nodes of any Ray cluster, and between them and this machine; see docs/transfer.md.

`from ws.transfer import CastingNode` gives the actor class; Ray is imported by that line, and not before.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "CastingNode":
        from ws.transfer.onnode.casting import CastingNode

        return CastingNode
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
