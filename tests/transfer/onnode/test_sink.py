"""A target: whole or absent under its final name, and what has arrived is not lost."""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
from pathlib import Path

import pytest

from tests.transfer.onnode.copying import CHUNK, Copy, content, copying, make_tree, names, pass_chunk, picture
from ws.transfer.onnode.hashing import digest_of
from ws.transfer.onnode.layout import root_hash
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.sink import Sink


@pytest.fixture(autouse=True, params=["sha256", "blake3"])
def algorithm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("tests.transfer.onnode.copying.algorithm", request.param)
    return str(request.param)


def problem_of(action: object, *arguments: object, **named: object) -> TransferProblem:
    with pytest.raises(TransferProblem) as caught:
        action(*arguments, **named)  # type: ignore[operator]
    return caught.value


def run(source: Path, target: Path, **options: int) -> dict[str, object]:
    with copying(source, target, **options) as copy:
        return copy.run()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    make_tree(tmp_path / "top")
    return tmp_path / "top"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(content(5 * CHUNK + 77, 1))
    (tmp_path / "file").chmod(0o751)
    os.utime(tmp_path / "file", ns=(1, 1_500_000_000_123_456_789))
    return tmp_path / "file"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_file_of_any_length_arrives_as_it_was(tmp_path: Path, out: Path, length: int, algorithm: str) -> None:
    source, data = tmp_path / "file", content(length, 3)
    source.write_bytes(data)
    with copying(source, out / "new") as copy:
        receipt = copy.run()
        assert (receipt["algorithm"], receipt["hash"]) == (algorithm, root_hash(copy.layout, copy.reader.digests()))
        pieces = [data[start : start + CHUNK] for start in range(0, length, CHUNK)]
        assert copy.reader.digests() == b"".join(digest_of(algorithm, piece) for piece in pieces)
    assert (receipt["bytes"], receipt["files"], receipt["path"]) == (length, 1, str(out / "new"))
    assert names(out) == ["new"]
    assert (out / "new").read_bytes() == source.read_bytes()
    assert (out / "new").stat().st_mtime_ns == source.stat().st_mtime_ns


def test_a_folder_arrives_as_it_was(top: Path, out: Path) -> None:
    receipt = run(top, out / "copy")
    assert picture(out / "copy") == picture(top)
    assert names(out) == ["copy"]
    assert (out / "copy" / "sparse").stat().st_blocks * 512 < 500_000
    assert receipt["files"] == 35


def test_nothing_has_the_final_name_before_it_is_published(top: Path, out: Path) -> None:
    with copying(top, out / "x" / "copy", root=out) as copy:
        copy.sink.prepare()
        copy.pass_chunks()
        assert names(out / "x") == ["copy.part", "copy.part.journal"]
        assert copy.sink.done_bytes == copy.sink.total
    assert names(out) == []  # the folder made for it is gone, too


