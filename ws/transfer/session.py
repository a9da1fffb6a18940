"""A connection to a Ray cluster for transfers: its nodes, and a party on each that is needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ws.cluster.connect import Wish
from ws.cluster.helper import init_arguments
from ws.cluster.nodes import CASTING_NODE, Actor, Node, NodeState, NodeTracker, SeenNode
from ws.cluster.versions import Versions, mismatch
from ws.errors import EnvironmentProblem
from ws.node.secret import Token, revealed
from ws.transfer.entrance import Entrance, find_entrance
from ws.transfer.here import HereParty
from ws.transfer.onnode.casting import NAMESPACE
from ws.transfer.onnode.problems import LOST, NO_CLUSTER, TransferProblem
from ws.transfer.onnode.ray_link import links
from ws.transfer.remote import ActorRemote, LocalRemote, Remote, answer_of, first_line, lost
from ws.transfer.shared_actor import shared_actor
from ws.transfer.targets import HERE

_ATTEMPTS = 3
_ANSWER = 10.0
_UPSTREAM = ("Initialization failure from server", "Starting Ray client server failed")
"""https://github.com/ray-project/ray/issues/63202"""


class Session:
    """One connection; made by `open`, ended by `close`. Methods may be called from several threads."""

    def __init__(self, entrance: Entrance) -> None:
        self.where = entrance.address
        self._gateways = entrance.gateways()
        self._tracker = NodeTracker()
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._parties: dict[str, Remote] = {}
        self._theirs: dict[str, tuple[Any, dict[str, Any]]] | None = None
        self._look()

    @classmethod
    def open(cls, wish: Wish, note: Callable[[str], None] = lambda text: None) -> Session:
        """A session with the cluster that is wished for; one at a time in a process, as Ray has it.

        Through Ray Client where it answers, else as a driver where this machine is one of the cluster's. Never with a
        runtime_env: nothing is uploaded, and nothing is installed.

        Raises:
            EnvironmentProblem: there is none, or it lets nobody in (TokenRefused, Mismatch among them).
        """
        return cls(_connected(wish, note))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes by number, dead ones included."""
        with self._lock:
            return tuple(self._tracker.nodes())

    def party(self, party_id: str, fresh: bool = False) -> Remote:
        """The party `here`, or of the node of that id, started where there is none, or none any more.

        `fresh`: it was missed, and the cluster is looked at anew.

        Raises:
            TransferProblem: lost, where the node is not there or does not start an actor.
        """
        with self._lock:
            making = self._making.setdefault(party_id, threading.Lock())
        with making:
            known = self._parties.get(party_id)
            if known is not None and _answers(known):
                return known
            made = self._here() if party_id == HERE else self._found(party_id, fresh=fresh)
            self._parties[party_id] = made
            return made

    def close(self) -> None:
        """Disconnect. The actors on the nodes stay for others, and for the next one, until they are idle for a while."""
        import ray

        for remote in self._parties.values():
            if isinstance(remote, LocalRemote):
                remote.close()
        ray.shutdown()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _look(self) -> None:
        import ray

        nodes: Any = ray.nodes
        seen = [_seen(info) for info in nodes()]
        theirs = self._casting_nodes().items()  # a node is found by the name of its CastingNode, too
        actors = [Actor(about["name"], CASTING_NODE, about["name"], NAMESPACE, node) for node, (_, about) in theirs]
        with self._lock:
            self._tracker.update(seen, actors)

    def _here(self) -> Remote:
        return LocalRemote(HERE, HereParty(links, self._gateways))

    def _found(self, node_id: str, *, fresh: bool) -> Remote:
        try:
            return self._on(node_id, fresh=fresh)
        except TransferProblem:
            raise
        except Exception as error:  # Ray raises many kinds
            if not _is_connected():
                mend = "look whether its head lives: ws nodes"
                raise TransferProblem(
                    NO_CLUSTER, "the connection to the cluster is gone", first_line(error), mend
                ) from error
            raise lost(node_id, f"no actor starts there: {first_line(error)}") from error

    def _on(self, node_id: str, *, fresh: bool) -> Remote:
        if fresh:
            self._look()
        node = next((each for each in self.nodes if each.id == node_id), None)
        if node is None or node.state is NodeState.dead:
            raise TransferProblem(LOST, f"{node_id} is not there", "the cluster takes it for dead", "ws nodes")
        if not fresh and (theirs := self._casting_nodes().get(node.seen.node_id)):
            return ActorRemote(node_id, *theirs, name=node.seen.name)
        actor, about = shared_actor(node.seen.node_id, node.seen.name)
        return ActorRemote(node.id, actor, about, name=node.seen.name)

    def _casting_nodes(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """Those that users made, by Ray's id of their node: asked once, as they tell where they are."""
        import ray

        with self._lock:
            if self._theirs is None:
                named = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True) if _is_theirs(each)]
                asked = [(actor, actor.start.remote()) for name in named if (actor := _casting_node(name))]
                self._theirs = {}
                for actor, ref in asked:
                    about = _answered(ref)
                    if about and "node_id" in about:
                        self._theirs.setdefault(about["node_id"], (actor, about))
            return self._theirs


