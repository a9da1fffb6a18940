from __future__ import annotations

from pathlib import Path

import pytest

from tests.transfer.made_up_nodes import NODES, node
from ws.errors import EnvironmentProblem, UsageError, WsError
from ws.transfer.targets import HERE, Place, choose_recipients, find_node, parse_place, require_source

# Places


@pytest.mark.parametrize(
    ("text", "node_id", "path"),
    [
        ("ray_node_1:/data/x", "ray_node_1", "/data/x"),
        ("ray-gpu:data/", "ray-gpu", "data/"),
        ("ray_node_1:a:b", "ray_node_1", "a:b"),
        ("/data/a:b", HERE, "/data/a:b"),
        ("here:/data/x", HERE, "/data/x"),
    ],
)
def test_places_are_read(text: str, node_id: str, path: str) -> None:
    assert parse_place(text) == Place(node_id, path)


@pytest.mark.parametrize("text", ["model.bin", "./a:b", "dir/a:b", ":x", "..:x"])
def test_paths_of_this_machine_are_absolute(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_place(text) == Place(HERE, str(tmp_path / text))


def test_home_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parse_place("~/x") == Place(HERE, "/home/me/x")
    assert parse_place("ray_node_1:~/x") == Place("ray_node_1", "~/x")


@pytest.mark.parametrize("text", ["~$notes.docx", "~root", "./~root", "~nobody/x"])
def test_other_names_with_a_tilde_are_names(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_place(text) == Place(HERE, str(tmp_path / text))


@pytest.mark.parametrize("text", ["", "ray_node_1:", "here:"])
def test_no_path_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


def test_a_file_that_is_not_here_is_told_before_anything_is_tried(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    require_source(Place(HERE, str(tmp_path / "there")))
    require_source(Place("ray_node_1", "/nowhere"))
    with pytest.raises(UsageError, match="there is no file"):
        require_source(Place(HERE, str(tmp_path / "not")))


# Nodes


@pytest.mark.parametrize("name", ["ray_node_1", "ray-cpu", "cpu-box"])
def test_a_node_has_several_names(name: str) -> None:
    assert find_node(name, NODES).id == "ray_node_1"


def test_a_node_is_found_by_its_casting_node() -> None:
    assert find_node("external_node_1", NODES).id == "ray_node_2"


def test_a_node_that_is_none_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="there is no node 'ray-gpo'") as caught:
        find_node("ray-gpo", NODES)
    assert caught.value.why == "nodes: ray_node_1 (ray-cpu), ray_node_2 (ray-gpu)"
    assert caught.value.mend == "did you mean ray-gpu?"


def test_a_dead_node_is_told_as_dead_unless_another_has_its_name() -> None:
    with pytest.raises(EnvironmentProblem, match=r"ray_node_3 \(old\) does not live any more"):
        find_node("old", NODES)
    assert find_node("old", [*NODES, node(4, "old")]).id == "ray_node_4"


def test_a_name_of_several_is_refused() -> None:
    with pytest.raises(UsageError, match="more than one node") as caught:
        find_node("ray-cpu", [*NODES, node(4, "ray-cpu")])
    assert caught.value.why == "nodes: ray_node_1, ray_node_4"


# Recipients


def chosen(*names: str, sender: str = HERE, everyone: bool = False) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return choose_recipients(names, everyone, sender, NODES, notes.append), notes


def test_recipients_are_taken_once() -> None:
    ids, notes = chosen("ray_node_2", "ray-gpu", "ray_node_2", "ray_node_1")
    assert ids == ["ray_node_2", "ray_node_1"]
    assert notes == ["ray-gpu is ray_node_2, which is named twice: it receives once", "ray_node_2 is named twice"]


def test_all_are_the_living_but_the_sender() -> None:
    assert chosen(everyone=True) == (["ray_node_1", "ray_node_2"], ["ray_node_3 (old) is dead, and left out"])
    assert chosen(everyone=True, sender="ray_node_1")[0] == ["ray_node_2"]
    with pytest.raises(UsageError, match="there is no node to send to"):
        choose_recipients((), True, "ray_node_1", NODES[:1], str)


@pytest.mark.parametrize(
    ("name", "sender", "told", "mend"),
    [
        ("ray-cpu", "ray_node_1", "is the sender", "--to"),
        ("here", "ray_node_1", "can't be a recipient", "ws fetch"),
        ("ray_node_2:/data", HERE, "is no node", "--to ray_node_2 --dest /data"),
        ("nope", HERE, "there is no node 'nope'", ""),
        ("old", HERE, "does not live any more", ""),
    ],
)
def test_nonsense_is_prevented(name: str, sender: str, told: str, mend: str) -> None:
    with pytest.raises(WsError, match=told) as caught:
        chosen(name, sender=sender)
    assert mend in (caught.value.mend or "")
