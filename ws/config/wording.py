"""pydantic's errors in plain words, which never show a value of `env`, nor one whose type is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import ErrorDetails

from ws.config.finding import Finding, Path, dotted, readable
from ws.config.tree import RAY, field_at, is_node, nearest, places_of, section_at

_KEY_MARK = "[key]"
_SECTION = "must be a section, with its keys indented below it"
_LIST = "must be a list, such as [a, b]"
_Context = dict[str, Any]

_WORDS: dict[str, Callable[[_Context], str]] = {
    "missing": lambda _: "is missing",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "is out of range",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be text",
    "tuple_type": lambda _: _LIST,
    "list_type": lambda _: _LIST,
    "dict_type": lambda _: _SECTION,
    "model_type": lambda _: _SECTION,
    "model_attributes_type": lambda _: _SECTION,
    "greater_than": lambda ctx: f"is out of range: must be more than {ctx['gt']}",
    "greater_than_equal": lambda ctx: f"is out of range: must be at least {ctx['ge']}",
    "less_than": lambda ctx: f"is out of range: must be less than {ctx['lt']}",
    "less_than_equal": lambda ctx: f"is out of range: must be at most {ctx['le']}",
    "too_short": lambda ctx: f"must have at least {ctx['min_length']} entry",
    "too_long": lambda ctx: f"must have at most {ctx['max_length']} entries",
}


def translate(error: ErrorDetails) -> Finding:
    """A finding for one of a ValidationError's errors."""
    path = tuple(part for part in error["loc"] if part != _KEY_MARK)
    kind = error["type"]
    context = error.get("ctx", {})
    if kind == "plain":
        return Finding(path, context["what"], context["mend"])
    if kind == "extra_forbidden":
        return _unknown(path)
    what = _WORDS[kind](context) if kind in _WORDS else error["msg"][:1].lower() + error["msg"][1:]
    return Finding(path, what, _mend(path, kind))


def _unknown(path: Path) -> Finding:
    key, above = str(path[-1]), path[:-1]
    section = section_at(above)
    known = list(section.model_fields) if section else []
    close = nearest(key, known)
    if close:
        return Finding(path, "is not a known key", f"did you mean {close}?")
    elsewhere = places_of(key)
    if elsewhere:
        return Finding(path, "is not a known key here", f"it belongs at {dotted(elsewhere[0])}")
    return Finding(path, "is not a known key", f"known here: {', '.join(known)}")


def _mend(path: Path, kind: str) -> str | None:
    if is_node(path):
        return _mend_node(str(path[-1]))
    if kind == "string_type":
        return "write it in quotes if it is text"
    field = field_at(path)
    default = field.default if field else None
    if isinstance(default, (str, bool, int, float)):
        return f"the default is {default}"
    return "leave it out for the default" if field else None


def _mend_node(key: str) -> str:
    section = section_at(RAY)
    close = nearest(key, section.model_fields) if section else None
    return f"did you mean {close}?" if close else f"write the node's settings below {readable(key)}:"
