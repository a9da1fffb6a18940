"""Overrides from environment variables: WS_NODES__HEAD_ADDRESS=… sets nodes.head_address.

Two underscores separate the levels, in capitals or not; a node's key is written with _ for its hyphens
(WS_SERVICES__RAY__BIG_GPU__CPUS). Values are YAML (`4`, `true`, `null`, `[ray-cpu, ray-gpu]`); below `env` they
are taken as they are, and so is the case of the name. An empty value counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ws.config.finding import Finding, Origin, Path, dotted
from ws.config.source import parse
from ws.config.tree import RAY, section_at

_PREFIX = "WS_"
_LEVEL = "__"


@dataclass
class Overrides:
    """Nested data, the variable behind each path, and what is wrong with the variables themselves."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read(environ: Mapping[str, str]) -> Overrides:
    overrides = Overrides()
    for name in sorted(environ):
        if name.startswith(_PREFIX) and _LEVEL in name[len(_PREFIX) :]:
            _apply(overrides, name, environ[name])
    return overrides


def _apply(overrides: Overrides, name: str, text: str) -> None:
    path = _path_of(name)
    if not text and not _in_env(path):
        return
    value, findings = _value(text, path, name)
    overrides.findings += findings
    if findings:
        return
    if not _insert(overrides.data, path, value):
        what = f"{dotted(path)} is set by another variable, too"
        overrides.findings.append(Finding(path, what, "keep one of them", origin=Origin(name)))
        return
    overrides.origins[path] = Origin(name)


def _path_of(name: str) -> Path:
    path: Path = ()
    parts = name[len(_PREFIX) :].split(_LEVEL)
    for position, part in enumerate(parts):
        if path and path[-1] == "env":
            return (*path, _LEVEL.join(parts[position:]))
        path = (*path, _key(path, part.lower()))
    return path


def _key(path: Path, part: str) -> str:
    section = section_at(path)
    if path == RAY and section and part not in section.model_fields:
        return part.replace("_", "-")
    return part


def _in_env(path: Path) -> bool:
    return len(path) > 1 and path[-2] == "env"


def _value(text: str, path: Path, name: str) -> tuple[Any, list[Finding]]:
    if _in_env(path):
        return text, []
    source = parse(text, name)
    return source.data, [Finding(path, finding.what, finding.mend, origin=Origin(name)) for finding in source.findings]


def _insert(data: dict[str, Any], path: Path, value: Any) -> bool:
    """False where another variable has set this path, or a section around it, already."""
    section = data
    for key in path[:-1]:
        section = section.setdefault(str(key), {})
        if not isinstance(section, dict):
            return False
    return section.setdefault(str(path[-1]), value) is value
