"""YAML text into plain data, with the line of every value, bounded in size and depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml
from yaml.reader import Reader

from ws.config.finding import Finding, Origin, Path, readable

MAX_BYTES = 1024**2
_MAX_DEPTH = 20
_MAX_VALUES = 20_000
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
# libyaml's, which is ten times as fast, where PyYAML was built with it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Source:
    """What a file holds. `data` is None where nothing can be read; `lines`: 1-based, by path."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read(path: FilePath) -> Source:
    """Never raises: what is wrong with the file is a finding, with the file's name and line."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return _failed(Finding((), "there is no such file", "`ws init` writes one", origin=Origin(file)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        return _failed(Finding((), f"cannot be read: {reason}", "name a readable file", origin=Origin(file)))
    if len(content) > MAX_BYTES:
        return _failed(Finding((), "is larger than 1 MiB", "name a configuration file", origin=Origin(file)))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _failed(Finding((), "is not UTF-8 text", "save it as UTF-8", origin=Origin(file, line)))
    return parse(text, file)


def parse(text: str, file: str, raw_env: bool = True) -> Source:
    """Like `read`, for text. raw_env: values below a key `env` stay the text that was written (010, yes)."""
    unprintable = Reader.NON_PRINTABLE.search(text)
    if unprintable:
        line = text.count("\n", 0, unprintable.start()) + 1
        what = f"holds the character {unprintable.group()!a}, which YAML does not allow"
        return _failed(Finding((), what, "remove it", origin=Origin(file, line)))
    try:
        if _too_deep(text):
            return _failed(Finding((), "is nested too deeply", "write plain sections", origin=Origin(file)))
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        return _failed(_syntax_error(error, text, file))
    walk = _Walk(file, raw_env)
    try:
        data = {} if node is None else walk.value(node, ())
    except _UnboundedError as error:
        mend = "write plain sections, with few aliases"
        return _failed(Finding((), str(error), mend, origin=Origin(file)))
    return Source(data, walk.lines, walk.findings)


def _failed(finding: Finding) -> Source:
    return Source(findings=[finding])


def _too_deep(text: str) -> bool:
    """Looked at before composing, which recurses."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            return True
    return False


def _syntax_error(error: yaml.YAMLError, text: str, file: str) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else None
    reasons = (getattr(error, name, None) for name in ("context", "problem"))
    reason = ", ".join(part for part in reasons if part) or "it cannot be parsed"
    mend = "look at this line and the one before it: indentation, colons, quotes, brackets"
    return Finding((), f"is not valid YAML: {reason}", mend, origin=Origin(file, line))


class _UnboundedError(Exception):
    """More than any configuration holds, such as an alias within itself."""


class _Walk:
    """Turns YAML nodes into data. Aliases are followed, within the bounds of depth and number."""

    def __init__(self, file: str, raw_env: bool) -> None:
        self._values = 0
        self.lines: dict[Path, int] = {}
        self.findings: list[Finding] = []
        self._merging: set[int] = set()
        self._file = file
        self._raw_env = raw_env
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        self.lines.setdefault(path, node.start_mark.line + 1)
        if self._values > _MAX_VALUES:
            raise _UnboundedError("holds too many values")
        if len(path) > _MAX_DEPTH:
            raise _UnboundedError("is nested too deeply")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _bounded_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        # Merging does not lengthen the path, so a section that merges itself is caught here.
        if id(node) in self._merging:
            self._found(path, node, "merges itself (<<)", "remove the alias")
            return {}
        self._merging.add(id(node))
        merged = self.value(node, path)
        self._merging.discard(id(node))
        return merged if isinstance(merged, dict) else {}

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        # Merges first, so that the lines kept are those of the keys that win.
        for _, value_node in (entry for entry in node.value if entry[0].tag == _MERGE):
            merged = {**self._merged(value_node, path), **merged}
        for key_node, value_node in (entry for entry in node.value if entry[0].tag != _MERGE):
            if isinstance(key_node, yaml.ScalarNode):
                self._entry(own, key_node, value_node, path)
            else:
                self._found(path, key_node, "has a key that is not text", "write key: value")
        return {**merged, **own}

    def _entry(self, entries: dict[str, Any], key_node: yaml.ScalarNode, value_node: yaml.Node, path: Path) -> None:
        key = key_node.value
        inner = (*path, key)
        if key in entries:
            what = f"is there twice, first on line {self.lines[inner]}"
            self._found(inner, key_node, what, "keep one of them")
        self.lines[inner] = key_node.start_mark.line + 1
        entries[key] = self.value(value_node, inner)

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """What `<<: *alias` brings in; of several, the first wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self._found(path, source, "merges (<<) what is not a section", "merge an alias of a section")
                continue
            merged = {**self._bounded_mapping(source, path), **merged}
        return merged

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if self._raw_env and len(path) > 1 and path[-2] == "env" and node.tag != _NULL:
            return node.value
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, TypeError, LookupError, AttributeError):
            kind = readable(node.tag.rpartition(":")[2])
            self._found(path, node, f"cannot be read as {kind}", "write it in quotes if it is text")
            return None

    def _found(self, path: Path, node: yaml.Node, what: str, mend: str) -> None:
        line = node.start_mark.line + 1
        self.findings.append(Finding(path, what, mend, origin=Origin(self._file, line)))
