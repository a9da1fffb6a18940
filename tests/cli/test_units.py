from __future__ import annotations

import pytest

from ws.cli import units
from ws.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50M", 50_000_000),
        ("1.5GiB", 1_610_612_736),
        ("800k", 800_000),
        ("4096", 4096),
        ("2MB/s", 2_000_000),
        ("1 ki", 1024),
        (".5m", 500_000),
        ("1T", 10**12),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert units.parse_size(text, "--limit") == size


@pytest.mark.parametrize("text", ["", "much", "-5M", "5X", "1e6", "5iB", "0", "0.1", "٣M", "1.2.3"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="--limit"):
        units.parse_size(text, "--limit")


def test_times_are_as_exact_as_they_matter() -> None:
    assert [units.seconds(count) for count in (0.4249, 12.34, 59.97, 200, 7500)] == [
        "0.42 s",
        "12.3 s",
        "60.0 s",
        "3 min 20 s",
        "2 h 05 min",
    ]
    assert [units.left(count) for count in (None, 0.2, 12.4, 90)] == ["", "1 s left", "12 s left", "1 min 30 s left"]


def test_counts_agree_with_their_nouns() -> None:
    assert [units.counted(count, "file") for count in (0, 1, 10_000)] == ["0 files", "1 file", "10,000 files"]
