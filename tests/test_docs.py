"""The documents say what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "ws").rglob("*.py"), *(ROOT / "template").glob("*.sh")]
HEADING = re.compile(r"\*\*(?P<ticks>`+) ?(?P<text>.+?) ?(?P=ticks)\*\*")


def headings() -> list[str]:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    found = [heading["text"] for heading in HEADING.finditer(text)]
    assert len(found) > 20
    return found


def printed() -> str:
    """All text of the program; parts of a string on two lines are joined, and what differs between them is `…`."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    return re.sub(r"\"\s*\n\s*f?\"", "", text)


@pytest.mark.parametrize("heading", headings())
def test_a_heading_of_troubleshooting_is_what_is_printed(heading: str) -> None:
    text = printed()
    parts = [part.strip() for part in heading.split("…") if len(part.strip()) > 2]
    assert parts
    assert [part for part in parts if part not in text] == []
