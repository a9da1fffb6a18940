"""Text that every reader can take."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws.verify.report.visible import visible

ANY_TEXT = st.text(st.characters(codec=None, categories=None))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ray-cpu: 値 ✓\n\tindented", "ray-cpu: 値 ✓\n\tindented"),
        ("\x1b[31mred\x00", r"\x1b[31mred\x00"),
        ("\x9b31m", r"\x9b31m"),
        ("dos\r\nmac\r", "dos\nmac\\x0d"),
        ("\udc80", r"\udc80"),
        ("\uffff", r"\uffff"),
    ],
)
def test_what_cannot_be_shown_becomes_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY_TEXT)
def test_what_is_visible_is_in_every_xml_document_and_stays_as_it_is(text: str) -> None:
    shown = visible(text)
    element = ElementTree.Element("e", a=shown)
    element.text = shown
    read = ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))
    assert (read.text or "", read.get("a")) == (shown, shown)
    assert visible(shown) == shown
