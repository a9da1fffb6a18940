"""This machine as a party: in this process, for the user's own files wherever they are; it dials, and nobody dials it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ws.transfer.onnode.answers import answering
from ws.transfer.onnode.entries import Listing, scan_here
from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.linux import give_back_memory
from ws.transfer.onnode.names import Place, Roots
from ws.transfer.onnode.parts import place_for
from ws.transfer.onnode.party import Party
from ws.transfer.onnode.ray_link import answered, as_values, read_block, value_count
from ws.transfer.remote import answer_of
from ws.transfer.targets import HERE

_IN_FLIGHT = 2
_RECIPIENT = "the recipient"


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
        self, tid: str, addresses: Sequence[Sequence[Any]], streams: int = 2, wanted: str = ""
    ) -> dict[str, Any]:
        return super().serve_by_dialling(tid, self._ways(addresses), streams, wanted)

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
        """Bring every chunk that `actor` is missing to it through Ray, for nobody can ask this machine; 2 in flight."""
        part = self._part(tid)

        def answer(ref: Any) -> dict[str, Any]:
            give_back_memory()
            try:
                return answer_of(answered([ref], actor, tid, _RECIPIENT, part.check)[0], _RECIPIENT)
            except PeerFailed as failure:
                raise failure.problem from failure

        on_the_way: deque[Any] = deque()
        for index in answer(actor.missing.remote(tid))["missing"]:
            length = part.layout.length(index)
            part.await_limit(length)
            values = as_values(read_block(part.store, index), value_count(length))
            on_the_way.append(actor.write_block.remote(tid, index, *values))
            if len(on_the_way) >= _IN_FLIGHT:
                answer(on_the_way.popleft())
        while on_the_way:
            answer(on_the_way.popleft())
        return {}
