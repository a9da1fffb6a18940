"""Events of a transfer that nobody runs."""

from __future__ import annotations

from typing import Any

from ws.transfer.events import (
    Event,
    Finished,
    Planned,
    Progress,
    Receipt,
    RecipientDone,
    RecipientFailed,
    Retry,
    Route,
    Started,
)

ID = "0123456789abcdef0123456789abcdef"
MIB = 1 << 20
PROBLEM = {
    "code": "no-space",
    "what": "no space on /data",
    "why": "needs 4.0 GiB, 1.2 GiB free",
    "mend": "free 2.8 GiB there",
}


def started(transfer: str = ID, **fields: Any) -> Started:
    values: dict[str, Any] = {
        "source": "here:/home/me/model.bin",
        "recipients": ("ray_node_2", "ray_node_3"),
        "size": 100 * MIB,
        "files": 1,
        "chunks": 13,
        "algorithm": "sha256",
        "options": {"command": "send", "recipients": ["ray_node_2", "ray_node_3"]},
        **fields,
    }
    return Started(transfer=transfer, **values)


def planned(transfer: str = ID) -> Planned:
    routes = (
        Route("ray_node_2", "stream", "its port answers", ("here", "ray_node_2"), "ray-gpu"),
        Route("ray_node_3", "ray", "no port of it answers", ("here", "ray_node_3"), "ray-cpu"),
    )
    return Planned(transfer=transfer, routes=routes)


def progress(done: int, recipient: str = "ray_node_2", transfer: str = ID, **fields: Any) -> Progress:
    return Progress(transfer=transfer, recipient=recipient, done=done, total=100 * MIB, **fields)


def receipt(**fields: Any) -> Receipt:
    values: dict[str, Any] = {"place": "/home/ray/data/model.bin", "path": ("here", "ray_node_2"), "chunks": 13, **fields}
    return Receipt(root_hash="ab" * 32, bytes=100 * MIB, seconds=2.0, plane="stream", **values)


def whole(transfer: str = ID) -> list[Event]:
    """One recipient gets it, the other's disk is full."""
    return [
        started(transfer),
        planned(transfer),
        progress(0, transfer=transfer),
        progress(50 * MIB, transfer=transfer, rate=50.0 * MIB, eta=1.0),
        Retry(transfer=transfer, recipient="ray_node_2", attempt=1, why="the link was cut", pause=0.5),
        RecipientFailed(transfer=transfer, recipient="ray_node_3", problem=PROBLEM),
        RecipientDone(transfer=transfer, recipient="ray_node_2", receipt=receipt(retries=1)),
        Finished(
            transfer=transfer,
            state="failed",
            bytes=100 * MIB,
            seconds=2.0,
            rate=50.0 * MIB,
            root_hash="ab" * 32,
            algorithm="sha256",
            retries=1,
            done=("ray_node_2",),
            failed=("ray_node_3",),
        ),
    ]
