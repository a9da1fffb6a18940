"""The journal says what it was told, whatever a crash left of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ws.transfer.onnode.journal import Journal
from ws.transfer.onnode.problems import TransferProblem


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def journal(folder: int, content: str = "c", name: str = "j") -> Journal:
    return Journal(folder, name, content=content, chunk_size=8, count=100)


def digest(chunk: int) -> bytes:
    return bytes([chunk + 1]) * 32


def test_what_is_had_is_there_again_and_what_was_dropped_is_not(folder: int) -> None:
    one = journal(folder)
    assert one.open() is None
    assert not one.found
    one.start()
    for chunk in (3, 1, 2):
        one.add(chunk, digest(chunk))
    one.drop(1)
    one.close()
    two = journal(folder)
    assert two.open() == {3: digest(3), 2: digest(2)}
    assert two.found
    two.add(4, digest(4))
    two.close()
    other = journal(folder, "other")
    assert other.open() is None
    assert other.found
    other.remove()
    assert journal(folder).open() is None


def test_one_writes_at_a_time(folder: int, tmp_path: Path) -> None:
    one = journal(folder)
    one.open()
    with pytest.raises(TransferProblem) as caught:
        journal(folder).open()
    assert caught.value.code == "busy"
    one.remove()
    assert not (tmp_path / "j").exists()
    two = journal(folder)
    assert two.open() is None
    two.close()


def test_a_file_that_is_no_journal_is_left_alone(folder: int, tmp_path: Path) -> None:
    (tmp_path / "j").write_text("my own notes")
    for _ in range(2):
        with pytest.raises(TransferProblem) as caught:
            journal(folder).open()
        assert caught.value.code == "exists"
    assert (tmp_path / "j").read_text() == "my own notes"
    (tmp_path / "l").symlink_to("/etc/hostname")
    with pytest.raises(TransferProblem) as caught:
        journal(folder, name="l").open()
    assert caught.value.code == "link-refused"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 800), flipped=st.none() | st.integers(0, 799))
def test_whatever_a_crash_left_nothing_is_claimed_that_was_not_written(
    folder: int, tmp_path: Path, cut: int, flipped: int | None
) -> None:
    one = journal(folder)
    one.open()
    one.start()
    for chunk in range(15):
        one.add(chunk, digest(chunk))
    one.close()
    data = bytearray((tmp_path / "j").read_bytes())
    head = data.index(b"\n") + 1
    if flipped is not None and flipped < len(data) - head:
        data[head + flipped] ^= 1
    (tmp_path / "j").write_bytes(data[:cut])
    two = journal(folder)
    known = two.open()
    whole = max(0, min(cut, len(data)) - head) // 40
    if flipped is not None:
        whole = min(whole, flipped // 40)
    if cut < head:
        assert known is None
        two.start()
        known = {}
    assert known == {chunk: digest(chunk) for chunk in range(whole)}
    two.add(50, digest(50))
    two.close()
    again = journal(folder)
    assert again.open() == {**known, 50: digest(50)}
    again.remove()
