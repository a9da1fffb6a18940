"""Chunks tile every file exactly once."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ws.transfer.onnode.entries import Entry
from ws.transfer.onnode.layout import Layout, root_hash

kinds = st.sampled_from(["file", "file", "file", "dir", "link"])
sizes = st.one_of(st.integers(0, 30), st.integers(90, 110), st.integers(0, 1000))


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    drawn = draw(st.lists(st.tuples(kinds, sizes), max_size=40))
    return [Entry(str(index), kind, size if kind == "file" else 0) for index, (kind, size) in enumerate(drawn)]


@given(entries())
def test_the_segments_tile_every_file_exactly_once(listed: list[Entry]) -> None:
    layout = Layout(listed, chunk_size=100)
    covered: dict[int, list[tuple[int, int]]] = {}
    for chunk in range(layout.count):
        segments = layout.segments(chunk)
        assert sum(length for _, _, length in segments) == layout.length(chunk) <= 100
        assert layout.first_segment(chunk)[:2] == segments[0][:2]
        assert layout.is_big(chunk) == (listed[segments[0][0]].size > 100)
        for index, offset, length in segments:
            covered.setdefault(index, []).append((offset, length))
            assert chunk in layout.chunks_of(index)
    assert layout.total == sum(entry.size for entry in listed)
    for index, entry in enumerate(listed):
        position = 0
        for offset, length in covered.get(index, []):
            assert offset == position
            assert length > 0
            position += length
        assert position == entry.size
        assert len(layout.chunks_of(index)) == len(covered.get(index, []))


@given(entries())
def test_small_files_travel_together(listed: list[Entry]) -> None:
    layout = Layout(listed, chunk_size=100)
    for chunk in range(layout.count - 1):
        if not layout.is_big(chunk) and not layout.is_big(chunk + 1):
            assert layout.length(chunk) + layout.segments(chunk + 1)[0][2] > 100


def test_ten_thousand_small_files_are_a_few_chunks() -> None:
    assert Layout([Entry(str(number), "file", 4096) for number in range(10_000)]).count == 5


def test_the_root_hash_is_one_that_a_user_can_check(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "file").write_bytes(content)
    whole = Layout([Entry("", "file", len(content))])
    assert root_hash(whole, hashlib.sha256(content).digest()) == hashlib.sha256(content).hexdigest()
    pieces = [content[start : start + 100_000] for start in range(0, len(content), 100_000)]
    hashes = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
    # Each chunk's hash as hexadecimal, turned into bytes, hashed again.
    recipe = (
        "split --bytes=100000 --filter='sha256sum | cut -c-64' file | "
        "python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))' | sha256sum | cut -c-64"
    )
    told = subprocess.run(recipe, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert root_hash(Layout([Entry("", "file", len(content))], 100_000), hashes) == told
    assert root_hash(Layout([Entry("", "file", 0)]), b"") == hashlib.sha256(b"").hexdigest()
