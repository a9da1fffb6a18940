"""Ray itself as a link: chunks as Ray objects, where only Ray's own ports are open, and through Ray Client.

A block is a dict: {"digest", "pieces": [bytes, …]}, {"digest", "hole": True}, or {"wait": True, "pulse": bytes that came in}
where the chunk is not had yet; an actor's answer may also be {"problem": …}.

It goes as several values, each an object of its own: the dict without its pieces, then pieces of at most `PIECE` bytes.
Objects that small travel inside the answer (or the call) from one worker to the other and live in the memory of who asked,
until it drops them. One object of 8 MiB goes through the shared memory of both nodes, which Ray frees a second later (or by
the hundred) and never gives back to the machine: that took twice the CPU, and as much memory as a second brings.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import OnMoved, OnWait, PeerFailed, commit, put_hole
from ws.transfer.onnode.problems import BAD_CHUNK, CANCELLED, LOST, STALLED, TransferProblem

PIECE = 96 * 1024
"""Bytes. Ray's own limit for an object inside an answer is 100 KiB, all told."""
DEPTH = 2
"""Blocks in flight by one link."""
_SILENCE = 10.0  # seconds without a sign of life from an actor that owes something
_SLOWEST = 300.0  # seconds for one block, however alive its actor is
_TICK = 0.5
_PAUSE = 0.3  # seconds that a question for a chunk that is not had yet may hold one of the few threads


