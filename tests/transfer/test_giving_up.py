"""What an interrupted transfer left is found by its name, and removed; nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ws.transfer.events import Started
from ws.transfer.giving_up import discard_leftovers
from ws.transfer.history import History
from ws.transfer.job import Job
from ws.transfer.onnode.party import Party
from ws.transfer.targets import HERE, Place

TID = "0123456789abcdef" * 2
CHUNK = 1 << 16
CHUNKS = 3


class Interrupted:
    """A target below `root` whose party ended in the middle of a transfer of `source`, keeping what it had."""

    def __init__(self, folder: Path) -> None:
        self.source, self.root = folder / "a", folder / "b"
        self.source.mkdir()
        self.root.mkdir()
        self.parties: list[Party] = []

    def party(self, root: Path) -> Party:
        self.parties.append(Party("node", environ={"WS_TRANSFER_ROOTS": str(root)}, listen=False))
        return self.parties[-1]

    def begin(self, name: str = "x", dest: str | None = None, size: int = CHUNKS * CHUNK) -> Party:
        (self.source / name).parent.mkdir(exist_ok=True)
        (self.source / name).write_bytes(os.urandom(size))
        options = {"chunk_size": CHUNK}
        offered = self.party(self.source).offer(TID, name.partition("/")[0], b"secret", options)
        recipient = self.party(self.root)
        accepted = recipient.accept(TID, {"listing": offered["listing"], "secret": b"secret", "dest": dest, **options})
        assert "problem" not in accepted
        return recipient

    def leave(self, name: str = "x", dest: str | None = None, size: int = CHUNKS * CHUNK) -> None:
        self.begin(name, dest, size).finish(TID, True)
        assert any(each.endswith(".part") for each in self.left())

    def discard(self, name: str = "x", dest: str | None = None, chunks: int = CHUNKS) -> dict[str, Any]:
        return self.party(self.root).discard_named(TID, name, dest, CHUNK, chunks)

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[Interrupted]:
    made = Interrupted(tmp_path)
    yield made
    for party in made.parties:
        party.stop()


@pytest.mark.parametrize(("name", "dest"), [("x", None), ("x", "y"), ("x", "in/"), ("top/x", None), ("top/x", "in")])
def test_a_part_and_its_journal_go(interrupted: Interrupted, name: str, dest: str | None) -> None:
    interrupted.leave(name, dest)
    (interrupted.root / "other").write_text("stays")
    assert interrupted.discard(name.partition("/")[0], dest) == {"found": True}
    assert [path for path in interrupted.left() if path != "in"] == ["other"]
    assert interrupted.discard(name.partition("/")[0], dest) == {"found": False}


def test_what_is_of_another_transfer_stays(interrupted: Interrupted) -> None:
    interrupted.leave()
    assert interrupted.discard(chunks=CHUNKS + 1) == {"found": False}
    assert interrupted.left() == ["x.part", "x.part.journal"]


def test_a_file_of_that_name_without_a_journal_stays(interrupted: Interrupted) -> None:
    (interrupted.root / "x.part").write_text("mine")
    assert interrupted.discard() == {"found": False}
    assert interrupted.left() == ["x.part"]


def test_nothing_is_made_where_there_is_nothing(interrupted: Interrupted) -> None:
    assert interrupted.discard(dest="deep/in/") == {"found": False}
    assert interrupted.left() == []


def test_what_is_being_written_is_busy_unless_it_is_that_transfer(interrupted: Interrupted) -> None:
    writer = interrupted.begin()
    assert interrupted.discard()["problem"]["code"] == "busy"
    assert interrupted.left() == ["x.part", "x.part.journal"]
    assert writer.discard_named(TID, "x", None, CHUNK, CHUNKS) == {"found": False}  # its own end removes it
    assert interrupted.left() == []


def test_a_fetch_is_given_up_without_a_cluster(interrupted: Interrupted, tmp_path: Path) -> None:
    interrupted.leave("x", "x")
    job = Job(Place("ray_node_1", "data/x"), (HERE,), f"{interrupted.root}/", chunk_size=CHUNK)
    with closing(History(tmp_path / "state")) as history:
        history.record(
            Started(transfer=TID, source="ray_node_1:x", recipients=(HERE,), chunks=CHUNKS, options=job.as_options())
        )
        record = history.find(TID)
    assert discard_leftovers(record, lambda: pytest.fail("no cluster is needed")) == {}
    assert interrupted.left() == []
