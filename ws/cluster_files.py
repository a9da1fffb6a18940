"""What a report keeps copies of: the configuration and the rendered files, without values that look like secrets."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from ws.config.fields import looks_secret
from ws.config.show import dump
from ws.engine.base import Project
from ws.engine.render import COMPOSE_FILE, TEST_FILE

_HIDDEN = "***"
_UNREADABLE = "# not kept: it is no YAML, so what is secret in it can't be told\n"


def files(project: Project) -> dict[str, str]:
    """Text by name: the configuration in effect as config.yaml, and the rendered files that are there."""
    found = {name: project.folder / name for name in (COMPOSE_FILE, TEST_FILE)}
    rendered = {name: hidden(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}
    return {"config.yaml": dump(project.config), **rendered}


def hidden(text: str) -> str:
    """YAML with *** for each value whose key looks like a secret's name, and for VALUE in lists of NAME=VALUE.

    However a value is quoted, escaped or repeated: it is found by its place in the document.
    """
    try:
        spans = sorted({span for document in yaml.compose_all(text, yaml.SafeLoader) for span in _secrets(document, set())})
    except yaml.YAMLError:
        return _UNREADABLE
    for begin, end, instead in reversed(spans):
        kept = begin + len(text[begin:end].rstrip())  # a block's span reaches into the next line
        text = text[:begin] + (instead if kept > begin else "") + text[kept:]
    return text


def _secrets(node: yaml.Node, met: set[int]) -> Iterator[tuple[int, int, str]]:
    """(begin, end, what to put there) of each secret below a node; `met` are the nodes that aliases may lead back to."""
    if id(node) in met:
        return
    met.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(value, yaml.ScalarNode) and looks_secret(str(key.value)):
                yield _span(value, f'"{_HIDDEN}"')
            else:
                yield from _secrets(value, met)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            name, assigned, _ = str(item.value).partition("=") if isinstance(item, yaml.ScalarNode) else ("", "", "")
            if assigned and looks_secret(name):
                yield _span(item, f'"{name}={_HIDDEN}"')
            else:
                yield from _secrets(item, met)


def _span(node: yaml.Node, instead: str) -> tuple[int, int, str]:
    return node.start_mark.index, node.end_mark.index, instead
