"""A target that is killed, a disk that is full or can't be written: for real."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.onnode.copying import CHUNK, Copy, content, copying, make_tree, names, picture, small_disk
from ws.transfer.onnode.journal import Journal
from ws.transfer.onnode.problems import TransferProblem

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

# For each (target, n): a child copies, and ends itself with SIGKILL before its n-th call to the system that changes
# something. Prints how many calls each child made that was not killed, and nothing for one that was.
_KILLED = """
import json, os, signal, sys, traceback
from pathlib import Path
from tests.transfer.onnode.copying import Copy
source, jobs, overwrite, user = json.loads(sys.argv[1])
left = 0

def counted(call):
    def before(*arguments, **named):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return before

def copy_to(target):
    if user:
        os.setgid(user)
        os.setuid(user)
    for name in ("pwrite", "write", "link", "unlink", "rename", "replace", "mkdir", "rmdir", "symlink", "utime", "fchmod",
                 "ftruncate", "close"):
        setattr(os, name, counted(getattr(os, name)))
    copy = Copy(Path(source), Path(target), overwrite=overwrite)
    try:
        copy.run()
    finally:
        copy.close()

for target, moment in jobs:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status) and status:
            sys.exit(1)
        continue
    try:
        left = moment
        copy_to(target)
        print(moment - left, flush=True)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
