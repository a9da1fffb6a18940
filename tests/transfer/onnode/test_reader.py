"""A source being served."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.transfer.onnode.copying import content, make_tree
from ws.transfer.onnode.entries import scan_here
from ws.transfer.onnode.hashing import digest_of
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.reader import Reader


def reader_of(path: Path, chunk_size: int = 64 << 10, algorithm: str = "sha256") -> Reader:
    place, listing = scan_here(str(path))
    return Reader(place, listing, Layout(listing.entries, chunk_size, algorithm))


@pytest.fixture(params=["sha256", "blake3"])
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    make_tree(tmp_path / "top")
    reader = reader_of(tmp_path / "top", algorithm=request.param)
    yield reader
    reader.close()


def joined(reader: Reader, chunk: int) -> bytes:
    return b"".join(bytes(piece) for piece in reader.pieces(chunk))


def test_chunks_are_the_files_bytes_and_hashed_as_they_are_read(source: Reader, tmp_path: Path) -> None:
    held: dict[int, bytes] = {}
    for chunk in range(source.layout.count):
        data = bytes(source.layout.length(chunk)) if source.is_hole(chunk) else joined(source, chunk)
        assert source.digest(chunk) == digest_of(source.layout.algorithm, data)
        for index, offset, length in source.layout.segments(chunk):
            assert len(held.setdefault(index, b"")) == offset
            held[index] += data[:length]
            data = data[length:]
    for index, data in held.items():
        assert (tmp_path / "top" / source.layout.entries[index].path).read_bytes() == data


def test_pieces_are_of_at_most_half_a_mebibyte(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content((3 << 20) + 5, 1))
    reader = reader_of(tmp_path / "file", 8 << 20)
    assert [len(piece) for piece in reader.pieces(0)] == [512 << 10] * 6 + [5]
    reader.close()


def test_several_threads_read_at_once(source: Reader) -> None:
    alone = [joined(source, chunk) for chunk in range(source.layout.count)]
    wrong: list[int] = []

    def read() -> None:
        for chunk in range(source.layout.count):
            if joined(source, chunk) != alone[chunk]:
                wrong.append(chunk)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_two_chunks_read_in_turns_by_one_thread_do_not_share_a_buffer(source: Reader) -> None:
    one, other = source.pieces(0), source.pieces(1)
    first, second = bytes(next(one)), next(other)
    assert first == joined(source, 0)[: len(first)]
    assert bytes(second) == joined(source, 1)[: len(second)]


def test_digests_computes_what_was_not_served(source: Reader) -> None:
    list(source.pieces(0))
    hashes = source.digests()
    assert [hashes[32 * chunk :][:32] for chunk in range(source.layout.count)] == [
        source.digest(chunk) for chunk in range(source.layout.count)
    ]
    with pytest.raises(TransferProblem, match="ended") as caught:
        source.digests(stop=lambda: True)
    assert caught.value.code == "cancelled"


def test_a_file_larger_than_memory_that_is_sparse_costs_next_to_nothing(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(40 << 30)
        file.seek(20 << 30)
        file.write(b"here")
    reader = reader_of(tmp_path / "file", 8 << 20)
    data = [chunk for chunk in range(reader.layout.count) if not reader.is_hole(chunk)]
    assert data == [(20 << 30) // (8 << 20)]
    assert len(reader.digests()) == 32 * 5120
    reader.close()


def changed(reader: Reader, chunk: int) -> TransferProblem:
    with pytest.raises(TransferProblem) as caught:
        joined(reader, chunk)
    assert caught.value.code == "source-changed"
    with pytest.raises(TransferProblem) as again:
        reader.check_unchanged()
    assert again.value.code == "source-changed"
    return caught.value


def test_a_source_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(300_000, 1))
    reader = reader_of(path)
    pieces = reader.pieces(1)
    os.truncate(path, 100_000)
    with pytest.raises(TransferProblem, match="shorter"):
        list(pieces)
    changed(reader, 4)
    with pytest.raises(TransferProblem):
        reader.digest(4)
    reader.close()


def test_a_source_that_is_written_to_is_an_error(source: Reader, tmp_path: Path) -> None:
    source.check_unchanged()
    small = next(index for index, entry in enumerate(source.layout.entries) if entry.path == "inner/08")
    path = tmp_path / "top" / "inner" / "08"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"!")
    problem = changed(source, source.layout.chunks_of(small)[0])
    assert "inner/08" in problem.what


def let_time_pass(folder: Path) -> None:
    """Until the file system's clock, which moves a few milliseconds at once, has moved."""
    (folder / "clock").touch()
    before = (folder / "clock").stat().st_ctime_ns
    while (folder / "clock").stat().st_ctime_ns == before:
        (folder / "clock").touch()


def rewrite(path: Path) -> None:
    """As `rsync --inplace --times` does: same size, and the time of the last write is put back."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_source_that_is_written_to_is_an_error_even_if_its_time_is_put_back(source: Reader, tmp_path: Path) -> None:
    let_time_pass(tmp_path)
    for name in ("inner/08", "two"):
        index = next(index for index, entry in enumerate(source.layout.entries) if entry.path == name)
        rewrite(tmp_path / "top" / name)
        assert name in changed(source, source.layout.chunks_of(index)[-1]).what


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_an_error(tmp_path: Path) -> None:
    for name in ("file", "new"):
        (tmp_path / name).write_bytes(content(100_000, len(name)))
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    reader = reader_of(tmp_path / "file")
    let_time_pass(tmp_path)
    (tmp_path / "new").rename(tmp_path / "file")
    changed(reader, 0)
    reader.close()


def test_what_is_new_in_a_folder_is_no_matter(source: Reader, tmp_path: Path) -> None:
    (tmp_path / "top" / "inner" / "new").write_text("new")
    source.digests()
    source.check_unchanged()


def test_a_source_that_is_gone_or_replaced_is_an_error(source: Reader, tmp_path: Path) -> None:
    small = next(index for index, entry in enumerate(source.layout.entries) if entry.path == "inner/09")
    path = tmp_path / "top" / "inner" / "09"
    path.unlink()
    assert "gone" in changed(source, source.layout.chunks_of(small)[0]).why
    path.symlink_to("/etc/passwd")
    with pytest.raises(TransferProblem) as caught:
        joined(source, source.layout.chunks_of(small)[0])
    assert caught.value.code == "link-refused"
    path.unlink()
    os.mkfifo(path)
    changed(source, source.layout.chunks_of(small)[0])


def test_few_files_are_open_at_once(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / "top" / f"{number:02}").mkdir(parents=True)
        (tmp_path / "top" / f"{number:02}" / "file").write_bytes(content(70_000, number))
    reader = reader_of(tmp_path / "top")
    reader.digests()
    assert 1 <= len(open_below(tmp_path)) <= 33
    reader.close()
    assert open_below(tmp_path) == []


def open_below(folder: Path) -> list[str]:
    """What this process has open there; not all of its files, as those of tests before this one may still close."""
    opened = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            opened.append(str(path.readlink()))
    return [path for path in opened if path.startswith(str(folder))]
