"""The entry that the test's worker is told to join by, as it was typed."""

from __future__ import annotations

from ws.config.plan import ClusterPlan
from ws.errors import UsageError

_PURPOSES = {"client": "the Ray Client port", "dashboard": "the dashboard's port"}


def parse_head(text: str, plan: ClusterPlan) -> str:
    """The entry `host:port`; raises UsageError for other text, and for a port of a candidate that is no entry to the GCS."""
    host, colon, port = text.strip().rpartition(":")
    if not (colon and host and "/" not in host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise UsageError(
            f"--head {text!r} is not host:port", f"entries: {entries(plan)}", f"for example --head {first_entry(plan)}"
        )
    for node in plan.candidates:
        for kind, purpose in _PURPOSES.items():
            if host == node.hostname and int(port) == getattr(node.entry, kind):
                raise UsageError(
                    f"{port} is {purpose} of {node.hostname}; the GCS entry is {node.hostname}:{node.entry.head}",
                    mend=f"--head {node.hostname}:{node.entry.head}",
                )
    return f"{host}:{int(port)}"


def entries(plan: ClusterPlan) -> str:
    """The candidates' entries, for people."""
    return ", ".join(f"{node.hostname}:{node.entry.head}" for node in plan.candidates) or "none in this config"


def first_entry(plan: ClusterPlan) -> str:
    return next((f"{node.hostname}:{node.entry.head}" for node in plan.candidates), "ray-cpu:6379")
