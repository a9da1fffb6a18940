from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws.config.memory import format_memory, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8g", 8 * 1024**3),
        ("8gb", 8 * 1024**3),
        ("8GB", 8 * 1024**3),
        ("1.5g", 1536 * 1024**2),
        ("512m", 512 * 1024**2),
        ("512 mb", 512 * 1024**2),
        ("64k", 65536),
        ("64kb", 65536),
        ("10b", 10),
        ("10", 10),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_compose_reads_them(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "g", "8 gigs", "8t", "-1g", "1e3", "8g ", " 8g", "8gg", "1.g", "٨g", "9" * 40])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a memory size"):
        parse_memory(text)


@pytest.mark.parametrize(("size", "text"), [(8 * 1024**3, "8g"), (1536 * 1024**2, "1536m"), (1000, "1000b"), (0, "0b")])
def test_the_shortest_exact_text_is_written(size: int, text: str) -> None:
    assert format_memory(size) == text


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_memory(-1)


@given(st.integers(min_value=0, max_value=2**49))
def test_what_is_written_reads_back(size: int) -> None:
    assert parse_memory(format_memory(size)) == size
