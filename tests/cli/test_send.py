"""`ws send` and `ws fetch` between real parties of this process; over Ray they are in tests/transfer."""

from __future__ import annotations

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

from tests.cli.transfer_stage import ROOT, Stage, sending, stage, started
from tests.terminal import Terminal
from ws.cli import run
from ws.cli.transfer_run import Cluster
from ws.transfer.history import History
from ws.transfer.records import TransferRecord

SIZE = 300_000


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with stage(tmp_path / "cluster", monkeypatch) as made:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield made


@pytest.fixture
def content() -> bytes:
    return random.Random(1).randbytes(SIZE)


def history() -> list[TransferRecord]:
    with closing(History()) as kept:
        return kept.transfers()


# Sending


def test_a_file_goes_to_a_node(cluster: Stage, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.bin").write_bytes(content)
    assert run(["send", "model.bin", "--to", "ray-gpu"]) == 0
    there = cluster.root(2) / "model.bin"
    assert there.read_bytes() == content
    shown = capsys.readouterr()
    result, hashed = shown.out.splitlines()
    assert result.startswith("✓ ray_node_2: 293.0 KiB in ")
    assert result.endswith(f"stream): {there}")
    assert hashed == f"BLAKE3 {blake3(content).hexdigest()}"
    first, second = shown.err.splitlines()
    assert first.startswith(f"here:{Path('model.bin').absolute()} (1 file, 293.0 KiB) to ray_node_2, transfer ")
    assert second.startswith("  ray_node_2: stream, ")


def test_the_hash_may_be_chosen(cluster: Stage, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.bin").write_bytes(content)
    (cluster.root(3) / "model.bin").write_bytes(content)
    told = f"SHA-256 {hashlib.sha256(content).hexdigest()}"
    assert run(["send", "model.bin", "--to", "ray-gpu", "--hash", "sha256"]) == 0
    assert run(["fetch", "ray_node_3:model.bin", "back", "--hash", "sha256"]) == 0
    assert capsys.readouterr().out.splitlines()[1::2] == [told, told]
    assert [(record.algorithm, record.options["hash"]) for record in history()] == [("sha256", "sha256")] * 2


def test_blake3_where_nobody_has_it_is_named_with_its_mend(
    cluster: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    Path("a").write_text("x")
    assert run(["send", "a", "--to", "ray_node_1", "--hash", "blake3"]) == 1
    told = capsys.readouterr().err
    assert "✗ here, ray_node_1 lack BLAKE3\n" in told
    assert "→ `pip install blake3` in that node's image or environment, or send with --hash sha256" in told
    assert run(["send", "a", "--to", "ray_node_1"]) == 0
    assert f"SHA-256 {hashlib.sha256(b'x').hexdigest()}" in capsys.readouterr().out


def test_a_node_sends_to_all_others(cluster: Stage, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (cluster.root(1) / "data").mkdir()
    (cluster.root(1) / "data" / "a").write_bytes(content)
    (cluster.root(1) / "data" / "b").write_bytes(b"")
    assert run(["send", "ray_node_1:data/", "--all", "--dest", "in/"]) == 0
    for number in (2, 3):
        assert (cluster.root(number) / "in" / "data" / "a").read_bytes() == content
        assert (cluster.root(number) / "in" / "data" / "b").read_bytes() == b""
    out = capsys.readouterr().out.splitlines()
    assert {line.partition(": ")[0] for line in out[:2]} == {"✓ ray_node_2", "✓ ray_node_3"}
    assert out[2].startswith("2 of 2 recipients have it, in ")
    assert len(out) == 4


def test_several_sources_are_sent_one_after_the_other(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        Path(name).write_text(name)
    assert run(["send", "a", "b", "--to", "ray_node_1", "--dest", "in/"]) == 0
    assert {path.name for path in (cluster.root(1) / "in").iterdir()} == {"a", "b"}
    assert [record.state for record in history()] == ["done", "done"]
    capsys.readouterr()


def test_a_name_with_a_colon_is_a_file_here_where_it_says_so(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a:b").write_text("x")
    assert run(["send", "./a:b", "--to", "ray_node_1"]) == 0
    assert (cluster.root(1) / "a:b").read_text() == "x"
    assert run(["send", "a:b", "--to", "ray_node_1"]) == 2
    assert "→ for the file of this name here: ./a:b" in capsys.readouterr().err


def test_one_recipient_that_fails_does_not_stop_the_other(
    cluster: Stage, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model.bin").write_bytes(content)
    (cluster.root(3) / "model.bin").write_bytes(b"other")
    assert run(["send", "model.bin", "--to", "ray_node_2", "--to", "ray_node_3"]) == 1
    assert (cluster.root(2) / "model.bin").read_bytes() == content
    assert (cluster.root(3) / "model.bin").read_bytes() == b"other"
    shown = capsys.readouterr()
    assert "✓ ray_node_2: " in shown.out
    assert "1 of 2 recipients has it" in shown.out
    assert "✗ ray_node_3: " in shown.err
    assert "--overwrite" in shown.err
    assert run(["send", "model.bin", "--to", "ray_node_3", "--overwrite"]) == 0
    assert (cluster.root(3) / "model.bin").read_bytes() == content
    capsys.readouterr()


def test_what_is_there_is_not_sent_again(cluster: Stage, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.bin").write_bytes(content)
    assert run(["send", "model.bin", "--to", "ray_node_2"]) == 0
    assert run(["send", "model.bin", "--to", "ray_node_2"]) == 0
    assert "all of it was there before" in capsys.readouterr().out


def test_a_source_that_a_node_does_not_have_fails_with_its_name(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["send", "ray_node_1:nothing", "--to", "ray_node_2"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "✗ there is no " in shown.err
    assert "nothing" in shown.err


def test_a_node_that_is_lost_is_a_problem_of_its_own(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").write_text("x")
    cluster.lost.add("ray_node_1")
    assert run(["send", "ray_node_1:x", "--to", "ray_node_2"]) == 1
    assert "✗ ray_node_1 is not there\n  the cluster takes it for dead\n→ ws nodes" in capsys.readouterr().err


def test_json_is_an_event_a_line_and_nothing_else(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").write_text("x")
    assert run(["send", "a", "--to", "ray_node_1", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "progress"] == [
        "started",
        "planned",
        "recipient_done",
        "finished",
    ]
    done = events[-2]["receipt"]
    assert (done["bytes"], done["place"], done["plane"]) == (1, str(cluster.root(1) / "a"), "stream")


# Fetching


def test_a_file_comes_here(cluster: Stage, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (cluster.root(3) / "result.bin").write_bytes(content)
    assert run(["fetch", "ray-b:result.bin", "."]) == 0
    assert Path("result.bin").read_bytes() == content
    assert "✓ here: 293.0 KiB in " in capsys.readouterr().out
    assert run(["fetch", "ray-b:result.bin", "new/name.bin"]) == 0
    assert Path("new/name.bin").read_bytes() == content
    capsys.readouterr()


# Wrong use: told before anything is sent


@pytest.mark.parametrize(
    ("argv", "told", "mend"),
    [
        (["send"], "SRC", "--help"),
        (["send", "a"], "nobody receives it", "--all"),
        (["send", "a", "--to", "ray_node_1", "--all"], "exclude each other", "leave one"),
        (["send", "none", "--all"], "there is no file", "NODE:PATH"),
        (["send", "ray_node_1:", "--all"], "names no path", "ray_node_1:model.bin"),
        (["send", "ray_node_1:x", "--to", "ray-cpu"], "is the sender", "another node"),
        (["send", "a", "--to", "ray-gpo"], "there is no node 'ray-gpo'", "did you mean ray-gpu?"),
        (["send", "ray-gpo:x", "--to", "ray-gpu"], "there is no node 'ray-gpo'", "did you mean ray-gpu?"),
        (["send", "a", "--to", "here"], "can't be a recipient", "ws fetch"),
        (["send", "a", "a", "--all", "--dest", "name"], "can't be the name of 2 sources", "name/"),
        (["send", "a", "--all", "--limit", "fast"], "'fast' is no size", "50M"),
        (["send", "a", "--all", "--plane", "air"], "air", "--help"),
        (["send", "a", "--all", "--hash", "md5"], "md5", "--help"),
        (["fetch", "a", "."], "names no node", "ws fetch ray_node_1"),
        (["fetch", "nope:x", "."], "there is no node 'nope'", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_is_wrong_use(
    cluster: Stage, capsys: pytest.CaptureFixture[str], argv: list[str], told: str, mend: str
) -> None:
    Path("a").write_text("x")
    assert run(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert mend in shown.err
    assert history() == []


def test_the_same_node_twice_receives_once(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").write_text("x")
    assert run(["send", "a", "--to", "ray-gpu", "--to", "ray_node_2"]) == 0
    shown = capsys.readouterr()
    assert "! ray_node_2 is named twice" in shown.err
    assert shown.out.count("✓") == 1


# What is kept


def test_all_that_it_takes_to_run_it_again_is_kept(cluster: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a").write_text("x")
    Path("token").write_text("secret")
    assert run(["send", "a", "--to", "ray-gpu", "--address", "ray://x:1", "--token-file", "token", "--limit", "50M"]) == 0
    assert cluster.connected == [Cluster("ray://x:1", Path("token"))]
    [record] = history()
    assert record.options["source"] == {"node": "here", "path": str(Path("a").absolute())}
    assert record.options["recipients"] == ["ray_node_2"]
    assert record.options["names"] == {"ray_node_2": "ray-gpu"}
    assert record.options["limit"] == 50_000_000
    assert record.options["address"] == cluster.where
    assert Cluster.of(record.options) == Cluster(cluster.where, Path("token").absolute())
    assert "secret" not in json.dumps(record.as_json())
    capsys.readouterr()


def test_a_transfer_goes_on_without_a_history(
    cluster: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WS_STATE", str(tmp_path / "file" / "state"))
    Path("a").write_text("x")
    assert run(["send", "a", "--to", "ray_node_1"]) == 0
    assert run(["fetch", "ray_node_1:a", "b"]) == 0
    assert Path("b").read_text() == "x"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("! not in `ws transfers`, or not all of it: the history of transfers in ")
    assert last.endswith("; make it writable, or move it away if it is damaged; WS_STATE names another folder")
    assert run(["transfers"]) == 4  # who looks is told
    capsys.readouterr()


# Ends


@pytest.mark.parametrize(
    ("asked", "keep"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)], ids=str
)
def test_who_is_asked_to_stop_cancels_in_order(tmp_path: Path, asked: signal.Signals, keep: bool) -> None:
    with sending(tmp_path, *(["--keep-partial"] if keep else [])) as process:
        assert process.stderr
        assert process.stdout
        process.send_signal(asked)
        rest = process.stderr.read()
        assert process.wait(120) == 128 + asked, rest
        assert process.stdout.read() == ""
    assert "cancelling; Ctrl-C again ends at once" in rest
    assert ("what came so far stays" if keep else "nothing unfinished is left") in rest
    assert "Traceback" not in rest
    left = [path.name for path in (tmp_path / "cluster" / "ray_node_1").iterdir()]
    assert ("big.bin.part" in left) is keep
    assert "big.bin" not in left
    with closing(History(tmp_path / "cluster" / "state")) as kept:
        assert [record.state for record in kept.transfers()] == ["cancelled"]


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_output_that_nobody_reads_cancels_in_order(tmp_path: Path, unread: str) -> None:
    with sending(tmp_path, "--limit", "8M", *(["--json"] if unread == "stdout" else [])) as process:
        assert process.stderr
        assert process.stdout
        closed, other = process.stdout, process.stderr
        if unread == "stderr":
            closed, other = other, closed
        closed.close()
        assert process.wait(120) == 141
        assert other.read() == ""
    assert list((tmp_path / "cluster" / "ray_node_1").iterdir()) == []
    with closing(History(tmp_path / "cluster" / "state")) as kept:
        assert [record.state for record in kept.transfers()] == ["cancelled"]


def test_output_that_can_not_be_written_cancels_in_order(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full, started(tmp_path, "--json", stdout=full) as process:
        assert process.stderr
        rest = process.stderr.read()
        assert process.wait(120) == 4, rest
    assert rest.splitlines() == ["✗ what happens can't be written down", "  [Errno 28] No space left on device"]


def test_after_a_ctrl_c_at_the_end_of_a_source_none_is_begun(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _INTERRUPTED_AT_THE_END, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    with closing(History(tmp_path / "state")) as kept:
        assert [(Path(record.source).name, record.state) for record in kept.transfers()] == [("a", "done")]


_INTERRUPTED_AT_THE_END = """
import os, pytest, signal, sys
from pathlib import Path
from tests.cli.transfer_stage import stage
from ws.cli import run
from ws.transfer.history import History

record = History.record
def interrupted(self, event):
    record(self, event)
    if event.kind == "finished":
        os.kill(os.getpid(), signal.SIGINT)
History.record = interrupted

folder = Path(sys.argv[1])
with stage(folder, pytest.MonkeyPatch()):
    for name in "ab":
        (folder / name).write_text(name)
    code = run(["send", str(folder / "a"), str(folder / "b"), "--to", "ray_node_1"])
sys.exit(code)
"""
_STUCK = """
import sys, threading
from pathlib import Path
from tests.transfer.made_up import started
from ws.cli.transfer_run import Run
from ws.cli.transfer_view import PeopleView
from ws.transfer.history import History

def work(on_event):
    on_event(started())
    threading.Event().wait()

Run(History(Path(sys.argv[1])), PeopleView(), {}, None).run(work)
"""


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", _STUCK, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "transfer 01234567" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "cancelling; Ctrl-C again ends at once\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130


def test_on_a_terminal_each_recipient_has_its_line(
    cluster: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a").write_text("x")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert run(["send", "a", "--to", "ray-gpu"]) == 0
    assert re.search(r"ray_node_2 .* % +[01] B of 1 B", terminal.getvalue())
    assert capsys.readouterr().out.startswith("✓ ray_node_2: 1 B in ")
