"""A file through NAT by each plane: a worker in a network of its own reaches the published ports, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters import Sandbox, docker

pytestmark = [pytest.mark.docker, pytest.mark.long]
MIB = 1 << 20
WORKER = "test-ray-worker"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox.make(tmp_path_factory.mktemp("nat"), 37)
    try:
        sandbox.ws("up")
        sandbox.ws("test", "--up")
        yield sandbox
    finally:
        sandbox.ws("test", "--down")
        sandbox.ws("down")


def receipts(cluster: Sandbox, *arguments: str) -> dict[str, dict[str, Any]]:
    done = cluster.ws(
        *arguments, "--json", f"--token-file={cluster.token_path}", env={"WS_STATE": str(cluster.folder / "state")}
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    names = {route["recipient"]: route["name"] for event in events for route in event.get("routes", [])}
    return {names[each["recipient"]]: each["receipt"] for each in events if each["event"] == "recipient_done"}


@pytest.mark.parametrize("plane", ["stream", "ray"])
def test_a_file_goes_in_behind_the_nat_and_out_again(cluster: Sandbox, plane: str, tmp_path: Path) -> None:
    """To all at once, from here; then from the node behind NAT to the others, and back to here."""
    content = os.urandom(20 * MIB)
    name = f"{plane}.bin"
    (tmp_path / name).write_bytes(content)
    where = (f"--plane={plane}", f"--address=ray://127.0.0.1:{cluster.entries['client']}")
    nodes = ["ray-cpu", "ray-gpu", WORKER]
    into = receipts(cluster, "send", str(tmp_path / name), *where, *[f"--to={node}" for node in nodes])
    onward = receipts(cluster, "send", f"{WORKER}:{name}", *where, "--to=ray-cpu", "--to=ray-gpu", "--dest=onward/")
    back = receipts(cluster, "fetch", f"{WORKER}:{name}", str(tmp_path / "back.bin"), *where)
    assert {node: receipt["plane"] for node, receipt in into.items()} == dict.fromkeys(nodes, plane)
    assert {node: receipt["plane"] for node, receipt in onward.items()} == dict.fromkeys(nodes[:2], plane)
    assert [receipt["plane"] for receipt in back.values()] == [plane]
    assert (tmp_path / "back.bin").read_bytes() == content
    for container in (cluster.container("ray-cpu"), cluster.container("ray-gpu")):
        there = docker("exec", container, "sh", "-c", "cd ~/data && ls . onward && cmp $0 onward/$0", name).split()
        assert there.count(name) == 2
        assert not [each for each in there if each.endswith((".part", ".journal"))]
