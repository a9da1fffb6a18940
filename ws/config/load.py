"""Defaults, file, environment and flags into one validated configuration, or every problem at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from ws.config import environ as variables
from ws.config import source
from ws.config.checks import check
from ws.config.finding import Finding, Origin, Path, dotted, readable
from ws.config.models import DEFAULT_NODES, Config
from ws.config.plan import plan
from ws.config.tree import RAY, is_node, may_be_empty, nearest, section_at
from ws.config.wording import translate
from ws.errors import ConfigError, Problem

COMMAND_LINE = "command line"
_MOST_PROBLEMS = 100
# One is enough for every usual mistake; more are needed where a value hides others.
_MOST_ROUNDS = 10


@dataclass(frozen=True)
class Loaded:
    """A configuration, the file it came from (None: defaults), and what is odd about it but works.

    `exposure` are those of the warnings that tell who can reach what is published.
    """

    config: Config
    path: FilePath | None
    warnings: tuple[Problem, ...]
    exposure: tuple[Problem, ...] = ()


@dataclass
class _Merged:
    """All layers in one, with where each value was written. `broken`: paths whose values were not kept."""

    data: Any = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken: set[Path] = field(default_factory=set)


def load(
    path: FilePath | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    nodes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Loaded:
    """Defaults, then the file (None: none), then WS_… variables, then the command line.

    Of the command line come `overrides` (nested), and `nodes`, the settings by key of the only nodes that there are to
    be; None leaves those of the config.

    Raises ConfigError with every problem; warnings come with the result.
    """
    merged = _merge(path, environ, overrides or {}, nodes)
    config = _validate(merged)
    merged.findings += _kept(check(config, plan(config)), merged.broken)
    problems = [finding for finding in merged.findings if not finding.warning]
    if problems:
        raise ConfigError(_problems(problems, merged.origins))
    exposure = [finding for finding in merged.findings if finding.exposure]
    return Loaded(
        config, path, tuple(_problems(merged.findings, merged.origins)), tuple(_problems(exposure, merged.origins))
    )


def _merge(
    path: FilePath | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any],
    nodes: Mapping[str, Mapping[str, Any]] | None,
) -> _Merged:
    merged = _Merged()
    if path is not None:
        _add_file(merged, path)
    from_environ = variables.read(environ)
    merged.findings += from_environ.findings
    _with_default_nodes(merged, from_environ.data)
    merged.findings += _unknown_nodes(merged.data, from_environ)
    merged.data = _over(merged.data, from_environ.data)
    merged.origins |= from_environ.origins
    if nodes is None:
        _with_default_nodes(merged, overrides)
    else:
        _drop_nodes(merged)
        overrides = _over(dict(overrides), {"services": {"ray": nodes}})
    merged.data = _over(merged.data, overrides)
    merged.origins |= {leaf: Origin(COMMAND_LINE) for leaf in _leaves(overrides, ())}
    merged.data = _without_empty(merged.data, ())
    return merged


def _add_file(merged: _Merged, path: FilePath) -> None:
    read = source.read(path)
    file = str(path)
    if read.data is None:
        raise ConfigError(_problems(read.findings or [_no_mapping(file)], {}))
    if not isinstance(read.data, dict):
        raise ConfigError(_problems([_no_mapping(file)], {}))
    merged.data = read.data
    merged.origins = {place: Origin(file, line) for place, line in read.lines.items()}
    merged.findings += read.findings


def _no_mapping(file: str) -> Finding:
    mend = "start with a section, such as project:"
    return Finding((), "must hold sections, with keys and values", mend, origin=Origin(file, 1))


def _with_default_nodes(merged: _Merged, over: Mapping[str, Any]) -> None:
    """A variable for one default node must not make the other vanish, where the file names none."""
    ray = _at(merged.data, RAY)
    if isinstance(_at(over, RAY), dict) and (ray is None or isinstance(ray, dict)) and not _node_keys(ray or {}):
        nodes: dict[str, Any] = {key: {} for key in DEFAULT_NODES}
        merged.data = _over(merged.data, {"services": {"ray": nodes}})


def _drop_nodes(merged: _Merged) -> None:
    ray = _at(merged.data, RAY)
    for key in _node_keys(ray):
        del ray[key]
    merged.origins = {place: origin for place, origin in merged.origins.items() if not is_node(place[:3])}


def _unknown_nodes(data: Any, over: variables.Overrides) -> Iterator[Finding]:
    """A variable changes nodes and adds none: a new one would be a typing error more often than a wish."""
    known = _node_keys(_at(data, RAY))
    nodes = _at(over.data, RAY)
    for key in _node_keys(nodes):
        if key in known or not known:
            continue
        del nodes[key]
        close = nearest(key, known)
        mend = (f"did you mean {close}? " if close else "") + f"the nodes are {', '.join(map(readable, known[:10]))}"
        for path, origin in over.origins.items():
            if path[:3] == (*RAY, key):
                yield Finding(path, f"there is no node {readable(key)} to override", mend, origin=origin)


def _node_keys(ray: Any) -> list[str]:
    return [key for key in ray if is_node((*RAY, key))] if isinstance(ray, dict) else []


def _at(data: Any, path: Path) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _over(base: Any, over: Any) -> Any:
    """A new value: mappings merged, all else replaced. What is broken below `over` is kept, to be reported."""
    if not isinstance(over, Mapping):
        return over
    if not isinstance(base, dict):
        return {key: _over(None, value) for key, value in over.items()} if base is None else base
    return {**base, **{key: _over(base.get(key), value) for key, value in over.items()}}


def _leaves(data: Mapping[str, Any], prefix: Path) -> Iterator[Path]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key)


def _without_empty(data: Any, path: Path) -> Any:
    """Keys without a value that mean their default are left out; an empty node is a node."""
    if not isinstance(data, dict) or not section_at(path):
        return data
    kept = {}
    for key, value in data.items():
        inner = (*path, key)
        if value is not None:
            kept[key] = _without_empty(value, inner)
        elif is_node(inner):
            kept[key] = {}
        elif not may_be_empty(inner):
            kept[key] = None
    return kept


def _validate(merged: _Merged) -> Config:
    """The configuration; where values are wrong, one with defaults in their place, to check the rest on."""
    unread = {finding.path for finding in merged.findings if _at(merged.data, finding.path) is None}
    merged.broken |= unread
    for _ in range(_MOST_ROUNDS):
        try:
            return Config.model_validate(merged.data)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)[:_MOST_PROBLEMS]
        found = [translate(detail) for detail in details]
        merged.findings += [finding for finding in found if finding.path not in unread]
        merged.broken |= {_take_out(merged.data, finding.path) for finding in found}
    raise ConfigError(_problems(merged.findings, merged.origins))


def _take_out(data: dict[str, Any], path: Path) -> Path:
    """Removes what is wrong, so that its default holds, and returns the path of what was removed."""
    for length in range(1, len(path) + 1):
        part = path[:length]
        inside = _at(data, path[: length - 1])
        if not isinstance(inside, dict):
            break
        value = inside.get(part[-1])
        if length == len(path) or not isinstance(value, dict):
            # A node whose settings are wrong is a node all the same, for the whitelist.
            if is_node(part) and part[-1] in inside and value != {} and not isinstance(value, dict):
                inside[part[-1]] = {}
            else:
                inside.pop(part[-1], None)
            return part
    return path


def _kept(findings: Iterable[Finding], broken: set[Path]) -> Iterator[Finding]:
    """Without those that rest on a value that was replaced."""
    for finding in findings:
        rests_on = (finding.path, *finding.concerns, *finding.rests_on)
        if not any(path[: len(part)] == part for path in rests_on for part in broken if part):
            yield finding


def _problems(findings: Iterable[Finding], origins: Mapping[Path, Origin]) -> list[Problem]:
    problems = dict.fromkeys(_problem(finding, origins) for finding in findings)
    return sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))[:_MOST_PROBLEMS]


def _problem(finding: Finding, origins: Mapping[Path, Origin]) -> Problem:
    written = next((path for path in (finding.path, *finding.concerns) if path in origins), finding.path)
    origin = finding.origin or _closest(written, origins)
    return Problem(
        path=dotted(written),
        what=finding.what,
        mend=finding.mend,
        file=origin.file if origin else None,
        line=origin.line if origin else None,
    )


def _closest(path: Path, origins: Mapping[Path, Origin]) -> Origin | None:
    """Where a path was written; else what was written below it (by a variable), or the section around it."""
    below = (place for place in origins if place[: len(path)] == path)
    if path not in origins and path and (place := next(below, None)):
        return origins[place]
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]]
    return Origin(origins[()].file) if () in origins else None
