"""`CastingNode`: the actor that makes a Ray node take part in transfers.

    from ws.transfer import CastingNode
    node = CastingNode.remote("external_node_1", 0)
    ray.get(node.start.remote())

It brings nothing along: this package is pickled by value, and a node needs Ray alone.
"""

from __future__ import annotations

from typing import Any

from ws.transfer.onnode.party import Party
from ws.transfer.onnode.ray_link import links

NAMESPACE = "castray"
ON_DEMAND = "ws-"
"""How the names of actors begin that a transfer makes for itself, and that end with it."""
_THREADS = 64
_BLOCKS = "blocks"
_GROUPS = {_BLOCKS: 2}
"""Threads for the methods that carry blocks: each thread's share of memory stays as large as the block it carried last."""


class CastingNodes:
    """What `CastingNode` is before it is on a node: an actor class whose instances have a name that others find."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def options(self, **options: Any) -> CastingNodes:
        """As of any Ray actor class; a name given here counts more than the one given to `remote`."""
        return CastingNodes(**{**self._options, **options})

    def remote(self, name: str, port: int = 0) -> Any:
        """The actor's handle. `port`: where it listens; 0: the node's own transfer port, else any free one.

        `name` is how others find it: `ray.get_actor(name, "castray")`; `ws nodes` shows it at its node.
        """
        options = {"name": name, "namespace": NAMESPACE, **self._options}
        return _actor_class().options(**options).remote(name, port)


CastingNode = CastingNodes()


def _actor_class() -> Any:
    import ray

    import ws.transfer.onnode as package

    by_value: Any = ray.cloudpickle.register_pickle_by_value
    by_value(package)
    as_actor: Any = ray.remote
    return as_actor(num_cpus=0, max_concurrency=_THREADS, max_restarts=0, concurrency_groups=_GROUPS)(_party_class())


def _party_class() -> type:
    """The actor's own class; its name is what the cluster shows."""
    import ray

    # Ray looks for this at the innermost function, so they may not be wrapped.
    carries_blocks: Any = ray.method(concurrency_group=_BLOCKS)

    class CastingNode(Party):
        read_block = carries_blocks(Party.read_block)
        write_block = carries_blocks(Party.write_block)

        def __init__(self, name: str, port: int = 0) -> None:
            own_address: Any = ray.util.get_node_ip_address
            super().__init__(name, port, address=own_address(), links=links)
            self._node_id = ray.get_runtime_context().get_node_id()

        def start(self) -> dict[str, Any]:
            return {**super().start(), "node_id": self._node_id}

    return CastingNode
