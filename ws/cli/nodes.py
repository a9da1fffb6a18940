"""`ws nodes`: the nodes of any Ray cluster, once or as they change."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ws import console
from ws.cli.common import JSON, token_for
from ws.console import Progress
from ws.errors import EnvironmentProblem

if TYPE_CHECKING:
    from ws.cluster.nodes import Node
    from ws.cluster.watcher import Event, View, Watcher

_FIRST_LOOK = 90.0
_PATIENCE = 3.0
"""Seconds for which a cluster that does not answer is tried again."""


def nodes(
    address: str | None = typer.Option(
        None, help="host:port, ray://host:port or http://host:port; default: RAY_ADDRESS, the config's, the best found."
    ),
    as_json: bool = JSON,
    watch: bool = typer.Option(False, "--watch", "-w", help="Stay connected and show every change until Ctrl-C."),
    token_file: Path | None = typer.Option(None, help="The cluster's token; default: as for Ray's own clients."),
    config: Path | None = typer.Option(None, help="A config_external_cluster.json; default: what CASTRAY_CONFIG names."),
) -> None:
    """Show the nodes of a Ray cluster, ours or not, by its address."""
    from ws.cluster.connect import Connector, Wish, choose
    from ws.cluster.connection import Timing
    from ws.cluster.external_config import load_external_config
    from ws.cluster.watcher import Watcher

    progress = Progress(quiet=as_json)
    settings = load_external_config(config, os.environ).ray_cluster
    chosen, origin = choose(address, os.environ, settings.address)
    wish = Wish(
        address=chosen,
        origin=origin,
        token=token_for(chosen, token_file),
        namespace=settings.namespace,
        allow_local_fallback=settings.allow_local_fallback,
        allow_local_start=settings.allow_local_start,
    )
    watcher = Watcher(Connector(wish, progress.warn), Timing(first_patience=_PATIENCE))
    try:
        view = _first_view(watcher)
        if watch:
            _follow(watcher, as_json=as_json)
        else:
            _show(view, as_json=as_json, in_lines=False)
    finally:
        watcher.close()


def _first_view(watcher: Watcher) -> View:
    from ws.cluster.connection import State

    watcher.connect()
    view = watcher.wait(lambda view: view.state in {State.connected, State.failed}, _FIRST_LOOK)
    if view is None or view.state is State.failed:
        raise watcher.problem or EnvironmentProblem("the cluster does not answer")
    return view


def _show(view: View, *, as_json: bool, in_lines: bool) -> None:
    if not as_json:
        console.result(_table(view.nodes))
    elif in_lines:
        _line({"event": "nodes", **_as_json(view)})
    else:
        console.result_json(_as_json(view))


def _as_json(view: View) -> dict[str, Any]:
    cluster = None if view.cluster is None else vars(view.cluster)
    return {"state": view.state.value, "cluster": cluster, "nodes": [node.as_json() for node in view.nodes]}


def _table(nodes: tuple[Node, ...]) -> str:
    rows = [
        [
            node.id,
            node.seen.name,
            node.seen.hostname or "",
            node.seen.address,
            "head" if node.seen.head else "worker",
            node.state.value,
            *(_use(node, resource) for resource in ("CPU", "GPU", "memory")),
            "?" if node.actors is None else str(len(node.actors)),
            node.suspicion or ", ".join(node.casting_nodes),
        ]
        for node in nodes
    ]
    header = ["NODE", "NAME", "HOST", "ADDRESS", "ROLE", "STATE", "CPU FREE", "GPU FREE", "MEMORY FREE", "ACTORS", "DETAIL"]
    return console.table(header, rows)


def _use(node: Node, resource: str) -> str:
    """`3/4` free of total; `?/4` where nobody could be asked."""
    total = node.seen.total.get(resource)
    if total is None or node.state.value == "dead":
        return ""
    free = None if node.seen.free is None else node.seen.free.get(resource, total)
    if resource == "memory":
        return f"{'?' if free is None else f'{free / 2**30:.1f}'}/{total / 2**30:.1f} GiB"
    return f"{'?' if free is None else f'{free:g}'}/{total:g}"


def _follow(watcher: Watcher, *, as_json: bool) -> None:
    """All nodes, then every event as a line, until Ctrl-C or until trying again is vain."""
    import queue

    from ws.cluster.connection import State, Transition

    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    watcher.subscribe(events.put)  # before the view is taken: nothing gets lost between the two
    view, taken = watcher.view(), time.monotonic()
    _show(view, as_json=as_json, in_lines=True)
    shown = {id(node) for node in view.nodes}
    while True:
        event = events.get()
        if event.at <= taken if isinstance(event, Transition) else id(event.after) in shown:
            continue
        if as_json:
            _line(_event_as_json(event))
        elif line := _in_words(event):
            console.result(f"{time.strftime('%H:%M:%S')} {line}")
        if isinstance(event, Transition) and event.state is State.failed:
            raise watcher.problem or EnvironmentProblem(event.why)


def _line(value: dict[str, Any]) -> None:
    console.result(json.dumps(value, ensure_ascii=False))


def _event_as_json(event: Event) -> dict[str, Any]:
    from ws.cluster.connection import Transition

    now = time.time()
    if isinstance(event, Transition):
        return {"event": "connection", "time": now, "before": event.before, "state": event.state, "why": event.why}
    node = event.after or event.before
    return {"event": event.kind, "time": now, "node": None if node is None else node.as_json()}


def _in_words(event: Event) -> str:
    from ws.cluster.connection import Transition

    if isinstance(event, Transition):
        return f"{event.state}: {event.why}"
    node = event.after or event.before
    if node is None:
        return ""
    what = f"{node.id} ({node.seen.name}) {event.kind}"
    if event.kind == "changed":
        # Its objects and labels are in --json: a busy cluster would fill the screen with them.
        now, before = _changeable(node), _changeable(event.before)
        return f"{what}: {', '.join(now)}" if now != before else ""
    return f"{what}{f': {node.suspicion}' if node.suspicion else ''}"


def _changeable(node: Node | None) -> list[str]:
    """What the line of a change tells."""
    if node is None:
        return []
    count = "?" if node.actors is None else len(node.actors)
    casting = f" ({', '.join(node.casting_nodes)})" if node.casting_nodes else ""
    free = [f"{resource} {use} free" for resource in ("CPU", "GPU") if (use := _use(node, resource))]
    return [f"{count} actor{'s' * (count != 1)}{casting}", *free]
