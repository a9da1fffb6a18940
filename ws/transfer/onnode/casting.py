"""`CastingNode`: the actor that makes a Ray node take part in transfers.

    from ws.transfer import CastingNode
    node = CastingNode.remote("external_node_1", 0)
    ray.get(node.start.remote())

It brings nothing along: this package is pickled by value, and a node needs Ray alone.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from ws.transfer.onnode.party import Party
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.onnode.ray_link import links

NAMESPACE = "castray"
_LOOK = 1.0
_THREADS = 32
_LONG, _BLOCKS = "long", "blocks"
_GROUPS = {_LONG: 96, _BLOCKS: 2}
"""Threads for the methods that may take long, so that many of them leave one for the others, and for those that carry
blocks: each thread's share of memory stays as large as the block it carried last."""


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
        return actor_class().options(**options).remote(name, port)


CastingNode = CastingNodes()


class Attendance:
    """Whether anybody still asks. Time is counted in looks: a node that was itself stopped for a while does not end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking = 0
        self._unasked = 0.0
        self._over = False

    def enter(self) -> None:
        """Somebody asks; `leave` follows. Raises TransferProblem, lost, where it is too late."""
        with self._lock:
            if self._over:
                raise TransferProblem(LOST, "this actor is ending, for nobody had asked it anything", mend="ask for another")
            self._asking += 1

    def leave(self) -> None:
        with self._lock:
            self._asking, self._unasked = self._asking - 1, 0.0

    def is_over(self, seconds: float, busy: Callable[[], bool], idle: float) -> bool:
        """A look, `seconds` after the one before; once it is over it stays so."""
        with self._lock:
            if self._asking or busy():
                self._unasked = 0.0
            else:
                self._unasked += seconds
            self._over = self._over or self._unasked >= idle
            return self._over


def _attended(method: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """For the methods by which something begins; what goes on after them is seen as such."""

    @functools.wraps(method)
    def attend(self: Any, *args: Any) -> dict[str, Any]:
        try:
            self.attendance.enter()
        except TransferProblem as problem:
            return {"problem": problem.as_dict()}
        try:
            return method(self, *args)
        finally:
            self.attendance.leave()

    return attend


def actor_class() -> Any:
    import ray

    import ws.transfer.onnode as package

    by_value: Any = ray.cloudpickle.register_pickle_by_value
    by_value(package)
    as_actor: Any = ray.remote
    return as_actor(num_cpus=0, max_concurrency=_THREADS, max_restarts=0, concurrency_groups=_GROUPS)(_party_class())


def _party_class() -> type:
    """The actor's own class; its name is what the cluster shows."""
    import ray

    def in_group(group: str, method: Any) -> Any:
        marked: Any = ray.method(concurrency_group=group)
        marked(inspect.unwrap(method))  # Ray looks at the innermost function
        return method

    class CastingNode(Party):
        read_block = in_group(_BLOCKS, Party.read_block)
        write_block = in_group(_BLOCKS, Party.write_block)
        offer = in_group(_LONG, _attended(Party.offer))
        accept = in_group(_LONG, _attended(Party.accept))
        existing = in_group(_LONG, Party.existing)
        pull = in_group(_LONG, Party.pull)
        hashes = in_group(_LONG, Party.hashes)
        settle = in_group(_LONG, Party.settle)

        def __init__(self, name: str, port: int = 0, idle: float | None = None) -> None:
            """`idle`: seconds without a transfer, or a question, after which it ends; None: it stays."""
            own_address: Any = ray.util.get_node_ip_address
            super().__init__(name, port, address=own_address(), links=links)
            self._node_id = ray.get_runtime_context().get_node_id()
            self._me = ray.get_runtime_context().current_actor
            self.attendance = Attendance()
            if idle is not None:
                threading.Thread(target=self._end_when_idle, args=(idle,), name="idle", daemon=True).start()

        @_attended
        def start(self) -> dict[str, Any]:
            return {**super().start(), "node_id": self._node_id}

        def _end_when_idle(self, idle: float) -> None:
            while not self.attendance.is_over(_LOOK, lambda: bool(self._parts), idle):
                self._stopped.wait(_LOOK)
            self.stop()  # its port is free for the next one
            ray.kill(self._me)

    return CastingNode
