"""Real Ray nodes that know nothing of `ws`: the same cases over both planes, through Ray Client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.ray_here import RayHere
from ws.cluster.connect import Wish
from ws.transfer import coordinator
from ws.transfer.events import Event
from ws.transfer.outcome import Outcome
from ws.transfer.remote import ActorRemote
from ws.transfer.session import Session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
MIB = 1 << 20


class Nodes:
    """A head and two workers, each with a root of its own, on which `import ws` fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ray = RayHere()

    def start(self) -> None:
        shadow = self.folder / "shadow"
        shadow.mkdir()
        (shadow / "ws.py").write_text("raise ImportError('there is no ws on this node')")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(shadow))
            for number in (1, 2, 3):
                patch.setenv("WS_TRANSFER_ROOTS", str(self.root(number)))
                start = self.ray.start_head if number == 1 else self.ray.start_worker
                start(f"--node-name=n{number}")
        self.ray.await_alive(3)

    def root(self, number: int) -> Path:
        root = self.folder / str(number)
        root.mkdir(exist_ok=True)
        return root


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("roots"))
    try:
        made.start()
        yield made
    finally:
        made.ray.close()


@pytest.fixture(scope="module")
def session(nodes: Nodes) -> Iterator[Session]:
    with Session.open(Wish(nodes.ray.gcs)) as opened:
        yield opened


@pytest.fixture(params=["stream", "ray"])
def plane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def done(outcome: Outcome, plane: str) -> Outcome:
    assert outcome.state == "done", outcome
    assert {receipt.plane for receipt in outcome.receipts.values()} == {plane}
    return outcome


def test_the_address_of_the_gcs_leads_to_ray_client_and_the_nodes_have_their_numbers(session: Session, nodes: Nodes) -> None:
    assert session.where == nodes.ray.client
    assert [(node.id, node.seen.name) for node in session.nodes] == [(f"ray_node_{n}", f"n{n}") for n in (1, 2, 3)]


def test_a_file_goes_from_here_along_the_nodes_and_back(session: Session, nodes: Nodes, plane: str, tmp_path: Path) -> None:
    content = os.urandom(20 * MIB)
    (tmp_path / f"{plane}.bin").write_bytes(content)
    to_first = coordinator.send(session, str(tmp_path / f"{plane}.bin"), ["ray_node_1"], plane=plane, fsync=False)
    assert done(to_first, plane).receipts["ray_node_1"].algorithm == "blake3"
    names = ["ray_node_2", "ray_node_3"]
    how: dict[str, Any] = {"dest": "in/", "plane": plane, "fsync": False, "hash": "sha256"}
    onward = coordinator.send(session, f"ray_node_1:{plane}.bin", names, **how)
    receipt = done(onward, plane).receipts["ray_node_3"]
    assert (receipt.path, receipt.algorithm) == (("ray_node_1", "ray_node_2", "ray_node_3"), "sha256")
    back = coordinator.fetch(session, f"ray_node_3:in/{plane}.bin", str(tmp_path / "back"), plane=plane, fsync=False)
    done(back, plane)
    assert (tmp_path / "back").read_bytes() == content
    assert sorted(path.name for path in (nodes.root(2) / "in").iterdir() if plane in path.name) == [f"{plane}.bin"]


def test_a_folder_with_everything_in_it(session: Session, nodes: Nodes, plane: str) -> None:
    source = nodes.root(1) / f"{plane}-folder"
    (source / "sub").mkdir(parents=True)
    (source / "empty").write_bytes(b"")
    (source / "sub" / "link").symlink_to("../empty")
    for number in range(200):
        (source / "sub" / f"{number}").write_bytes(os.urandom(1000))
    with (source / "sparse").open("wb") as file:
        file.truncate(100 * MIB)
    done(coordinator.send(session, f"ray_node_1:{plane}-folder", ["ray_node_2"], plane=plane, fsync=False), plane)
    target = nodes.root(2) / f"{plane}-folder"
    assert (target / "sub" / "link").readlink() == Path("../empty")
    assert (target / "sub" / "17").read_bytes() == (source / "sub" / "17").read_bytes()
    assert (target / "sparse").stat().st_blocks < 1000
    assert (target / "sparse").stat().st_size == 100 * MIB


@pytest.mark.parametrize("victim", ["ray_node_1", "ray_node_2"])
def test_an_actor_that_is_killed_in_the_middle_is_started_again(
    session: Session, nodes: Nodes, plane: str, victim: str
) -> None:
    content = os.urandom(40 * MIB)
    name = f"{plane}-{victim}.bin"
    (nodes.root(1) / name).write_bytes(content)
    killed: list[int] = []

    def kill(event: Event) -> None:
        if event.kind == "progress" and not killed:
            remote = session.party(victim)
            assert isinstance(remote, ActorRemote)
            killed.append(remote.about["pid"])
            os.kill(remote.about["pid"], 9)

    outcome = coordinator.send(
        session, f"ray_node_1:{name}", ["ray_node_2", "ray_node_3"], plane=plane, limit=40 * MIB, fsync=False, on_event=kill
    )
    assert killed
    done(outcome, plane)
    for number in (2, 3):
        assert (nodes.root(number) / name).read_bytes() == content
        assert not (nodes.root(number) / f"{name}.part").exists()


def test_a_node_of_the_users_own_is_used_and_found_by_its_name(nodes: Nodes, session: Session) -> None:
    import ray

    from ws.transfer import CastingNode

    node = CastingNode.remote("external_node_1", 0)
    about = ray.get(node.start.remote())
    assert (about["name"], len(about["addresses"])) == ("external_node_1", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_theirs", None)
        patch.setattr(session, "_parties", {})
        number = next(each.id for each in session.nodes if each.seen.node_id == about["node_id"])
        remote = session.party(number)
        assert isinstance(remote, ActorRemote)
        assert remote.about["pid"] == about["pid"]
    ray.kill(node)
