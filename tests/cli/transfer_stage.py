"""A cluster for `ws send`: real parties of this process, each with its own folder, and no Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

import pytest

from tests.transfer.made_up_nodes import node
from ws.cluster.nodes import Node
from ws.transfer.here import HereParty
from ws.transfer.onnode.party import Party
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.remote import LocalRemote, Remote
from ws.transfer.targets import HERE


@dataclass
class Stage:
    """`folder`/ray_node_1 and so on are the nodes' roots. Stands in for a Session."""

    folder: Path
    nodes: tuple[Node, ...] = (node(1, "ray-cpu"), node(2, "ray-gpu"), node(3, "ray-b"))
    where: str = "ray://127.0.0.1:10001"
    lost: set[str] = field(default_factory=set)
    connected: list[object] = field(default_factory=list)
    """How it was asked for, each time."""
    _remotes: dict[str, LocalRemote] = field(default_factory=dict)

    def root(self, number: int) -> Path:
        return self.folder / f"ray_node_{number}"

    def party(self, party_id: str, fresh: bool = False) -> Remote:
        if party_id in self.lost:
            raise TransferProblem(LOST, f"{party_id} is not there", "the cluster takes it for dead", "ws nodes")
        if party_id not in self._remotes:
            environ = {"WS_TRANSFER_ROOTS": str(self.folder / party_id)}
            party = HereParty() if party_id == HERE else Party(party_id, environ=environ)
            self._remotes[party_id] = LocalRemote(party_id, party)
        return self._remotes[party_id]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The parties outlive a connection, as actors that users made do."""

    def close(self) -> None:
        for remote in self._remotes.values():
            remote.close()


@contextmanager
def stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Every command connects to it; the history is in the folder, too."""
    made = Stage(folder)
    for each in made.nodes:
        (folder / each.id).mkdir(parents=True)

    def connect(cluster: object, progress: object) -> Stage:
        made.connected.append(cluster)
        return made

    for module in ("send", "transfers"):
        monkeypatch.setattr(f"ws.cli.{module}.connect", connect)
    monkeypatch.setenv("WS_STATE", str(folder / "state"))
    try:
        yield made
    finally:
        made.close()


_SENDING = """
import sys, pytest
from pathlib import Path
from tests.cli.transfer_stage import stage
from ws.cli import run
with stage(Path(sys.argv[1]), pytest.MonkeyPatch()):
    code = run(["send", sys.argv[2], "--to", "ray_node_1", *sys.argv[3:]])
sys.exit(code)
"""
BIG = 64 << 20
ROOT = Path(__file__).parents[2]


def started(folder: Path, *options: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    source, state = folder / "big.bin", folder / "cluster" / "state"
    source.write_bytes(bytes(range(256)) * (BIG // 256))
    argv = [sys.executable, "-c", _SENDING, str(folder / "cluster"), str(source), "--limit", "1M", *options]
    environ = {**os.environ, "WS_STATE": str(state)}
    return subprocess.Popen(argv, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environ)


@contextmanager
def sending(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A process that sends big.bin to ray_node_1 of its own stage so slowly that it has not ended when it is wanted."""
    with started(folder, *options) as process:
        try:
            assert process.stderr
            assert process.stdout
            told, begun = (process.stdout, '"planned"') if "--json" in options else (process.stderr, "ray_node_1: stream")
            assert next(line for line in told if begun in line)
            yield process
        finally:
            process.kill()
