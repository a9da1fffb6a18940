"""The documents say what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ws.verify.causes import TITLES

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


def causes() -> list[str]:
    """The headings of the part on causes, in order."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    _, _, part = text.partition("\n## Causes that a verdict names\n")
    return re.findall(r"^### (.+)$", part.partition("\n## ")[0], re.MULTILINE)


def test_every_cause_that_a_verdict_names_has_a_heading_and_no_heading_is_stale() -> None:
    assert sorted(causes()) == sorted(TITLES.values())


@pytest.mark.parametrize("title", TITLES.values())
def test_a_cause_has_more_than_a_heading(title: str) -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    body = text.partition(f"\n### {title}\n")[2].partition("\n#")[0]
    assert len(body.split()) > 5
