"""Chunks tile every file exactly once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ws.transfer.onnode.entries import Entry
from ws.transfer.onnode.hashing import digest_of
from ws.transfer.onnode.layout import Layout, root_hash

GUIDE = Path(__file__).parents[3] / "docs" / "transfer.md"
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


CONTENT = bytes(range(256)) * 1000
PIECES = [CONTENT[start : start + 100_000] for start in range(0, len(CONTENT), 100_000)]


@pytest.mark.parametrize(("algorithm", "known"), [("sha256", hashlib.sha256), ("blake3", blake3)])
def test_the_root_hash_is_of_the_content_or_of_the_chunks_hashes(algorithm: str, known: Callable[[bytes], Any]) -> None:
    def root(size: int, chunk_size: int, hashes: bytes) -> str:
        return root_hash(Layout([Entry("", "file", size)], chunk_size, algorithm), hashes)

    assert root(len(CONTENT), len(CONTENT), known(CONTENT).digest()) == known(CONTENT).hexdigest()
    hashes = b"".join(known(piece).digest() for piece in PIECES)
    assert root(len(CONTENT), 100_000, hashes) == known(hashes).hexdigest()
    assert root(0, 100_000, b"") == known(b"").hexdigest()


@pytest.mark.parametrize(("algorithm", "command"), [("sha256", "sha256sum"), ("blake3", "b3sum")])
def test_the_documented_command_gives_the_root_hash(tmp_path: Path, algorithm: str, command: str) -> None:
    if not shutil.which(command):  # not everywhere is a b3sum; its output is as that of sha256sum
        (tmp_path / command).write_text(
            f"#!{sys.executable}\nimport sys, blake3\nprint(blake3.blake3(sys.stdin.buffer.read()).hexdigest(), ' -')\n"
        )
        (tmp_path / command).chmod(0o755)
    (tmp_path / "model.bin").write_bytes(CONTENT)
    [line] = [line for line in GUIDE.read_text().splitlines() if line.strip().startswith("split ")]
    recipe = line.replace("8M", "100000").replace("sha256sum", command)
    # In place of xxd, which is not everywhere.
    recipe = recipe.replace("xxd -r -p", "python3 -c 'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))'")
    path = {"PATH": f"{os.environ['PATH']}:{tmp_path}"}
    told = subprocess.run(recipe, shell=True, cwd=tmp_path, env=path, capture_output=True, text=True, check=True).stdout
    hashes = b"".join(digest_of(algorithm, piece) for piece in PIECES)
    assert root_hash(Layout([Entry("", "file", len(CONTENT))], 100_000, algorithm), hashes) == told.split()[0]
