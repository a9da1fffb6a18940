"""Blocks through Ray: as they are made and taken, and between real actors."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.ray_here import RayHere
from tests.plain_ray import plain_ray_environ
from tests.transfer.onnode.memory import Source, Target
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.ray_link import (
    PIECE,
    RayLink,
    _cut,
    as_values,
    from_values,
    links,
    read_block,
    value_count,
    write_block,
)

DRIVER, MEMORY_DRIVER = (Path(__file__).with_name(name) for name in ("ray_transfer.py", "ray_memory.py"))
MIB = 1 << 20


def test_blocks_there_and_back() -> None:
    source = Source(count=3, size=2_500_000, holes=(1,))
    target = Target(source.layout)
    assert read_block(target, 0, 0.0, lambda: 77) == {"wait": True, "pulse": 77}
    count = value_count(2_500_000)
    for index in range(3):
        values = as_values(read_block(source, index), count)
        assert len(values) == count
        assert max(map(len, values[1:])) <= PIECE
        write_block(target, index, from_values(pickle.loads(pickle.dumps(values))))
    assert target.hashes == source.hashes
    assert target.holes == {1}


@given(st.lists(st.integers(0, 2 * PIECE + 1), max_size=6))
def test_pieces_are_full_but_the_last(lengths: list[int]) -> None:
    views = [memoryview(bytes([number]) * length) for number, length in enumerate(lengths)]
    pieces = list(_cut(iter(views)))
    assert b"".join(pieces) == b"".join(views)
    assert all(len(piece) == PIECE for piece in pieces[:-1])
    assert len(pieces) == value_count(sum(lengths)) - 1


def test_wrong_blocks() -> None:
    source = Source(count=2)
    target = Target(source.layout)
    block = read_block(source, 0)
    for wrong in ({**block, "digest": bytes(32)}, {**block, "pieces": [b"short"]}, {"hole": True, "digest": bytes(32)}):
        with pytest.raises(PeerFailed) as caught:
            write_block(target, 0, wrong)
        assert caught.value.problem.code == "bad-chunk"
    write_block(target, 0, block)
    with pytest.raises(TransferProblem, match="no chunk 2"):
        read_block(source, 2)
    for nonsense in ([None, b""], [{}, "text"]):
        with pytest.raises(TransferProblem, match="no sense"):
            from_values(nonsense)


def test_a_low_limit_is_no_silence_and_can_be_broken_off() -> None:
    source = Source(count=1, size=100_000)
    told: list[int] = []
    link = RayLink(None, "a", b"t", Target(source.layout), lambda index, pulse: None, Limiter(100.0), told.append)

    def shut_soon(count: int) -> None:
        told.append(count)
        if len(told) == 3:
            link.shut()

    link._moved = shut_soon
    with pytest.raises(PeerFailed) as caught:
        link.ask(0)
    assert caught.value.blameless
    assert told == [0, 0, 0]


def test_only_peers_with_an_actor_have_such_a_link() -> None:
    assert links({"name": "x", "addresses": []}, b"t", None, lambda index, pulse: None) is None


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHere]:
    here = RayHere()
    try:
        here.start_head()
        here.await_alive(1)
        yield here
    finally:
        here.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["gcs", "client"])
def test_between_actors_and_a_driver(cluster: RayHere, way: str) -> None:
    told = run(DRIVER, cluster.gcs if way == "gcs" else cluster.client)
    assert told == {
        "progress": {"done": 18_000_000, "coming": 0, "total": 18_000_000, "retries": 0, "source": "origin"},
        "pulled": True,
        "pushed": True,
        "imported": [],
        "killed": "lost",
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", ["gcs", "client"])
def test_memory_stays_bounded_however_large_the_file(cluster: RayHere, way: str, tmp_path: Path) -> None:
    """256 MiB by an object store of 80 MB; 64 MiB for each party that is on the node: in the first transfer both."""
    address = cluster.gcs if way == "gcs" else cluster.client
    told = run(MEMORY_DRIVER, address, str(tmp_path), str(cluster.nodes[0].pid))
    assert told.pop("hashes") == 1
    most = {"between": 128, "pushed": 64, "fetched": 64}
    assert {name: grown // MIB < most[name] for name, grown in told.items()} == dict.fromkeys(most, True), told


def run(driver: Path, *argv: str) -> dict[str, Any]:
    """What a driver prints, in a process of its own, as Ray is in one cluster at a time."""
    environ = plain_ray_environ(RAY_AUTH_MODE="disabled", PYTHONPATH=str(Path.cwd()))
    called = [sys.executable, str(driver), *argv]
    done = subprocess.run(called, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
