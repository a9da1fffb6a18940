"""The one actor of each node that all transfers share, whoever runs them: found, or made where there is none.

So a node has one published port, and one measure of memory, for all of them. It outlives who made it, and ends by itself.
"""

from __future__ import annotations

import functools
import hashlib
import time
from pathlib import Path
from typing import Any

from ws.transfer import onnode
from ws.transfer.onnode.casting import actor_class
from ws.transfer.onnode.problems import LOST, TransferProblem
from ws.transfer.remote import answer_of

NAMESPACE = "ws"
IDLE = 60.0
"""Seconds without a transfer, or a question, after which it ends."""
START = 90.0
"""Seconds that it may take to start: a busy node needs some for a new process alone."""
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before one is asked for again: Ray takes a moment to notice that the last one ended."""


def shared_actor(node_id: str, name: str, idle: float = IDLE) -> tuple[Any, dict[str, Any]]:
    """Its handle, and its answer to `start`. `node_id` is Ray's, `name` what it calls itself.

    Raises whatever Ray does, or TransferProblem, where there is none and none starts.
    """
    for pause in _PAUSES:
        try:
            return _asked(node_id, name, idle)
        except Exception as error:
            if not _is_passing(error):
                raise
        time.sleep(pause)
    return _asked(node_id, name, idle)


def _asked(node_id: str, name: str, idle: float) -> tuple[Any, dict[str, Any]]:
    import ray

    actor = _handle(node_id, name, idle)
    try:
        return actor, answer_of(ray.get(actor.start.remote(), timeout=START), name)
    except ray.exceptions.GetTimeoutError:
        ray.kill(actor)  # it hangs, or its node does: who comes next gets another one
        raise


def _handle(node_id: str, name: str, idle: float) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    called = f"{NAMESPACE}-{node_id[:16]}-{code_digest()}"
    try:
        return ray.get_actor(called, NAMESPACE)  # where it is there, nothing is uploaded
    except ValueError:
        pass
    where = NodeAffinitySchedulingStrategy(node_id, soft=False)
    options = {"name": called, "namespace": NAMESPACE, "lifetime": "detached", "scheduling_strategy": where}
    return actor_class().options(**options).remote(name, 0, idle)


def _is_passing(error: Exception) -> bool:
    """Whether it ended, or was about to, when it was asked; ValueError: somebody else has made one meanwhile."""
    import ray

    if isinstance(error, TransferProblem):
        return error.code == LOST
    return isinstance(error, ValueError | ray.exceptions.RayActorError)


@functools.cache
def code_digest() -> str:
    """Of all that is pickled by value: other versions of it do not share an actor with this one."""
    digest = hashlib.sha256()
    for path in sorted(Path(onnode.__path__[0]).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
