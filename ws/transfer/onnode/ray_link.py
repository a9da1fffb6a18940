"""The object store as a link: chunks as Ray objects, where only Ray's own ports are open, and through Ray Client.

A block is a dict: {"digest", "data"} (any object with a buffer, which Ray carries out of band), {"digest", "hole": True},
or {"wait": True} where the chunk is not had yet; an actor's answer may also be {"problem": …}.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import BUFFER, OnWait, PeerFailed, commit, put_hole
from ws.transfer.onnode.problems import BAD_CHUNK, CANCELLED, LOST, STALLED, TransferProblem

_SILENCE = 30.0  # seconds for one block: Ray shows nothing of its progress
_TICK = 0.5


class _OutOfBand(bytearray):
    """Is pickled beside the rest, not into it, and comes out as a bytearray, which Ray Client's server can pickle again."""

    def __reduce_ex__(self, protocol: Any) -> tuple[type[bytearray], tuple[pickle.PickleBuffer]]:
        return bytearray, (pickle.PickleBuffer(self),)


def read_block(store: Any, index: int, wait: float = 1.0) -> dict[str, Any]:
    """A chunk of a store as a block, waiting for it at most `wait` seconds.

    Raises:
        TransferProblem: bad-chunk where there is no such chunk; what the store raises.
    """
    if not 0 <= index < store.layout.count:
        raise TransferProblem(BAD_CHUNK, f"there is no chunk {index}")
    if not store.wait_for(index, wait):
        return {"wait": True}
    if store.is_hole(index):
        return {"digest": store.digest(index), "hole": True}
    data = _OutOfBand(store.layout.length(index))
    end = 0
    for piece in store.pieces(index):
        data[end : end + len(piece)] = piece
        end += len(piece)
    return {"digest": store.digest(index), "data": data}


def write_block(sink: Any, index: int, block: Mapping[str, Any]) -> None:
    """Put a block into a sink.

    Raises:
        PeerFailed: bad-chunk, where its bytes are not those of its digest.
        TransferProblem: the sink could not take it.
    """
    if block.get("hole"):
        put_hole(sink, index, block["digest"])
        return
    with memoryview(block["data"]) as view:
        if view.nbytes != sink.layout.length(index):
            raise PeerFailed(TransferProblem(BAD_CHUNK, f"chunk {index} came with {view.nbytes} bytes"))
        writer = sink.writer(index)
        try:
            for start in range(0, view.nbytes, BUFFER):
                writer.write(view[start : start + BUFFER])
            commit(writer, block["digest"])
        except BaseException:
            writer.abort()
            raise


def links(peer: Mapping[str, Any], tid: bytes, sink: Any, on_wait: OnWait, limiter: Limiter | None = None) -> RayLink | None:
    """A link to the actor of a peer; None for a peer without one."""
    actor = peer.get("actor")
    return None if actor is None else RayLink(actor, str(peer["name"]), tid, sink, on_wait, limiter)


class RayLink:
    """As TcpLink. Two streams have 8 blocks in flight."""

    depth = 4

    def __init__(
        self, actor: Any, name: str, tid: bytes, sink: Any, on_wait: OnWait, limiter: Limiter | None = None
    ) -> None:
        self.name = name
        self._actor, self._tid, self._sink, self._on_wait = actor, tid.hex(), sink, on_wait
        self._limiter = limiter or Limiter()
        self._refs: deque[Any] = deque()
        self._shut = threading.Event()

    def ask(self, index: int) -> None:
        self._limiter.take(self._sink.layout.length(index))
        self._refs.append(self._submit(index))

    def receive(self, index: int) -> None:
        ref = self._refs.popleft()
        while True:
            block = self._get(ref)
            if "problem" in block:
                raise PeerFailed(TransferProblem.from_dict(block["problem"]), told=True)
            if not block.get("wait"):
                break
            self._on_wait(index, 0)
            ref = self._submit(index)
        del ref
        write_block(self._sink, index, block)

    def goodbye(self) -> None:
        """The actor keeps nothing for us."""

    def shut(self) -> None:
        self._shut.set()

    def close(self) -> None:
        self._refs.clear()

    def _submit(self, index: int) -> Any:
        try:
            return self._actor.read_block.remote(self._tid, index)
        except Exception as error:  # whatever Ray raises: the actor, or the way to it, is gone
            raise self._lost(error) from error

    def _get(self, ref: Any) -> dict[str, Any]:
        import ray

        deadline = time.monotonic() + _SILENCE
        try:
            while not ray.wait([ref], timeout=_TICK)[0]:
                if self._shut.is_set():
                    raise PeerFailed(TransferProblem(CANCELLED, "no more is wanted now"), blameless=True)
                if time.monotonic() > deadline:
                    raise PeerFailed(TransferProblem(STALLED, f"no block came from {self.name} for {_SILENCE:g} s"))
            block = ray.get(ref, timeout=_SILENCE)
        except PeerFailed:
            raise
        except Exception as error:
            raise self._lost(error) from error
        if not isinstance(block, dict):
            raise PeerFailed(TransferProblem(BAD_CHUNK, f"an answer of {self.name} makes no sense"))
        return block

    def _lost(self, error: Exception) -> PeerFailed:
        why = (str(error) or type(error).__name__).splitlines()[0]
        return PeerFailed(TransferProblem(LOST, f"{self.name} does not answer through Ray", why))