def value_count(length: int) -> int:
    """How many values a block of so many bytes is."""
    return 1 + -(-length // PIECE)


def as_values(block: Mapping[str, Any], count: int) -> list[Any]:
    """A block as `count` values; what is not needed of them is empty."""
    pieces = block.get("pieces", [])[: count - 1]
    return [{**block, "pieces": []}, *pieces, *[b""] * (count - 1 - len(pieces))]


def from_values(values: Sequence[Any]) -> dict[str, Any]:
    """The block that these values are.

    Raises:
        TransferProblem: bad-chunk, where they are none.
    """
    head, *pieces = values
    if not isinstance(head, dict) or not all(isinstance(piece, bytes) for piece in pieces):
        raise TransferProblem(BAD_CHUNK, "an answer makes no sense")
    return {**head, "pieces": pieces}


def read_block(store: Any, index: int, wait: float = _PAUSE, pulse: Callable[[], int] | None = None) -> dict[str, Any]:
    """A chunk of a store as a block, waiting for it at most `wait` seconds.

    Raises:
        TransferProblem: bad-chunk where there is no such chunk; what the store raises.
    """
    if not 0 <= index < store.layout.count:
        raise TransferProblem(BAD_CHUNK, f"there is no chunk {index}")
    if not store.wait_for(index, wait):
        return {"wait": True, "pulse": pulse() if pulse else 0}
    if store.is_hole(index):
        return {"digest": store.digest(index), "hole": True}
    pieces = list(_cut(store.pieces(index)))
    return {"digest": store.digest(index), "pieces": pieces}


def _cut(views: Iterable[memoryview]) -> Iterator[bytes]:
    """The same bytes in pieces of PIECE; a view holds only until the next is asked for."""
    rest = b""
    for view in views:
        start = 0
        while start < len(view):
            after = start + PIECE - len(rest)
            rest, start = rest + view[start:after], after
            if len(rest) == PIECE:
                yield rest
                rest = b""
    if rest:
        yield rest


def write_block(sink: Any, index: int, block: Mapping[str, Any]) -> None:
    """Put a block into a sink.

    Raises:
        PeerFailed: bad-chunk, where its bytes are not those of its digest.
        TransferProblem: the sink could not take it.
    """
    if block.get("hole"):
        put_hole(sink, index, block["digest"])
        return
    pieces = block["pieces"]
    length = sum(map(len, pieces))
    if length != sink.layout.length(index):
        raise PeerFailed(TransferProblem(BAD_CHUNK, f"chunk {index} came with {length} bytes"))
    writer = sink.writer(index)
    try:
        for piece in pieces:
            writer.write(piece)
        commit(writer, block["digest"])
    except BaseException:
        writer.abort()
        raise


def links(
    peer: Mapping[str, Any],
    tid: bytes,
    sink: Any,
    on_wait: OnWait,
    limiter: Limiter | None = None,
    moved: OnMoved = lambda count: None,
) -> RayLink | None:
    """A link to the actor of a peer; None for a peer without one."""
    actor = peer.get("actor")
    return None if actor is None else RayLink(actor, str(peer["name"]), tid, sink, on_wait, limiter, moved)


class RayLink:
    """As TcpLink. Two streams have 4 blocks in flight."""

    depth = DEPTH

    def __init__(
        self,
        actor: Any,
        name: str,
        tid: bytes,
        sink: Any,
        on_wait: OnWait,
        limiter: Limiter | None = None,
        moved: OnMoved = lambda count: None,
    ) -> None:
        self.name = name
        self._actor, self._tid, self._sink, self._on_wait, self._moved = actor, tid.hex(), sink, on_wait, moved
        self._limiter = limiter or Limiter()
        self._asked: deque[list[Any]] = deque()
        self._shut = threading.Event()

    def ask(self, index: int) -> None:
        left = self._sink.layout.length(index)
        while left:
            self._stop_if_shut()
            size = min(left, self._limiter.slice())
            self._limiter.take(size)
            self._moved(0)  # it is our own limit that we wait for
            left -= size
        self._asked.append(self._submit(index))

    def receive(self, index: int) -> None:
        """Put the chunk that was asked for first, which must be `index`, into the sink; raises as `TcpLink.receive`."""
        refs = self._asked.popleft()
        while True:
            block = self._get(refs)
            if "problem" in block:
                raise PeerFailed(TransferProblem.from_dict(block["problem"]), told=True)
            if not block.get("wait"):
                break
            self._on_wait(index, int(block.get("pulse", 0)))
            refs = self._submit(index)
        del refs  # what Ray holds of it goes before it is written
        self._moved(sum(map(len, block["pieces"])))
        write_block(self._sink, index, block)

    def goodbye(self) -> None:
        """The actor keeps nothing for us."""

    def shut(self) -> None:
        self._shut.set()

    def close(self) -> None:
        self._asked.clear()

    def _submit(self, index: int) -> list[Any]:
        count = value_count(self._sink.layout.length(index))
        try:
            refs: list[Any] = self._actor.read_block.options(num_returns=count).remote(self._tid, index, count)
        except Exception as error:  # whatever Ray raises: the actor, or the way to it, is gone
            raise _lost(self.name, error) from error
        return refs

    def _get(self, refs: list[Any]) -> dict[str, Any]:
        values = answered(refs, self._actor, self._tid, self.name, self._stop_if_shut, self._moved)
        try:
            return from_values(values)
        except TransferProblem as problem:
            raise PeerFailed(problem) from problem

    def _stop_if_shut(self) -> None:
        if self._shut.is_set():
            raise PeerFailed(TransferProblem(CANCELLED, "no more is wanted now"), blameless=True)


def answered(
    refs: list[Any], actor: Any, tid: str, name: str, check: Callable[[], None], moved: OnMoved = lambda count: None
) -> list[Any]:
    """What an actor's method returned. `check` is called meanwhile, and ends the waiting by what it raises.

    Ray does not show how far a block has come, and 8 MiB may take minutes: the actor is asked for a sign of life, which
    comes the same way, and `moved(0)` called for each. Time is counted in looks, as in `wire`.

    Raises:
        PeerFailed: the actor is gone, or silent.
    """
    import ray

    sign: Any = None
    silent = waited = 0.0
    try:
        while not ray.wait(refs[:1], timeout=_TICK)[0]:  # all values come in one answer
            check()
            silent, waited = silent + _TICK, waited + _TICK
            if sign is None:
                sign = actor.progress.remote(tid)
            elif ray.wait([sign], timeout=0)[0]:
                ray.get(sign)
                sign, silent = None, 0.0
                moved(0)
            if silent > _SILENCE or waited > _SLOWEST:
                what = f"was silent for {silent:g} s" if silent > _SILENCE else f"did not bring a block in {waited:g} s"
                raise PeerFailed(TransferProblem(STALLED, f"{name} {what}"))
        values: list[Any] = ray.get(refs, timeout=_SLOWEST)
    except (PeerFailed, TransferProblem):
        raise
    except Exception as error:
        raise _lost(name, error) from error
    return values


def _lost(name: str, error: Exception) -> PeerFailed:
    why = (str(error) or type(error).__name__).splitlines()[0]
    return PeerFailed(TransferProblem(LOST, f"{name} does not answer through Ray", why))
