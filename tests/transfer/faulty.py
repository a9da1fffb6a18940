"""Whole transfers of a file along a chain of three, in the middle of which something happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from tests.transfer.parties import Cluster
from tests.transfer.processes import Processes
from ws.transfer import running
from ws.transfer.events import Event, Progress, Stream
from ws.transfer.onnode.hashing import digest_of
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.outcome import Outcome, Settings
from ws.transfer.targets import HERE

MIB = 1 << 20
CHUNK = 256 << 10
SENDER, FIRST, MIDDLE, LAST = NODES = [f"ray_node_{number}" for number in range(1, 5)]
RECIPIENTS = NODES[1:]


def give(cluster: Cluster | Processes, size: int = 6 * MIB, name: str = "a.bin") -> bytes:
    content = os.urandom(size)
    (cluster.root(SENDER) / name).write_bytes(content)
    return content


def send(
    cluster: Cluster | Processes,
    on_event: Callable[[Event], None] = lambda event: None,
    name: str = "a.bin",
    tid: str | None = None,
    source: str = SENDER,
    **options: Any,
) -> Outcome:
    """From the sender's folder; `source` HERE: by this machine, that nobody can dial."""
    settings = Settings(**{"fsync": False, "chunk_size": CHUNK, "plane": cluster.plane, **options})
    stream = Stream(on_event)
    path = str(cluster.root(SENDER) / name) if source == HERE else name
    return running.Transfer(cluster.party, (source, path), RECIPIENTS, settings, stream, tid=tid, retry_pause=0.01).run()


def in_the_middle(cluster: Cluster, fault: Callable[[str], None], recipient: str = FIRST) -> Callable[[Event], None]:
    """Calls `fault` once, with the transfer's id, when the recipient has something; what is left goes without a limit."""
    once = threading.Event()

    def take(event: Event) -> None:
        if isinstance(event, Progress) and event.recipient == recipient and event.done and not once.is_set():
            once.set()
            assert event.done < event.total
            fault(event.transfer)
            for node in RECIPIENTS:
                cluster.remotes[node].lift_limit(event.transfer)

    return take


SLOW: dict[str, Any] = {"limit": 6 * MIB}


def held(cluster: Cluster | Processes, name: str = "a.bin") -> dict[str, bytes | None]:
    """What each recipient has under the final name."""
    paths = {node: cluster.root(node) / name for node in RECIPIENTS}
    return {node: path.read_bytes() if path.exists() else None for node, path in paths.items()}


def left_over(cluster: Cluster) -> dict[str, list[str]]:
    """All that is at each recipient, folders included."""
    roots = {node: cluster.root(node) for node in RECIPIENTS}
    return {node: sorted(str(path.relative_to(root)) for path in root.rglob("*")) for node, root in roots.items()}


def assert_all_have(cluster: Cluster, outcome: Outcome, content: bytes) -> None:
    assert outcome.state == "done", outcome
    if cluster.plane != "auto":
        assert {receipt.plane for receipt in outcome.receipts.values()} == {cluster.plane}
    assert held(cluster) == dict.fromkeys(RECIPIENTS, content)
    assert left_over(cluster) == {node: ["a.bin"] for node in RECIPIENTS}
    hashes = b"".join(digest_of(outcome.algorithm, content[at : at + CHUNK]) for at in range(0, len(content), CHUNK))
    root = digest_of(outcome.algorithm, hashes).hex()
    assert {(receipt.algorithm, receipt.root_hash) for receipt in outcome.receipts.values()} == {(outcome.algorithm, root)}


def assert_only(cluster: Cluster, outcome: Outcome, failed: str, code: str, content: bytes) -> str:
    """One alone has failed, with that code; returns what it says."""
    assert outcome.state == "failed"
    assert {node: problem["code"] for node, problem in outcome.problems.items()} == {failed: code}
    assert held(cluster) == {node: None if node == failed else content for node in RECIPIENTS}
    return str(TransferProblem.from_dict(dict(outcome.problems[failed])))
