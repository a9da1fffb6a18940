"""This machine as a party: in this process, for the user's own files wherever they are; it dials, and nobody dials it."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

from ws.transfer.onnode.answers import answering
from ws.transfer.onnode.entries import Listing, scan_here
from ws.transfer.onnode.names import Place, Roots
from ws.transfer.onnode.part import place_for
from ws.transfer.onnode.party import Party
from ws.transfer.remote import HERE, answer_of, lost

_IN_FLIGHT = 8
_BLOCK = 60.0
"""Seconds that one block may take on its way through Ray."""


class HereParty(Party):
    """No roots: what the user may read and write is the limit."""

    def __init__(self, links: Any = None) -> None:
        super().__init__(HERE, environ={"WS_TRANSFER_ROOTS": "/"}, listen=False, links=links)

    def _source(self, path: str) -> tuple[Place, Listing]:
        return scan_here(path)

    def _target(self, dest: str | None, name: str, is_folder: bool) -> Place:
        """The folder that `dest` names may be a link, as the user named it; nothing below it may."""
        dest = dest or "."
        whole = os.path.realpath(os.path.expanduser(dest))  # noqa: PTH111 - bytes that are no UTF-8 stay as they are
        return place_for(Roots(["/"]), whole + "/" * dest.endswith("/"), name, is_folder)

    @answering
    def push(self, tid: str, actor: Any) -> dict[str, Any]:
        """Bring every chunk that `actor` is missing to it through Ray, for nobody can ask this machine; 8 in flight."""
        import ray

        part = self._part(tid)
        on_the_way: deque[Any] = deque()
        missing = answer_of(ray.get(actor.missing.remote(tid), timeout=_BLOCK), "the recipient")["missing"]
        for index in missing:
            if part.stop.is_set():
                raise part.ended
            on_the_way.append(actor.write_block.remote(tid, index, self.read_block(tid, index)))
            if len(on_the_way) >= _IN_FLIGHT:
                _await(on_the_way.popleft())
        while on_the_way:
            _await(on_the_way.popleft())
        return {}


def _await(ref: Any) -> None:
    import ray

    try:
        answer = ray.get(ref, timeout=_BLOCK)
    except Exception as error:  # whatever Ray raises: the recipient, or the way to it, is gone
        raise lost("the recipient", type(error).__name__) from error
    answer_of(answer, "the recipient")