def _connected(wish: Wish, note: Callable[[str], None]) -> Entrance:
    entrance = find_entrance(wish, note)
    _prepare_environment(wish.token if entrance.wants_token else "")
    for attempt in range(_ATTEMPTS):
        try:
            _init(entrance, wish.namespace or NAMESPACE)
            break
        except Exception as error:
            _shut_down()
            if attempt + 1 == _ATTEMPTS or not any(words in str(error) for words in _UPSTREAM):
                raise _translated(error, entrance) from error
    return entrance


def _init(entrance: Entrance, namespace: str) -> None:
    import logging
    import warnings

    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "More than 10MB of messages")  # Ray Client's word about blocks; they are meant to be
    arguments = init_arguments(namespace)
    ray.init(entrance.address, logging_level=logging.ERROR, log_to_driver=False, **arguments)


def _is_connected() -> bool:
    import ray

    try:
        return bool(ray.is_initialized())
    except Exception:  # Ray Client asks its server
        return False


def _shut_down() -> None:
    import ray

    ray.shutdown()


def _prepare_environment(token: Token) -> None:
    """Before Ray is imported, which reads it then."""
    # Under `uv run`, Ray would have every worker of the cluster run by uv, with this folder uploaded.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    # A call after the connection broke would have Ray start a cluster here, and the file would go to that.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    os.environ.pop("RAY_ADDRESS", None)  # it has been heeded, and Ray would take it for more than it is
    os.environ["RAY_AUTH_MODE"] = "token" if token else "disabled"
    if token:
        os.environ["RAY_AUTH_TOKEN"] = revealed(token)


def _translated(error: Exception, entrance: Entrance) -> EnvironmentProblem:
    import re

    refused = re.search(r"cluster was started with:\s*Ray: (\S+)\s*Python: (\S+)", str(error))
    if refused and (obstacle := mismatch(Versions(refused[1], refused[2]), Versions.ours())):
        return obstacle
    return EnvironmentProblem(f"no connection to {entrance.address}", first_line(error), "ws discover shows what there is")


def _seen(info: dict[str, Any]) -> SeenNode:
    return SeenNode(
        node_id=info["NodeID"],
        name=info.get("NodeName") or info["NodeManagerAddress"],
        address=info["NodeManagerAddress"],
        alive=info["Alive"],
        head="node:__internal_head__" in info["Resources"],
        total=info["Resources"],
        labels=info.get("Labels") or {},
        hostname=info.get("NodeManagerHostname"),
        port=info.get("NodeManagerPort"),
    )


def _is_theirs(named: dict[str, str]) -> bool:
    return named["namespace"] == NAMESPACE and not named["name"].startswith("ws-")  # made by an older version of ours


def _casting_node(name: str) -> Any:
    """The actor of that name, where it is one; None: it has gone meanwhile, or is something else."""
    import ray

    try:
        actor = ray.get_actor(name, NAMESPACE)
    except ValueError:
        return None
    return actor if hasattr(actor, "read_block") and hasattr(actor, "start") else None


def _answered(ref: Any) -> dict[str, Any] | None:
    import ray

    try:
        answer = ray.get(ref, timeout=_ANSWER)
    except Exception:  # it is of no use, for whatever reason
        return None
    return answer if isinstance(answer, dict) else None


def _answers(remote: Remote) -> bool:
    """Here always does; an actor of ours may have ended since it was used."""
    if isinstance(remote, LocalRemote):
        return True
    try:
        answer_of(remote.call("start").result(_ANSWER), remote.id)
    except Exception:  # whatever Ray raises
        return False
    return True
