"""This machine as a party: in this process, for the user's own files wherever they are; it dials, and nobody dials it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
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
    """No roots: what the user may read and write is the limit.

    `gateways`: hosts whose ports may lead to the nodes' ports of the same number. The names of nodes mean nothing here where
    they are in containers or behind NAT.
    """

    def __init__(self, links: Any = None, gateways: Sequence[str] = ()) -> None:
        super().__init__(HERE, environ={"WS_TRANSFER_ROOTS": "/"}, listen=False, links=links)
        self._gateways = tuple(gateways)

    def reach(self, tid: str, secret: bytes, targets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return super().reach(tid, secret, [self._with_ways(target) for target in targets])

    def serve_by_dialling(
        self, tid: str, addresses: Sequence[Sequence[Any]], streams: int = 2, name: str = ""
    ) -> dict[str, Any]:
        return super().serve_by_dialling(tid, self._ways(addresses), streams, name)

    def pull(self, tid: str, peers: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return super().pull(tid, [self._with_ways(peer) for peer in peers], options)

    def _with_ways(self, party: Mapping[str, Any]) -> dict[str, Any]:
        return {**party, "addresses": self._ways(party.get("addresses") or [])}

    def _ways(self, addresses: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """The node's own addresses, then those by the gateways."""
        known = [[host, port] for host, port in addresses]
        by_gateway = [[gateway, port] for _, port in known for gateway in self._gateways]
        return known + [address for address in by_gateway if address not in known]

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
