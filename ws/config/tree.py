"""The tree of sections and keys that config.yaml may have, as the models define it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ws.config.finding import Path
from ws.config.models import Config, NodeSettings, RaySettings

RAY: Path = ("services", "ray")
_SHARED = frozenset(RaySettings.model_fields)


def section_at(path: Path) -> type[BaseModel] | None:
    """The model of the section at a path, or None where there is no section."""
    section: type[BaseModel] | None = Config
    for key in path:
        section = _child(section, key) if section and isinstance(key, str) else None
    return section


def field_at(path: Path) -> FieldInfo | None:
    section = section_at(path[:-1])
    return section.model_fields.get(str(path[-1])) if section and path else None


def is_node(path: Path) -> bool:
    """Whether the path is that of a node's section."""
    return len(path) == 3 and path[:2] == RAY and path[2] not in _SHARED


def may_be_empty(path: Path) -> bool:
    """Whether a key without a value means the defaults: sections, lists and mappings."""
    if section_at(path):
        return True
    field = field_at(path)
    return field is not None and get_origin(field.annotation) in (tuple, dict)


def nearest(word: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(word[:80].lower(), list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def places_of(key: str) -> list[Path]:
    """Every path that ends in this key, nodes left out."""
    return [path for path in _paths(Config, ()) if path[-1] == key]


def _child(section: type[BaseModel], key: str) -> type[BaseModel] | None:
    field = section.model_fields.get(key)
    if field is not None:
        return _model(field.annotation)
    return NodeSettings if section is RaySettings else None


def _model(annotation: Any) -> type[BaseModel] | None:
    candidates = (annotation, *get_args(annotation))
    return next((kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _paths(section: type[BaseModel], prefix: Path) -> Iterator[Path]:
    for name, field in section.model_fields.items():
        path = (*prefix, name)
        yield path
        child = _model(field.annotation)
        if child:
            yield from _paths(child, path)
