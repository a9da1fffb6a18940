"""Text that every reader can take: XML, HTML and terminals."""

from __future__ import annotations

import re

# What XML 1.0 does not allow, and what a terminal may obey: control characters but tab and line feed, lone surrogates.
# https://www.w3.org/TR/xml/#charsets
_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def visible(text: str) -> str:
    r"""The text with line ends as line feeds, and what can't be shown as escapes (`\x1b`, `\udc80`)."""
    return _UNREADABLE.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
