"""Real Ray nodes: one actor for each node, shared by all that send, and what is left when they go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.ray_here import RayHere
from tests.node.stage import soon
from ws.cluster.connect import Wish
from ws.transfer import coordinator, running
from ws.transfer import shared_actor as sharing
from ws.transfer.events import Event, Progress
from ws.transfer.remote import ActorRemote
from ws.transfer.session import Session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
MIB = 1 << 20
REPOSITORY = Path(__file__).parents[2]


class Nodes:
    """A head, n1, and a worker, n2, each with a root and a transfer port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ray = RayHere()

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for number in (1, 2):
                patch.setenv("WS_TRANSFER_ROOTS", str(self.root(number)))
                patch.setenv("WS_NODE_PORTS", f"transfer={self.port(number)}")
                start = self.ray.start_head if number == 1 else self.ray.start_worker
                start(f"--node-name=n{number}")
        self.ray.await_alive(2)

    def root(self, number: int) -> Path:
        root = self.folder / str(number)
        root.mkdir(exist_ok=True)
        return root

    def port(self, number: int) -> int:
        return self.ray.base + 10 + number

    def session(self) -> Session:
        return Session.open(Wish(self.ray.gcs))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("roots"))
    try:
        made.start()
        yield made
    finally:
        made.ray.close()


def actor(session: Session, party_id: str = "ray_node_2") -> ActorRemote:
    remote = session.party(party_id)
    assert isinstance(remote, ActorRemote)
    return remote


def shared_actors() -> list[str]:
    import ray

    return [
        each["name"] for each in ray.util.list_named_actors(all_namespaces=True) if each["namespace"] == sharing.NAMESPACE
    ]


def none_is_left() -> bool:
    return not shared_actors()


def of_n2(session: Session) -> str:
    return next(node.seen.node_id for node in session.nodes if node.id == "ray_node_2")


RACER = """
import sys, ray
from ws.transfer.shared_actor import shared_actor
ray.init(sys.argv[1], namespace=sys.argv[3], logging_level="ERROR", log_to_driver=False)
print("ready", flush=True)
sys.stdin.readline()
print(shared_actor(sys.argv[2], "n2")[1]["pid"], flush=True)
"""


def test_who_comes_at_once_shares_one_actor_at_the_nodes_port(nodes: Nodes) -> None:
    """Drivers and clients, of any namespace."""
    with nodes.session() as session:
        environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        argv = [sys.executable, "-c", RACER]
        ways = [(nodes.ray.gcs, "a"), (nodes.ray.client, "b"), (nodes.ray.gcs, "castray")]
        racers = [
            subprocess.Popen([*argv, address, of_n2(session), namespace], cwd=REPOSITORY, env=environ, **pipes)
            for address, namespace in ways
        ]
        assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 3
        for racer in racers:
            assert racer.stdin
            racer.stdin.write("\n")
            racer.stdin.flush()
        ours = actor(session)
        pids = {int(racer.communicate(timeout=60)[0]) for racer in racers}
        assert pids == {ours.about["pid"]}
        assert [port for _, port in ours.addresses] == [nodes.port(2)]
        assert len(shared_actors()) == 1
    with nodes.session() as session:
        assert actor(session).about["pid"] in pids, "it outlives who made it"


def test_one_that_is_killed_is_replaced_at_the_same_port(nodes: Nodes) -> None:
    with nodes.session() as session:
        before = actor(session)
        os.kill(before.about["pid"], 9)
        after = actor(session)
        assert after.about["pid"] != before.about["pid"]
        assert after.addresses == before.addresses


