"""Blocks through Ray: as they are made and taken, and between real actors."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_here import RayHere
from tests.plain_ray import plain_ray_environ
from tests.transfer.onnode.memory import Source, Target
from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.ray_link import links, read_block, write_block

DRIVER = Path(__file__).with_name("ray_transfer.py")


def test_blocks_there_and_back() -> None:
    source = Source(count=3, size=2_500_000, holes=(1,))
    target = Target(source.layout)
    assert read_block(target, 0, 0.0) == {"wait": True}
    for index in range(3):
        buffers: list[pickle.PickleBuffer] = []
        packed = pickle.dumps(read_block(source, index), protocol=5, buffer_callback=buffers.append)
        assert len(packed) < 200, "the data goes out of band"
        write_block(target, index, pickle.loads(packed, buffers=buffers))
    assert target.hashes == source.hashes
    assert target.holes == {1}


def test_wrong_blocks() -> None:
    source = Source(count=2)
    target = Target(source.layout)
    block = read_block(source, 0)
    for wrong in ({**block, "digest": bytes(32)}, {**block, "data": b"short"}, {"hole": True, "digest": bytes(32)}):
        with pytest.raises(PeerFailed) as caught:
            write_block(target, 0, wrong)
        assert caught.value.problem.code == "bad-chunk"
    write_block(target, 0, block)
    with pytest.raises(TransferProblem, match="no chunk 2"):
        read_block(source, 2)


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
    argv = [sys.executable, str(DRIVER), cluster.gcs if way == "gcs" else cluster.client]
    environ = plain_ray_environ(RAY_AUTH_MODE="disabled", PYTHONPATH=str(Path.cwd()))
    run = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told == {
        "progress": {"done": 18_000_000, "total": 18_000_000, "retries": 0, "source": "origin"},
        "pulled": True,
        "pushed": True,
        "imported": [],
        "killed": "lost",
    }