def test_chunks_may_come_in_any_order_from_several_threads(top: Path, out: Path) -> None:
    with copying(top, out / "copy") as copy:
        copy.sink.prepare()
        chunks = list(copy.sink.missing())
        random.Random(1).shuffle(chunks)
        threads = [threading.Thread(target=copy.pass_chunks, args=(chunks[start::3],)) for start in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(copy.sink.missing()) == []
        copy.sink.publish(copy.reader.digests())
    assert picture(out / "copy") == picture(top)


def test_a_target_is_served_while_it_is_written_and_after(top: Path, out: Path) -> None:
    with copying(top, out / "first") as one, copying(top, out / "second") as two:
        one.sink.prepare()
        two.sink.prepare()
        relay = threading.Thread(target=relayed, args=(one.sink, two.sink, one.layout.count))
        relay.start()
        one.pass_chunks(reversed(list(one.sink.missing())))
        relay.join()
        hashes = one.reader.digests()
        one.sink.publish(hashes)
        two.sink.publish(hashes)
        with copying(top, out / "third") as three:
            three.sink.prepare()
            relayed(one.sink, three.sink, one.layout.count)
            three.sink.publish(hashes)
    for name in ("first", "second", "third"):
        assert picture(out / name) == picture(top)


def relayed(source: Sink, target: Sink, count: int) -> None:
    for chunk in range(count):
        assert source.wait_for(chunk, 60)
        pass_chunk(source, target, chunk)


def test_waiting_ends_when_the_target_is_closed(file: Path, out: Path) -> None:
    with copying(file, out / "copy") as copy:
        copy.sink.prepare()
        assert not copy.sink.wait_for(0, 0)
        closing = threading.Thread(target=copy.sink.close)
        closing.start()
        assert not copy.sink.wait_for(0, 60)
        closing.join()


def test_closing_waits_for_who_is_writing_and_nothing_is_left(top: Path, out: Path) -> None:
    with copying(top, out / "copy") as copy:
        copy.sink.prepare()
        small = next(chunk for chunk in range(copy.layout.count) if not copy.layout.is_big(chunk))
        writer = copy.sink.writer(small)
        closing = threading.Thread(target=copy.sink.close, args=(True,))
        closing.start()
        assert not copy.sink.wait_for(small, 60)  # it is being closed
        closing.join(0.1)
        for piece in copy.reader.pieces(small):
            writer.write(piece)
        assert problem_of(writer.commit, copy.reader.digest(small)).code == "busy"
        closing.join()
        assert names(out) == []


def test_a_damaged_chunk_is_not_taken(file: Path, out: Path) -> None:
    with copying(file, out / "copy") as copy:
        copy.sink.prepare()
        writer = copy.sink.writer(1)
        assert problem_of(copy.sink.writer, 1).code == "busy"
        data = bytearray(b"".join(bytes(piece) for piece in copy.reader.pieces(1)))
        data[100] ^= 1
        writer.write(data)
        assert problem_of(writer.commit, copy.reader.digest(1)).code == "bad-chunk"
        assert list(copy.sink.missing()) == list(range(6))
        short = copy.sink.writer(1)
        short.write(data[:100])
        assert problem_of(short.commit, copy.reader.digest(1)).code == "bad-chunk"
        long = copy.sink.writer(1)
        assert problem_of(long.write, bytes(CHUNK + 1)).code == "bad-chunk"
        long.abort()
        assert problem_of(copy.sink.put_hole, 1, copy.reader.digest(1)).code == "bad-chunk"
        copy.pass_chunks()
        assert problem_of(copy.sink.writer, 1).code == "busy"
        copy.sink.publish(copy.reader.digests())
    assert (out / "copy").read_bytes() == file.read_bytes()


def test_chunks_that_are_not_the_origins_are_dropped_and_stay_so_after_a_crash(file: Path, out: Path) -> None:
    copy = Copy(file, out / "copy")
    copy.sink.prepare()
    copy.pass_chunks()
    hashes = bytearray(copy.reader.digests())
    hashes[64] ^= 1
    assert problem_of(copy.sink.publish, bytes(hashes)).code == "bad-chunk"
    assert list(copy.sink.missing()) == [2]
    assert problem_of(copy.sink.publish, copy.reader.digests()).code == "stalled"
    assert problem_of(copy.sink.verify, b"short").code == "bad-chunk"
    copy.close()
    with copying(file, out / "copy") as again:
        again.sink.prepare()
        assert list(again.sink.missing()) == [2]


def test_what_had_arrived_is_taken_up_again_if_it_is_still_right(top: Path, out: Path) -> None:
    first = Copy(top, out / "copy")
    first.sink.prepare()
    chunks = list(first.sink.missing())
    first.pass_chunks(chunks[::2])
    first.close()
    (out / "copy.part" / "inner" / "05").unlink(missing_ok=True)
    with copying(top, out / "copy") as second:
        second.sink.prepare()
        missing = set(second.sink.missing())
        assert set(range(1, second.layout.count, 2)) <= missing
        assert len(missing) < second.layout.count
        assert second.sink.done_bytes == sum(
            second.layout.length(chunk) for chunk in range(second.layout.count) if chunk not in missing
        )
        second.pass_chunks()
        second.sink.publish(second.reader.digests())
    assert picture(out / "copy") == picture(top)


def test_a_failure_to_open_it_leaves_what_had_arrived(top: Path, out: Path) -> None:
    """Whatever it is, it may pass, and the next try takes up the rest."""
    with copying(top, out / "copy", keep_partial=True) as first:
        first.sink.prepare()
        first.pass_chunks(list(first.sink.missing())[::2])
        done = first.sink.done_bytes
    inner = out / "copy.part" / "inner"
    inner.rename(out / "aside")
    inner.write_text("in the way")
    with copying(top, out / "copy") as second:
        problem_of(second.sink.prepare)
    inner.unlink()
    (out / "aside").rename(inner)
    with copying(top, out / "copy") as third:
        third.sink.prepare()
        assert third.sink.done_bytes == done


def test_another_content_starts_over(file: Path, out: Path) -> None:
    first = Copy(file, out / "copy")
    first.sink.prepare()
    first.pass_chunks([0, 1])
    first.close()
    file.write_bytes(content(2 * CHUNK, 9))
    run(file, out / "copy")
    assert (out / "copy").read_bytes() == file.read_bytes()


def test_another_hash_starts_over(file: Path, out: Path, algorithm: str) -> None:
    with copying(file, out / "copy", keep_partial=True) as copy:
        copy.sink.prepare()
        copy.pass_chunks([0, 1])
    with copying(file, out / "copy", keep_partial=True) as same:
        same.sink.prepare()
        assert list(same.sink.missing()) == [2, 3, 4, 5]
    other = "sha256" if algorithm == "blake3" else "blake3"
    with copying(file, out / "copy", algorithm=other) as copy:
        copy.sink.prepare()
        assert list(copy.sink.missing()) == list(range(6))
        copy.pass_chunks()
        copy.sink.publish(copy.reader.digests())
    assert (out / "copy").read_bytes() == file.read_bytes()


def test_two_transfers_of_one_target_do_not_meet(file: Path, out: Path) -> None:
    with copying(file, out / "copy") as one:
        one.sink.prepare()
        other = Copy(file, out / "copy")
        assert problem_of(other.sink.prepare).code == "busy"
        other.close(discard=True)
        one.pass_chunks()
        one.sink.publish(one.reader.digests())
    assert (out / "copy").read_bytes() == file.read_bytes()


def test_what_is_not_ours_is_not_touched(file: Path, out: Path) -> None:
    (out / "copy.part").write_text("someone's")
    assert problem_of(run, file, out / "copy").code == "exists"
    assert names(out) == ["copy.part"]
    (out / "copy.part").unlink()
    (out / "copy.part.journal").write_text("someone's")
    assert problem_of(run, file, out / "copy").code == "exists"
    assert (out / "copy.part.journal").read_text() == "someone's"


def test_an_existing_file_is_kept_skipped_or_replaced(file: Path, out: Path) -> None:
    (out / "copy").write_bytes(b"mine")
    assert problem_of(run, file, out / "copy").code == "exists"
    same_size = bytes(len(file.read_bytes()))
    (out / "copy").write_bytes(same_size)
    assert problem_of(run, file, out / "copy").code == "exists"
    assert (out / "copy").read_bytes() == same_size
    assert names(out) == ["copy"]
    assert run(file, out / "copy", overwrite=True)["identical"] == 0
    assert (out / "copy").read_bytes() == file.read_bytes()
    os.utime(out / "copy", ns=(7, 7))
    with copying(file, out / "copy") as copy:
        copy.sink.prepare()
        assert copy.sink.identical_candidates() == [0]
        assert copy.sink.offer_existing(copy.reader.digests()) == [0]
        assert list(copy.sink.missing()) == []
        assert copy.sink.publish(copy.reader.digests())["identical"] == 1
    assert (out / "copy").stat().st_mtime_ns == 7  # left as it was
    assert names(out) == ["copy"]


def test_a_file_that_appears_meanwhile_is_not_replaced(file: Path, out: Path) -> None:
    with copying(file, out / "copy") as copy:
        copy.sink.prepare()
        copy.pass_chunks()
        (out / "copy").write_text("mine")
        assert problem_of(copy.sink.publish, copy.reader.digests()).code == "exists"
    assert (out / "copy").read_text() == "mine"
    assert names(out) == ["copy"]


def test_another_file_under_the_parts_name_is_not_published(file: Path, top: Path, out: Path) -> None:
    """As `mv`, or another program, may put it there."""
    for source, overwrite in ((file, False), (file, True), (top, False)):
        with copying(source, out / "copy", overwrite=overwrite) as copy:
            copy.sink.prepare()
            copy.pass_chunks()
            (out / "copy.part").rename(out / "ours")
            (out / "copy.part").mkdir() if source is top else (out / "copy.part").write_bytes(b"another")
            (out / "copy.part").chmod(0o707)
            problem = problem_of(copy.sink.publish, copy.reader.digests())
            assert (problem.code, "copy.part" in problem.what) == ("exists", True)
        assert names(out) == ["copy.part", "ours"]  # no journal: the next try knows that it is someone else's
        assert (out / "copy.part").stat().st_mode & 0o777 == 0o707
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", ["inner/03", "two"])
@pytest.mark.parametrize("merged", [False, True])
def test_a_part_that_somebody_took_a_file_from_is_not_whole(top: Path, out: Path, name: str, merged: bool) -> None:
    """As what cleans folders up does; sent again, only what is missing is fetched."""
    if merged:
        (out / "top").mkdir()
    first = Copy(top, out / "top")
    first.sink.prepare()
    first.pass_chunks()
    (out / "top.part" / name).unlink()
    problem = problem_of(first.sink.publish, first.reader.digests())
    assert (problem.code, name in problem.what) == ("no-such-file", True)
    first.close()
    assert names(out) == (["top"] if merged else []) + ["top.part", "top.part.journal"]
    with copying(top, out / "top") as copy:
        copy.sink.prepare()
        assert 0 < len(list(copy.sink.missing())) < copy.layout.count
        copy.pass_chunks()
        copy.sink.publish(copy.reader.digests())
    assert (out / "top" / name).read_bytes() == (top / name).read_bytes()


@pytest.mark.parametrize("suffix", [".part", ".part.journal"])
def test_what_another_transfer_writes_is_no_target(file: Path, out: Path, suffix: str) -> None:
    with copying(file, out / "copy") as copy:
        copy.sink.prepare()
        for overwrite in (False, True):
            problem = problem_of(run, file, out / f"copy{suffix}", overwrite=overwrite)
            assert (problem.code, "copy" in problem.why) == ("busy", True)
        copy.pass_chunks()
        copy.sink.publish(copy.reader.digests())
    assert (out / "copy").read_bytes() == file.read_bytes()
    assert names(out) == ["copy"]
    run(file, out / f"copy{suffix}")
    assert names(out) == ["copy", f"copy{suffix}"]


def test_a_transfer_that_begins_meanwhile_is_not_published_over(file: Path, top: Path, out: Path) -> None:
    for source in (file, top):
        with copying(source, out / "copy.part", overwrite=True) as early, copying(source, out / "copy") as late:
            early.sink.prepare()
            early.pass_chunks()
            late.sink.prepare()
            late.pass_chunks()
            assert problem_of(early.sink.publish, early.reader.digests()).code == "busy"
            late.sink.publish(late.reader.digests())
        assert names(out) == ["copy"]
        shutil.rmtree(out / "copy") if source is top else (out / "copy").unlink()


def test_a_file_that_could_not_be_written_again_is_still_ours(file: Path, out: Path) -> None:
    """A damaged chunk of a small file comes again, and the file has its mode already."""
    file.write_bytes(b"small")
    file.chmod(0o400)
    with copying(file, out / "copy") as copy:
        copy.sink.prepare()
        copy.pass_chunks()
        copy.sink.drop(0)
        (out / "copy.part").unlink()
        copy.pass_chunks()
        copy.sink.publish(copy.reader.digests())
    assert (out / "copy").read_bytes() == b"small"


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_and_special_files_are_never_replaced(file: Path, top: Path, out: Path, overwrite: bool) -> None:
    (out / "in").mkdir()
    (out / "link").symlink_to("in")
    os.mkfifo(out / "pipe")
    for source in (file, top):
        problem = problem_of(run, source, out / "link", overwrite=overwrite)
        assert (problem.code, problem.mend) == ("link-refused", "name what it points to")
        problem = problem_of(run, source, out / "pipe", overwrite=overwrite)
        assert (problem.code, "pipe" in problem.what) == ("not-a-file", True)
    assert names(out) == ["in", "link", "pipe"]
    (out / "in" / "inner").mkdir()
    os.mkfifo(out / "in" / "two")
    os.mkfifo(out / "in" / "link")
    (out / "in" / "inner" / "10").symlink_to("../mine")
    receipt = run(top, out / "in", overwrite=overwrite)
    assert set(receipt["kept"]) == {"two", "link", "inner/10"}  # type: ignore[call-overload]
    assert stat.S_ISFIFO((out / "in" / "two").lstat().st_mode)
    assert (out / "in" / "inner" / "10").is_symlink()


def test_a_link_that_appears_meanwhile_is_not_replaced(file: Path, out: Path) -> None:
    with copying(file, out / "copy", overwrite=True) as copy:
        copy.sink.prepare()
        copy.pass_chunks()
        (out / "copy").symlink_to("aim")
        assert problem_of(copy.sink.publish, copy.reader.digests()).code == "link-refused"
    assert names(out) == ["copy"]


def test_folders_in_a_files_place_and_links_above(file: Path, top: Path, out: Path) -> None:
    (out / "copy").mkdir()
    assert problem_of(run, file, out / "copy").code == "exists"
    with copying(file, out / "copy", overwrite=True) as copy:
        assert problem_of(copy.sink.prepare).code == "exists"
    (out / "other").write_text("mine")
    assert problem_of(run, top, out / "other").code == "exists"
    (out / "away").symlink_to("/tmp")
    with copying(file, out / "away" / "copy", root=out) as copy:
        assert problem_of(copy.sink.prepare).code == "link-refused"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_goes_into_one_that_is_there_file_by_file(top: Path, out: Path, overwrite: bool) -> None:
    there = out / "copy"
    (there / "inner").mkdir(parents=True)
    (there / "mine").write_text("mine")
    (there / "two").write_bytes((top / "two").read_bytes())  # identical, big
    (there / "exactly").write_bytes(bytes(CHUNK))  # of the same size
    (there / "inner" / "10").write_bytes((top / "inner" / "10").read_bytes())  # identical, small
    (there / "inner" / "11").write_bytes(b"shorter")
    (there / "inner" / "12").mkdir()  # a folder in a file's place
    (there / "empty folder").write_text("a file in a folder's place")
    (there / "link").symlink_to("elsewhere")
    receipt = run(top, there, overwrite=overwrite)
    taken = {"inner/12", "empty folder"} | (set() if overwrite else {"exactly", "inner/11", "link"})
    assert set(receipt["kept"]) == taken  # type: ignore[call-overload]
    assert receipt["kept_count"] == len(taken)
    assert (there / "mine").read_text() == "mine"
    now, wanted = picture(there), picture(top)
    for path, (mode, _, held) in wanted.items():
        if path not in taken | {"."}:
            assert now[path][2] == held, path
            if path not in {"two", "inner/10", "inner"}:
                assert now[path][0] == mode, path
    assert not stat.S_ISDIR((there / "empty folder").stat().st_mode)
    assert names(out) == ["copy"]


def test_links_within_an_existing_folder_lead_nowhere(top: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (out / "copy").mkdir()
    (out / "copy" / "inner").symlink_to(tmp_path / "elsewhere")
    receipt = run(top, out / "copy", overwrite=True)
    assert names(tmp_path / "elsewhere") == []
    assert "inner/07" in receipt["kept"]  # type: ignore[operator]
    assert (out / "copy" / "two").read_bytes() == (top / "two").read_bytes()


def test_a_partial_one_is_kept_where_that_is_wanted(file: Path, out: Path) -> None:
    with copying(file, out / "copy", keep_partial=True) as copy:
        copy.sink.prepare()
        copy.pass_chunks([0])
    assert names(out) == ["copy.part", "copy.part.journal"]


def test_zeros_are_written_where_an_earlier_try_left_something(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "file"
    with source.open("wb") as sparse:
        sparse.truncate(10 * CHUNK)
        sparse.seek(9 * CHUNK)
        sparse.write(b"x" * CHUNK)
    with copying(source, out / "copy") as copy:
        copy.sink.prepare()
        for chunk in (0, 1):
            writer = copy.sink.writer(chunk)
            writer.write(b"y" * CHUNK)
            writer.abort()
        pieces = copy.sink.writer(1)
        pieces.write(bytes(CHUNK))
        pieces.commit(copy.sink.zeros(CHUNK))
        copy.pass_chunks()
        assert copy.sink.is_hole(5)
        assert not copy.sink.is_hole(9)
        copy.sink.publish(copy.reader.digests())
    assert (out / "copy").read_bytes() == source.read_bytes()
    assert (out / "copy").stat().st_blocks * 512 <= 4 * CHUNK


def test_forty_gibibytes_of_nearly_nothing(tmp_path: Path, out: Path) -> None:
    with (tmp_path / "file").open("wb") as sparse:
        sparse.truncate(40 << 30)
        sparse.seek(33 << 30)
        sparse.write(b"here")
    for _ in range(2):
        copy = Copy(tmp_path / "file", out / "copy", chunk_size=8 << 20)
        copy.sink.prepare()
        copy.pass_chunks(list(copy.sink.missing())[:4000])
        copy.close()
    run(tmp_path / "file", out / "copy", chunk_size=8 << 20)
    assert (out / "copy").stat().st_size == 40 << 30
    assert (out / "copy").stat().st_blocks * 512 < 1 << 20
    with (out / "copy").open("rb") as copied:
        copied.seek(33 << 30)
        assert copied.read(5) == b"here\0"


def test_the_longest_name_there_is(file: Path, out: Path) -> None:
    run(file, out / ("ü" * 127))
    assert names(out) == ["ü" * 127]
    with copying(file, out, root=out) as copy:
        assert problem_of(copy.sink.prepare).code == "bad-name"
