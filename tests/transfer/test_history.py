from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.transfer.made_up import ID, MIB, PROBLEM, planned, progress, started, whole
from ws.errors import EnvironmentProblem, UsageError
from ws.transfer import history_write
from ws.transfer.events import Cancelled, Finished, Paused, Resumed, Retry
from ws.transfer.history import History
from ws.transfer.history_db import FILE, MIGRATIONS, migrate, state_folder


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path)
    yield history
    history.close()


# What is kept


def test_a_whole_transfer(history: History) -> None:
    for event in whole():
        history.record(event)
    [record] = history.transfers()
    assert (record.id, record.short, record.state) == (ID, "01234567", "failed")
    assert (record.algorithm, record.root_hash) == ("sha256", "ab" * 32)
    assert (record.size, record.files, record.chunks, record.source) == (100 * MIB, 1, 13, "here:/home/me/model.bin")
    assert record.options == {"command": "send", "recipients": ["ray_node_2", "ray_node_3"]}
    done, failed = record.recipients
    assert (done.node, done.name, done.state, done.done_bytes, done.retries) == (
        "ray_node_2",
        "ray-gpu",
        "done",
        100 * MIB,
        1,
    )
    assert done.receipt is not None
    assert done.receipt["place"] == "/home/ray/data/model.bin"
    assert done.path == ("here", "ray_node_2")
    assert (failed.node, failed.state, failed.plane, failed.problem) == ("ray_node_3", "failed", "ray", PROBLEM)
    assert failed.seconds is not None
    assert record.unserved == (failed,)
    assert record.is_resumable
    kinds = [event["event"] for event in history.events_of(ID)]
    assert kinds == ["started", "planned", "progress", "retry", "recipient_failed", "recipient_done", "finished"]
    assert history.trouble == ""


