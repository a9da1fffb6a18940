"""`ws transfers`: what it shows of a history, and what it does to transfers that run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.transfer_stage import BIG, sending, stage
from tests.transfer.made_up import ID, progress, started, whole
from ws.cli import run
from ws.transfer.events import Cancelled, Paused
from ws.transfer.history import History

OTHER = "f" * 32


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setenv("WS_STATE", str(tmp_path / "cluster" / "state"))
    monkeypatch.setenv("TZ", "UTC")
    with closing(History()) as made:
        yield made


# Looking


def test_none_yet(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["transfers"]) == 0
    assert capsys.readouterr().out == "no transfers yet; `ws send FILE --to NODE` makes one\n"
    assert run(["transfers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_table_has_the_newest_first(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    for event in whole():
        history.record(event)
    with history.own(OTHER):
        history.record(
            started(OTHER, at=4e9, recipients=("ray_node_1", "ray_node_2", "ray_node_3", "ray_node_4"), size=1 << 30)
        )
        history.record(progress(1 << 30, "ray_node_1", OTHER))
        history.want(OTHER, "pause")
        assert run(["transfers"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "STARTED", "STATE", "SIZE", "DONE", "FROM", "TO", "DETAIL"]
    cells = re.split(r"  +", first)
    assert cells[:1] + cells[2:] == [
        "ffffffff",
        "running",
        "1.0 GiB",
        "25 %",
        "here:/home/me/model.bin",
        "ray_node_1, ray_node_2, ray_node_3 … (4)",
        "pause wanted",
    ]
    cells = re.split(r"  +", second)
    assert cells[:1] + cells[2:5] == ["01234567", "failed", "100.0 MiB", "50 %"]
    assert cells[-1] == "no space on /data"
    assert run(["transfers", "--last", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_interrupted_transfer_is_shown_as_such(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.record(started())
    history.record(Paused(transfer=ID))
    assert run(["transfers"]) == 0
    assert " interrupted " in capsys.readouterr().out
    history.resumed(ID, OTHER)
    assert run(["transfers"]) == 0
    assert "resumed as ffffffff" in capsys.readouterr().out


def test_one_transfer_with_its_receipts_and_problems(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    for event in whole():
        history.record(event)
    assert run(["transfers", "show", "0123"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(("started", "ended"))] == [
        f"transfer   {ID}",
        "state      failed",
        "source     here:/home/me/model.bin (1 file, 100.0 MiB)",
        "plane      auto",
        f"hash       SHA-256 {'ab' * 32}",
        "",
        "ray_node_2 (ray-gpu): done",
        "  100.0 MiB in 2.00 s (50.0 MiB/s, stream), 1 retry: /home/ray/data/model.bin",
        f"  SHA-256 {'ab' * 32}",
        "",
        "ray_node_3 (ray-cpu): failed",
        "  0 B of 100.0 MiB (0 %), 0 retries",
        "  no space on /data: needs 4.0 GiB, 1.2 GiB free → free 2.8 GiB there",
        "",
        "→ `ws transfers resume 01234567` tries again for who does not have it; `cancel` removes what they have so far",
    ]


def test_json_of_one_has_its_events(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    for event in whole():
        history.record(event)
    assert run(["transfers", "show", ID, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["state"] == "failed"
    assert [recipient["state"] for recipient in told["recipients"]] == ["done", "failed"]
    assert [event["event"] for event in told["events"]][-1] == "finished"


@pytest.mark.parametrize("command", ["show", "cancel", "pause", "resume"])
def test_an_id_of_none_is_wrong_use(history: History, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run(["transfers", command, "beef"]) == 2
    assert "✗ there is no transfer 'beef'\n→ `ws transfers` lists them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("pause", "01234567 can't be paused: it is failed\n→ `ws transfers resume 01234567` runs it again"),
        ("cancel", "01234567 can't be cancelled: it is failed\n→ it was resumed as ffffffff, and is that one now"),
    ],
)
def test_what_has_ended_can_not_be_stopped(
    history: History, capsys: pytest.CaptureFixture[str], command: str, told: str
) -> None:
    for event in whole():
        history.record(event)
    if command == "cancel":
        history.resumed(ID, OTHER)
    assert run(["transfers", command, ID]) == 2
    assert told in capsys.readouterr().err


def test_one_of_which_too_little_is_known_is_given_up_all_the_same(
    history: History, capsys: pytest.CaptureFixture[str]
) -> None:
    history.record(started())
    assert run(["transfers", "cancel", ID]) == 1
    shown = capsys.readouterr()
    assert "✗ ray_node_2: too little is known of 01234567" in shown.err
    assert "01234567 is given up; what came so far stays at ray_node_2, ray_node_3, as NAME.part" in shown.out
    assert history.find(ID).state == "cancelled"


def test_what_can_not_be_resumed_says_why(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.record(started())
    history.record(Cancelled(transfer=ID))
    assert run(["transfers", "resume", ID, "--address", "127.0.0.1:1"]) == 4  # nobody is there
    history.resumed(ID, OTHER)
    capsys.readouterr()
    assert run(["transfers", "resume", ID]) == 2
    assert "01234567 was resumed as ffffffff" in capsys.readouterr().err


# Doing


def test_pausing_resuming_and_cancelling_from_another_process(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sending(tmp_path) as process:
        [record] = history.transfers()
        assert record.state == "running"
        assert run(["transfers", "pause", record.short]) == 0
        assert capsys.readouterr().out == f"{record.short} is paused\n"
        assert run(["transfers", "resume", record.short]) == 0
        assert capsys.readouterr().out == f"{record.short} is running\n"
        assert run(["transfers", "cancel", record.short]) == 0
        assert capsys.readouterr().out == f"{record.short} is cancelled\n"
        assert process.wait(120) == 1
        assert process.stderr
        told = process.stderr.read()
    assert f"paused; `ws transfers resume {record.short}` goes on\ngoes on\n" in told
    assert "! cancelled: nothing unfinished is left" in told
    assert [path.name for path in (tmp_path / "cluster" / "ray_node_1").iterdir()] == []


def test_giving_a_killed_transfer_up_removes_what_it_left(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with sending(tmp_path) as process:
        process.kill()
    [killed] = history.transfers()
    with stage(tmp_path / "again", monkeypatch) as cluster:
        monkeypatch.setenv("WS_STATE", str(tmp_path / "cluster" / "state"))
        cluster.root(1).rmdir()
        (tmp_path / "cluster" / "ray_node_1").rename(cluster.root(1))
        assert {path.name for path in cluster.root(1).iterdir()} == {"big.bin.part", "big.bin.part.journal"}
        cluster.lost.add("ray_node_1")
        assert run(["transfers", "cancel", killed.short]) == 1
        shown = capsys.readouterr()
        assert "✗ ray_node_1: ray_node_1 is not there\n" in shown.err
        assert f"what came so far stays at ray_node_1, as NAME.part: `ws transfers cancel {killed.short}`" in shown.out
        assert history.find(killed.id).state == "cancelled"
        cluster.lost.clear()
        assert run(["transfers", "cancel", killed.short]) == 0
        told = f"{killed.short} is given up; nothing unfinished is left at the recipients\n"
        assert capsys.readouterr().out == told
        assert list(cluster.root(1).iterdir()) == []


def _told(line: str) -> float:
    """MiB that a line of progress tells of; 0 of any other line."""
    found = re.search(r"([0-9.]+) MiB of ", line)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_a_killed_transfer_is_resumed_where_it_was_with_its_hash(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], algorithm: str
) -> None:
    with sending(tmp_path, "--limit", "8M", "--hash", algorithm) as process:
        assert process.stderr
        assert next(line for line in process.stderr if _told(line) > 16)  # two chunks may be on their way
        process.kill()
    [killed] = history.transfers()
    assert killed.state == "interrupted"
    history.add_options(killed.id, {"limit": None, "hash": "auto"})
    with stage(tmp_path / "again", monkeypatch) as cluster:
        monkeypatch.setenv("WS_STATE", str(tmp_path / "cluster" / "state"))
        (tmp_path / "cluster" / "ray_node_1").rename(tmp_path / "moved")
        cluster.root(1).rmdir()
        (tmp_path / "moved").rename(cluster.root(1))
        assert run(["transfers", "resume", killed.short]) == 0
        assert (cluster.root(1) / "big.bin").read_bytes() == (tmp_path / "big.bin").read_bytes()
        assert [path.name for path in cluster.root(1).iterdir()] == ["big.bin"]
    assert " of it was there before" in capsys.readouterr().out
    new, old = history.transfers()
    assert (old.id, old.resumed_by, old.state) == (killed.id, new.id, "interrupted")
    receipt = new.recipients[0].receipt
    assert receipt is not None
    assert 0 < receipt["had"] < BIG
    assert {old.algorithm, new.algorithm, receipt["algorithm"]} == {algorithm}
    assert run(["transfers", "show", new.short]) == 0
    assert f"{receipt['root_hash']}, in chunks of 8.0 MiB\n" in capsys.readouterr().out
    assert run(["transfers", "resume", new.short]) == 2
    assert "every recipient has it" in capsys.readouterr().err


def test_only_who_does_not_have_it_gets_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a"
    source.write_text("x")
    with stage(tmp_path / "cluster", monkeypatch) as cluster:
        cluster.lost.add("ray_node_2")
        monkeypatch.setattr("ws.transfer.running.ATTEMPTS", 1)
        assert run(["send", str(source), "--to", "ray_node_1", "--to", "ray_node_2"]) == 1
        assert "`ws transfers resume " in capsys.readouterr().err
        cluster.lost.clear()
        with closing(History()) as history:
            assert run(["transfers", "resume", history.transfers()[0].short]) == 0
            assert [recipient.node for recipient in history.transfers()[0].recipients] == ["ray_node_2"]
        assert (cluster.root(2) / "a").read_text() == "x"
    capsys.readouterr()
