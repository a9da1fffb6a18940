"""Nodes of a cluster that nobody runs."""

from __future__ import annotations

from ws.cluster.nodes import Actor, Node, NodeState, SeenNode


def node(number: int, name: str, state: str = "alive", casting: str = "", hostname: str | None = None) -> Node:
    seen = SeenNode(f"{number:056x}", name, name, state != "dead", number == 1, {}, hostname=hostname)
    actors = (Actor("a" * 32, "CastingNode", casting, "castray", seen.node_id),) if casting else ()
    return Node(number, NodeState(state), seen, actors)


NODES = (node(1, "ray-cpu", hostname="cpu-box"), node(2, "ray-gpu", casting="external_node_1"), node(3, "old", "dead"))