def test_progress_is_stored_once_a_second(tmp_path: Path) -> None:
    now = 0.0
    with closing(History(tmp_path, clock=lambda: now)) as history:
        history.record(started())
        for tenth in range(31):
            now = tenth / 10
            history.record(progress(tenth * MIB))
            history.record(progress(tenth * MIB, "ray_node_3"))
        kept = [event for event in history.events_of(ID) if event["event"] == "progress"]
        assert [event["done"] // MIB for event in kept if event["recipient"] == "ray_node_2"] == [0, 10, 20, 30]
        assert len(kept) == 8
        assert [recipient.done_bytes for recipient in history.transfers()[0].recipients] == [30 * MIB, 30 * MIB]


def test_events_of_one_transfer_are_bounded(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_write, "MOST_EVENTS", 20)
    for event in (started(), planned()):
        history.record(event)
    for attempt in range(400):
        history.record(Retry(transfer=ID, recipient="ray_node_2", attempt=attempt, why="why"))
    kept = history.events_of(ID)
    assert [event["event"] for event in kept[:2]] == ["started", "planned"]
    assert len(kept) <= 2 + 20 + 100
    assert kept[-1]["attempt"] == 399
    assert history.transfers()[0].recipients[0].retries == 400


def test_the_oldest_transfers_are_forgotten_with_their_events(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_write, "MOST_TRANSFERS", 3)
    for number in range(5):
        history.record(started(f"{number:032x}", at=float(number)))
    assert [int(record.id, 16) for record in history.transfers()] == [4, 3, 2]
    assert history.events_of(f"{0:032x}") == []


def test_pausing_and_its_end(history: History) -> None:
    with history.own(ID):
        history.record(started())
        history.record(Paused(transfer=ID))
        assert history.transfers()[0].state == "paused"
        history.record(Resumed(transfer=ID))
        assert history.transfers()[0].state == "running"
        history.record(Cancelled(transfer=ID))
    [record] = history.transfers()
    assert record.state == "cancelled"
    assert {recipient.state for recipient in record.recipients} == {"cancelled"}


def test_a_transfer_that_could_not_begin(history: History) -> None:
    history.record(started())
    history.record(Finished(transfer=ID, state="failed", problem=PROBLEM))
    [record] = history.transfers()
    assert record.problem == PROBLEM
    assert {recipient.state for recipient in record.recipients} == {"failed"}


def test_names_that_are_no_utf8_are_kept_for_people(history: History) -> None:
    odd = os.fsdecode(b"/data/\xff")
    history.record(started(source=f"here:{odd}", options={"source": odd}))
    [record] = history.transfers()
    assert record.source == "here:/data/\\udcff"
    assert record.options["source"] == odd
    assert history.trouble == ""


# Ids


def test_a_transfer_is_found_by_the_beginning_of_its_id(history: History) -> None:
    history.record(started("ab" + "0" * 30))
    history.record(started("ac" + "0" * 30))
    assert history.find("AB").id == "ab" + "0" * 30
    assert history.find("ac" + "0" * 30).short == "ac000000"
    with pytest.raises(UsageError, match="more than one transfer begins with 'a'"):
        history.find("a")
    for nothing in ("", "b", "%"):
        with pytest.raises(UsageError, match="there is no transfer"):
            history.find(nothing)


# Requests


def test_what_another_asks_for_is_seen(history: History, tmp_path: Path) -> None:
    assert history.wanted(ID) == "none"
    history.record(started())
    with closing(History(tmp_path)) as other:
        other.want(ID, "pause")
        assert history.wanted(ID) == "pause"
        other.want(ID, "cancel")
    assert history.wanted(ID) == "cancel"
    history.record(Cancelled(transfer=ID))
    assert history.wanted(ID) == "none"


def test_options_are_added(history: History) -> None:
    history.record(started(options={"plane": "ray"}))
    history.add_options(ID, {"address": "ray://a:1"})
    assert history.find(ID).options == {"plane": "ray", "address": "ray://a:1"}


# Owners


def test_a_transfer_without_its_process_is_interrupted(history: History) -> None:
    with history.own(ID):
        history.record(started())
        assert history.transfers()[0].state == "running"
        assert not history.transfers()[0].is_resumable
    [record] = history.transfers()
    assert record.state == "interrupted"
    assert record.is_resumable
    history.resumed(ID, "f" * 32)
    assert not history.transfers()[0].is_resumable


_OWNER = """
import sys
from pathlib import Path
from tests.transfer.made_up import started
from ws.transfer.history import History
history = History(Path(sys.argv[1]))
with history.own(sys.argv[2]):
    history.record(started(sys.argv[2]))
    print("runs", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_an_interrupted_transfer(history: History, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _OWNER, str(tmp_path), ID]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"runs\n"
        assert history.find(ID).state == "running"
        with pytest.raises(EnvironmentProblem, match="another process runs the transfer 01234567"), history.own(ID):
            pass
        owner.kill()
    assert history.find(ID).state == "interrupted"
    assert [path.name for path in (tmp_path / "locks").iterdir()] == [ID]
    history.record(started("f" * 32))
    assert list((tmp_path / "locks").iterdir()) == []


# Threads, processes, trouble


def test_a_transfer_goes_on_where_there_can_be_no_locks(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("no folder")
    with closing(History(tmp_path)) as history:
        with history.own(ID):
            history.record(started())
        assert history.find(ID).state == "interrupted"
        assert "no locks can be made in " in history.trouble


def test_where_there_can_be_no_history_nothing_is_recorded_and_cancelling_works(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(EnvironmentProblem, match="can't be used"):
        History(tmp_path / "file")
    with closing(History(tmp_path / "file", required=False)) as history, history.own(ID):
        assert history.trouble.startswith("the history of transfers in ")
        history.record(started())
        history.add_options(ID, {"a": 1})
        history.resumed(ID, "f" * 32)
        assert history.wanted(ID) == "none"
        history.want(ID, "cancel")
        assert history.wanted(ID) == "cancel"


def test_many_threads_and_a_forked_process_write_at_once(history: History, tmp_path: Path) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 10):
            history.record(started(f"{number:032x}"))

    child = os.fork()
    if child == 0:
        code = 1
        try:
            write(100)
            code = 0 if history.trouble == "" else 2
        finally:
            os._exit(code)
    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert history.trouble == ""
    assert len(history.transfers()) == 50


def test_trouble_is_told_and_ends_no_transfer(history: History) -> None:
    history.record(started())
    history.record(started())
    assert "UNIQUE" in history.trouble
    history.record(planned())
    assert history.find(ID).recipients[0].plane == "stream"


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_a_file_that_is_no_database_is_named_with_its_mend(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "transfers.sqlite"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(EnvironmentProblem, match=r"transfers\.sqlite") as caught:
        History(tmp_path)
    assert "WS_STATE" in (caught.value.mend or "")


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert state_folder({}) == Path("/home/me/.local/state/ws")
    assert state_folder({"XDG_STATE_HOME": "relative"}) == Path("/home/me/.local/state/ws")
    assert state_folder({"XDG_STATE_HOME": "/state"}) == Path("/state/ws")
    assert state_folder({"XDG_STATE_HOME": "/state", "WS_STATE": "~/own"}) == Path("/home/me/own")


# Migrations

_NEXT = [
    *MIGRATIONS,
    ["ALTER TABLE transfers ADD COLUMN note TEXT"],
    ["CREATE TABLE more (id)", "INSERT INTO more VALUES (7)"],
]


def columns(db: sqlite3.Connection) -> list[str]:
    return [row[1] for row in db.execute("PRAGMA table_info(transfers)")]


@pytest.mark.parametrize("old", range(len(_NEXT)))
@pytest.mark.parametrize("new", range(1, len(_NEXT) + 1))
def test_every_version_leads_to_every_newer_one(old: int, new: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        if old:
            migrate(db, _NEXT[:old])
            db.execute(
                "INSERT INTO transfers (id, created, source, plane, options, size, chunks, files, state)"
                " VALUES ('a', 0, 's', 'ray', '{}', 1, 1, 1, 'done')"
            )
        if new < old:
            with pytest.raises(EnvironmentProblem, match="newer ws"):
                migrate(db, _NEXT[:new])
            return
        migrate(db, _NEXT[:new])
        assert db.execute("PRAGMA user_version").fetchone() == (new,)
        assert db.execute("SELECT count(*) FROM transfers").fetchone() == (int(old > 0),)
        assert ("note" in columns(db)) is (new > len(MIGRATIONS))


def test_transfers_of_an_older_version_are_of_sha256(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        migrate(db, MIGRATIONS[:1])
        db.execute(
            "INSERT INTO transfers (id, created, source, plane, options, size, chunks, files, state, root_hash)"
            f" VALUES ('{ID}', 0, 's', 'ray', '{{}}', 1, 1, 1, 'done', 'ab')"
        )
    with closing(History(tmp_path)) as history:
        assert (history.find(ID).algorithm, history.find(ID).root_hash) == ("sha256", "ab")
        history.record(started("f" * 32, algorithm="blake3"))
        assert history.find("f").algorithm == "blake3"


@pytest.mark.parametrize("broken", [["ALTER TABLE transfers ADD COLUMN note TEXT", "NONSENSE"]])
def test_a_migration_that_fails_changes_nothing(broken: Sequence[str]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        migrate(db, MIGRATIONS)
        with pytest.raises(sqlite3.Error):
            migrate(db, [*MIGRATIONS, broken])
        assert "note" not in columns(db)
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