def test_one_that_is_idle_ends_and_who_had_it_gets_another(nodes: Nodes, tmp_path: Path) -> None:
    import ray

    with nodes.session() as session:
        ray.kill(actor(session).actor)
        soon("nobody is left", none_is_left)
        sharing.shared_actor(of_n2(session), "n2", idle=2.0)
        before = actor(session)
        soon("it ended", none_is_left)
        (tmp_path / "x").write_bytes(b"x")
        assert coordinator.send(session, str(tmp_path / "x"), ["ray_node_2"], fsync=False).state == "done"
        after = actor(session)
        assert after.about["pid"] != before.about["pid"]
        assert after.addresses == before.addresses


def test_one_that_is_just_ending_is_not_taken(nodes: Nodes) -> None:
    import ray

    with nodes.session() as session:
        ray.kill(actor(session).actor)
        soon("nobody is left", none_is_left)
        sharing._handle(of_n2(session), "n2", idle=0.0)
        assert actor(session).call("progress", "ab" * 16).result(30)["problem"]["code"] == "lost"


def ws(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "WS_STATE": str(folder / "state"), "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "ws", *arguments]
    return subprocess.Popen(argv, cwd=REPOSITORY, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def has_a_chunk(target: Path) -> bool:
    journal = target.with_name(f"{target.name}.part.journal")
    return journal.exists() and len(journal.read_bytes().partition(b"\n")[2]) >= 40


def test_a_command_that_is_killed_is_resumed_at_once_and_nothing_is_left(nodes: Nodes, tmp_path: Path) -> None:
    """The nodes live on: they have a part of the one that was killed until its lease ends, and nothing after that."""
    content = os.urandom(24 * MIB)
    (tmp_path / "killed.bin").write_bytes(content)
    where = f"--address={nodes.ray.gcs}"
    target = nodes.root(2) / "killed.bin"
    sending = ["send", str(tmp_path / "killed.bin"), "--to", "ray_node_2", "--limit", "6M", where]
    with ws(tmp_path, *sending) as killed:
        soon("a chunk came", lambda: has_a_chunk(target), 90)
        killed.kill()
    assert not target.exists()
    with ws(tmp_path, "transfers", "--json") as listing:
        (record,) = json.loads(listing.communicate(timeout=60)[0])
    with ws(tmp_path, "transfers", "resume", record["id"], where) as resumed:
        told = resumed.communicate(timeout=150)
    assert resumed.returncode == 0, told
    assert "was there before" in "".join(told), told
    assert target.read_bytes() == content
    assert [path.name for path in nodes.root(2).iterdir() if path.name.startswith("killed")] == ["killed.bin"]
    with nodes.session() as session:
        assert len(shared_actors()) == 1
        assert actor(session).call("progress", record["id"]).result(30)["problem"]["code"] == "lost"


def test_a_node_whose_raylet_is_killed_fails_alone(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its actor ends with it, a moment later; it may not be done by then, and four chunks come when it is paused already."""
    monkeypatch.setattr(running, "ATTEMPTS", 2)
    content = os.urandom(96 * MIB)
    (nodes.root(1) / "raylet.bin").write_bytes(content)
    monkeypatch.setenv("WS_TRANSFER_ROOTS", str(nodes.root(3)))
    third = nodes.ray.start_worker("--node-name=n3")
    nodes.ray.await_alive(3)
    killed: list[str] = []

    def kill(event: Event) -> None:
        if isinstance(event, Progress) and event.recipient == lost.id and event.done and not killed:
            session.party(lost.id).call("pause", event.transfer).result(30)
            third.kill("raylet")
            killed.append(lost.id)

    with nodes.session() as session:
        lost = next(node for node in session.nodes if node.seen.name == "n3")
        how: dict[str, Any] = {"limit": 16 * MIB, "fsync": False, "on_event": kill}
        outcome = coordinator.send(session, "ray_node_1:raylet.bin", ["ray_node_2", lost.id], **how)
    assert killed
    assert {node: problem["code"] for node, problem in outcome.problems.items()} == {lost.id: "lost"}
    assert (nodes.root(2) / "raylet.bin").read_bytes() == content
    assert not (nodes.root(3) / "raylet.bin").exists()