"""


def run_killed(source: Path, jobs: list[tuple[Path, int]], *, overwrite: bool = False, user: int = 0) -> list[int]:
    """How many calls those made that were not killed."""
    told = json.dumps([str(source), [(str(target), moment) for target, moment in jobs], overwrite, user])
    run = subprocess.run([sys.executable, "-c", _KILLED, told], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [int(line) for line in run.stdout.split()]


def kill_at(source: Path, target: Path, moment: int) -> None:
    assert run_killed(source, [(target, moment)]) == []


def kill_at_moments(source: Path, out: Path, seed: int, count: int = 20) -> Iterator[Path]:
    """Targets whose writers were killed, each at another moment."""
    (calls,) = run_killed(source, [(out / "whole", 0)])
    targets = {out / f"copy{moment}": moment for moment in moments(calls, seed, count)}
    assert run_killed(source, list(targets.items())) == []
    yield from targets


def leftovers(target: Path) -> list[str]:
    return [name for name in names(target.parent) if name.startswith(f"{target.name}.")]


def moments(calls: int, seed: int, count: int = 20) -> list[int]:
    """Anywhere, and at each of the last calls, among which are those that publish."""
    chance = random.Random(seed)
    return sorted({chance.randrange(1, calls) for _ in range(count - 8)} | {calls - back for back in range(8)})


def test_a_file_is_whole_or_absent_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    source, out = tmp_path / "file", tmp_path / "out"
    source.write_bytes(content(6 * CHUNK + 100, 5))
    out.mkdir()
    for target in kill_at_moments(source, out, 1):
        if target.exists():
            assert target.read_bytes() == source.read_bytes()
        with copying(source, target) as again:
            again.run()
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_mtime_ns == source.stat().st_mtime_ns
        assert leftovers(target) == []


def test_a_folder_is_whole_or_absent_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    source, out = tmp_path / "top", tmp_path / "out"
    make_tree(source)
    out.mkdir()
    wanted = picture(source)
    for target in kill_at_moments(source, out, 2):
        if target.exists():
            assert picture(target) == wanted
        with copying(source, target) as again:
            again.run()
        assert picture(target) == wanted
        assert leftovers(target) == []


def test_files_of_a_folder_that_is_there_are_old_or_new_whenever_the_writer_is_killed(tmp_path: Path) -> None:
    source, out = tmp_path / "top", tmp_path / "out"
    make_tree(source)
    wanted = {path: held[2] for path, held in picture(source).items()}
    old = {"two": b"old", "inner/20": b"old, too", "inner/21": (source / "inner" / "21").read_bytes()}

    def begin(target: Path) -> Path:
        (target / "inner").mkdir(parents=True)
        for path, data in old.items():
            (target / path).write_bytes(data)
        return target

    (calls,) = run_killed(source, [(begin(out / "whole"), 0)], overwrite=True)
    chosen = {*moments(calls, 3), *moments(calls - 60, 4, 9), *moments(calls - 120, 5, 9)}
    targets = {begin(out / f"copy{moment}"): moment for moment in sorted(chosen)}
    assert run_killed(source, list(targets.items()), overwrite=True) == []
    for target in targets:
        for path, (_, _, held) in picture(target).items():
            assert held in {wanted[path], old.get(path)}, path
        with copying(source, target, overwrite=True) as again:
            again.run()
        assert {path: held[2] for path, held in picture(target).items()} == wanted
        assert leftovers(target) == []


def test_a_killed_writer_loses_what_was_in_flight_and_no_more(tmp_path: Path) -> None:
    source, target = tmp_path / "file", tmp_path / "copy"
    source.write_bytes(content(40 * CHUNK, 6))
    (calls,) = run_killed(source, [(tmp_path / "whole", 0)])
    kill_at(source, target, calls // 2)
    with copying(source, target) as again:
        again.sink.prepare()
        missing = list(again.sink.missing())
        assert missing == list(range(missing[0], 40))
        assert missing[0] >= 15
        again.pass_chunks()
        again.sink.publish(again.reader.digests())
    assert target.read_bytes() == source.read_bytes()


@needs_root
def test_too_small_a_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(content(3 << 20, 1))
    with small_disk(tmp_path / "disk", "1m") as disk, copying(source, disk / "new" / "copy", root=disk) as copy:
        with pytest.raises(TransferProblem) as caught:
            copy.sink.prepare()
        assert caught.value.code == "no-space"
        assert "needs 3.0 MiB" in caught.value.why
        assert str(disk) in caught.value.why
        assert "free 2.0 MiB there" in caught.value.mend
        assert names(disk) == []


@needs_root
@pytest.mark.parametrize("kind", ["sparse file", "folder"])
def test_a_disk_that_fills_meanwhile_fails_cleanly_and_can_be_resumed(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "folder":
        source.mkdir()
        for number in range(40):
            (source / str(number)).write_bytes(content(50_000, number))
    else:
        with source.open("wb") as sparse:  # no room is reserved for it
            sparse.truncate(6 << 20)
            sparse.write(content(2 << 20, 2))
    with small_disk(tmp_path / "disk", "4m") as disk:
        first = Copy(source, disk / "copy", keep_partial=True)
        first.sink.prepare()
        (disk / "other").write_bytes(bytes(3 << 20))
        with pytest.raises(TransferProblem) as caught:
            first.pass_chunks()
        assert caught.value.code == "no-space"
        assert "free" in caught.value.mend
        done = first.sink.done_bytes
        assert done > 0
        first.close(discard=True)
        (disk / "other").unlink()
        with copying(source, disk / "copy") as second:
            second.sink.prepare()
            assert second.sink.done_bytes == done
            second.pass_chunks()
            second.sink.publish(second.reader.digests())
        assert names(disk) == ["copy"]
        if kind == "folder":
            assert picture(disk / "copy") == picture(source)
        else:
            assert (disk / "copy").read_bytes() == source.read_bytes()


def test_a_journal_that_finds_no_room_is_told_with_the_name_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "file"
    source.write_bytes(content(3 * CHUNK, 1))
    with copying(source, tmp_path / "copy") as copy:
        copy.sink.prepare()
        copy.pass_chunks([0])
        monkeypatch.setattr(Journal, "_append", lambda *_: os.write(full, b"x"))
        with Path("/dev/full").open("wb", buffering=0) as device:
            full = device.fileno()
            with pytest.raises(TransferProblem) as caught:
                copy.pass_chunks([1])
        assert caught.value.code == "no-space"
        assert str(tmp_path / "copy") in caught.value.what
        assert list(copy.sink.missing()) == [1, 2]


@needs_root
def test_a_disk_that_is_read_only_is_told(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(content(3 * CHUNK, 1))
    with small_disk(tmp_path / "disk", "4m") as disk:
        started = Copy(source, disk / "started")
        started.sink.prepare()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True, check=False)
        started.close()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for target in (disk / "copy", disk / "new" / "copy", disk / "started"):
            with copying(source, target, root=disk) as copy:
                with pytest.raises(TransferProblem) as caught:
                    copy.sink.prepare()
                assert caught.value.code == "read-only"
                assert "read-only file system" in caught.value.why


@needs_root
def test_one_who_is_not_root_resumes_over_modes_that_bar_the_way() -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source, out = folder / "top", folder / "out"
        make_tree(source)
        (source / "inner" / "deep" / "big").chmod(0o400)
        (source / "inner" / "29").chmod(0o400)
        (source / "inner" / "deep").chmod(0o500)
        out.mkdir()
        folder.chmod(0o755)
        for path in [out, source, *source.rglob("*")]:
            os.chown(path, nobody, nobody, follow_symlinks=False)
        (calls,) = run_killed(source, [(out / "whole", 0)], user=nobody)
        targets = {out / f"copy{back}": calls - back for back in range(1, 30, 2)}
        assert run_killed(source, list(targets.items()), user=nobody) == []
        for back, target in enumerate(targets):
            journal = target.with_name(f"{target.name}.part.journal")
            if not target.exists() and journal.exists() and back % 2:
                os.truncate(journal, journal.stat().st_size - 40)  # one chunk must be fetched again
        half = len(targets) // 2
        run_killed(source, [(target, 0) for target in list(targets)[:half]], user=nobody)
        os.utime(source, ns=(1, 1))  # another content: the others start over
        with_file = [target for target in list(targets)[half:] if not target.exists()]
        run_killed(source, [(target, 0) for target in with_file], user=nobody)
        for target in targets:
            assert {**picture(target), ".": ()} == {**picture(source), ".": ()}
            assert leftovers(target) == [] or target not in with_file
