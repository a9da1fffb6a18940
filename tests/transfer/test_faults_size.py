"""What is larger than memory, and what is many files: whole transfers between processes, whose memory is looked at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.transfer.processes import Processes
from ws.transfer import coordinator

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SENDER, RECIPIENT = NODES = ["ray_node_1", "ray_node_2"]
BUFFERS = 64 * MIB
"""What a transfer may take on a node over what it has when idle."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    made.start(NODES)
    yield made
    made.close()


def send(nodes: Processes, name: str) -> dict[str, int]:
    """Returns what each process had at most, over what it had before, in bytes."""
    before = {node: nodes.remotes[node].forget_peak() for node in NODES}
    outcome = coordinator.send(nodes, f"{SENDER}:{name}", [RECIPIENT], fsync=False)
    assert outcome.state == "done", outcome
    return {node: nodes.remotes[node].memory() - before[node] for node in NODES}


def test_a_file_larger_than_memory_keeps_its_holes_and_takes_no_memory(nodes: Processes) -> None:
    size = 40 * GIB
    data = {at: os.urandom(MIB) for at in (0, 17 * GIB + 12345, size - MIB)}
    with (nodes.root(SENDER) / "huge").open("wb") as file:
        file.truncate(size)
        for at, bytes_there in data.items():
            file.seek(at)
            file.write(bytes_there)
    taken = send(nodes, "huge")
    assert max(taken.values()) < BUFFERS, taken
    with (nodes.root(RECIPIENT) / "huge").open("rb") as file:
        status = os.fstat(file.fileno())
        assert status.st_size == size
        assert status.st_blocks * 512 < len(data) * 2 * MIB
        for at, bytes_there in data.items():
            file.seek(at)
            assert file.read(MIB) == bytes_there
        file.seek(9 * GIB)
        assert file.read(MIB) == bytes(MIB)


def test_a_file_without_holes_takes_no_more_memory_than_its_buffers(nodes: Processes) -> None:
    with (nodes.root(SENDER) / "whole").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MIB))
    taken = send(nodes, "whole")
    assert max(taken.values()) < BUFFERS, taken


@pytest.mark.long
def test_a_thousand_files_take_a_mebibyte_of_memory(nodes: Processes) -> None:
    """What differs between the two transfers is the number of files alone."""
    few, many = 1_000, 31_000
    peaks = {}
    for count in (few, many):
        make(nodes.root(SENDER) / str(count), count, lambda number: b"%d" % number)
        peaks[count] = send(nodes, str(count))
        there = nodes.root(RECIPIENT) / str(count)
        assert sum(len(found) for _, _, found in os.walk(there)) == count
    for node in NODES:
        assert peaks[many][node] - peaks[few][node] <= (many - few) // 1000 * MIB


def make(top: Path, count: int, content: Callable[[int], bytes]) -> None:
    """In folders of 1,000 files."""
    for number in range(count):
        folder = top / f"folder {number // 1000}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"a file of an ordinary name, {number}.json").write_bytes(content(number))
