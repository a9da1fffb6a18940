"""Who sends and who receives, as users name them: `ray_node_1:/data/x`, a path of this machine, a node's id or name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from ws.cluster.nodes import Node

HERE = "here"
"""This machine, as a sender or recipient."""


@dataclass(frozen=True)
class Place:
    """A path at a node, or at this machine (`here`), where it is absolute."""

    node: str
    path: str

    def __str__(self) -> str:
        return f"{self.node}:{self.path}"


def parse_place(text: str) -> Place:
    """`NODE:PATH`, else a path of this machine; what stands before a colon is no node where it has a slash."""
    node, colon, path = text.partition(":")
    if not colon or not node or "/" in node or node in {".", ".."}:
        return _here(text)
    if not path:
        raise UsageError(f"{text!r} names no path at {node}", mend=f"for example {node}:model.bin")
    return _here(path) if node == HERE else Place(node, path)


def _here(path: str) -> Place:
    if not path:
        raise UsageError("an empty path names no file")
    return Place(HERE, str(at_home(path).absolute()))


def at_home(path: str) -> Path:
    """A path of this machine, `~/` for the home folder; any other name with `~`, such as `~$a.docx`, is one as it is."""
    return Path(path).expanduser() if path == "~" or path.startswith("~/") else Path(path)


def require_source(place: Place) -> None:
    """Raises UsageError where it is a file of this machine that is not there."""
    if place.node == HERE and not Path(place.path).exists():
        raise UsageError(f"there is no file {place.path!r} here", mend="NODE:PATH names one at a node of the cluster")


def find_node(name: str, nodes: Sequence[Node], *, mend: str | None = None) -> Node:
    """The living node with this id, Ray name, hostname or CastingNode; of several with one name only living ones count.

    Raises:
        UsageError: there is none, or more than one.
        EnvironmentProblem: it is dead.
    """
    found = [node for node in nodes if node.id == name] or [node for node in nodes if name in _names(node)]
    living = [node for node in found if _lives(node)]
    if len(living) == 1:
        return living[0]
    if living:
        raise UsageError(
            f"more than one node is called {name!r}", f"nodes: {', '.join(n.id for n in living)}", "choose one by its id"
        )
    if found:
        why = "the cluster takes it for dead; `ws nodes` shows all nodes"
        raise EnvironmentProblem(f"{_called(found[0])} does not live any more", why)
    known = [node for node in nodes if _lives(node)]
    near = difflib.get_close_matches(name, [each for node in known for each in (node.id, *sorted(_names(node)))], n=1)
    raise UsageError(
        f"there is no node {name!r}",
        f"nodes: {', '.join(_called(node) for node in known) or 'none'}",
        mend or (f"did you mean {near[0]}?" if near else None),
    )


def choose_recipients(
    names: Sequence[str], everyone: bool, sender: str, nodes: Sequence[Node], note: Callable[[str], None]
) -> list[str]:
    """The ids of those who receive, each once; `sender` is an id or `here`. What is left out is told to `note`.

    Raises:
        UsageError: nobody is left, a name is none, or the sender is among them.
    """
    if everyone:
        living = [node.id for node in nodes if _lives(node) and node.id != sender]
        for node in nodes:
            if not _lives(node):
                note(f"{_called(node)} is dead, and left out")
        if not living:
            raise UsageError("there is no node to send to", f"the sender is {sender}, and no other node lives")
        return living
    chosen: list[str] = []
    for name in names:
        node = _recipient(name, nodes)
        if node.id == sender:
            raise UsageError(f"{_called(node)} is the sender and can't be a recipient", mend="name another node with --to")
        if node.id in chosen:
            note(
                f"{name} is {node.id}, which is named twice: it receives once"
                if name != node.id
                else f"{name} is named twice"
            )
        else:
            chosen.append(node.id)
    return chosen


def _recipient(name: str, nodes: Sequence[Node]) -> Node:
    if name == HERE:
        raise UsageError("`here` can't be a recipient of ws send", mend="`ws fetch NODE:PATH DEST` brings a file here")
    if ":" in name:
        node, _, path = name.partition(":")
        raise UsageError(f"{name!r} is no node", mend=f"`--to {node} --dest {path or 'PATH'}` says where it goes there")
    return find_node(name, nodes)


def _names(node: Node) -> set[str]:
    return {name for name in (node.seen.name, node.seen.hostname, *node.casting_nodes) if name}


def _lives(node: Node) -> bool:
    return node.state.value != "dead"


def _called(node: Node) -> str:
    return f"{node.id} ({node.seen.name})" if node.seen.name else node.id
