"""Finds out who reaches whom in a running transfer, and gives each recipient those that it takes from."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from ws.transfer import planning
from ws.transfer.onnode.problems import BAD_CHUNK, STALLED, UNREACHABLE, TransferProblem
from ws.transfer.planning import Leg, Reached
from ws.transfer.recipient import FAILED, Recipient
from ws.transfer.remote import Remote, ask, failed, lost, port_trouble, result
from ws.transfer.sender import Sender

_PROBE = 10.0


class Router:
    """Several threads use it at once, each for the recipient that it drives."""

    def __init__(self, tid: str, secret: bytes, sender: Sender, recipients: Sequence[Recipient], plane: str) -> None:
        self._tid, self._secret, self._sender, self._recipients, self._plane = tid, secret, sender, recipients, plane
        self._ways: dict[tuple[str, str], Reached] = {}
        self._lock = threading.Lock()

    def route(self, joining: Sequence[Recipient]) -> list[Leg]:
        """A new leg for each of `joining`, behind the others that run or have it already, unless it is to avoid them."""
        names = [recipient.id for recipient in joining]
        avoided = {name for recipient in joining for name in recipient.avoids | recipient.passes_over}
        with self._lock:
            before = list(self._standing(names, avoided))
        if self._plane != planning.RAY:
            self._probe([*before, *names], names)
        with self._lock:
            legs = self._standing(names, avoided)
            if legs:
                for name in names:
                    legs[name] = planning.join(self._sender.id, name, legs, self._ways, self._plane)
            else:
                legs = {leg.recipient: leg for leg in planning.plan(self._sender.id, names, self._ways, self._plane)}
            for recipient in joining:
                recipient.leg = legs[recipient.id] = self._with_trouble(legs[recipient.id])
        return [leg for leg in legs.values() if leg.recipient in names]

    def _with_trouble(self, leg: Leg) -> Leg:
        """Its `why` tells if one of the two has not the port that others know to let through."""
        told = [trouble for name in (leg.source, leg.recipient) if (trouble := port_trouble(self.remote(name)))]
        return replace(leg, why="; ".join([leg.why, *told]))

    def remote(self, name: str) -> Remote | None:
        """The party of that name, unless it has failed."""
        if name == self._sender.id:
            return self._sender.remote
        return next((each.remote for each in self._recipients if each.id == name and each.state != FAILED), None)

    def peers(self, leg: Leg) -> list[dict[str, Any]]:
        """Whom the recipient asks, as `Puller` has it: its source, then the fallbacks, and the sender in any case."""
        peers = []
        for name in dict.fromkeys((leg.source, *leg.fallbacks, self._sender.id)):
            remote = self.remote(name)
            if remote is None:
                continue
            peer: dict[str, Any] = {"name": name, "origin": name == self._sender.id, "addresses": []}
            if leg.plane == planning.RAY:
                peer["actor"] = remote.actor
            elif not (leg.dialled and name == leg.source):
                peer["addresses"] = remote.addresses
            peers.append(peer)
        return peers

    def have_dialled(self, recipient: Recipient, streams: int) -> bool:
        """Let those dial it whom it can't dial; False: its source would not, and is avoided from now on.

        A sender that it can't dial does so in any case: else nobody could stand in for the others that it takes from.
        Raises the sender's problem.
        """
        leg, sender = recipient.leg, self._sender.id
        if leg is None or leg.plane == planning.RAY:
            return True
        if leg.source != sender and self._needs_dialling(recipient.id):
            self._ask_to_dial(sender, recipient, streams)
        if leg.dialled:
            try:
                result(self._ask_to_dial(leg.source, recipient, streams), leg.source, _PROBE)
            except (TransferProblem, TimeoutError) as error:
                if leg.source == sender:
                    raise lost(sender, str(error) or f"no answer in {_PROBE:g} s") from error
                recipient.avoids.add(leg.source)
                return False
        return True

    def judge(self, recipient: Recipient, problem: TransferProblem | None) -> None:
        """Of what its last attempt came to: a source that lied is avoided, and for once one that had more than it gave."""
        source = next((each for each in self._recipients if recipient.leg and each.id == recipient.leg.source), None)
        was_interrupted, recipient.is_interrupted = recipient.is_interrupted, False
        recipient.passes_over = set()
        if source is None or problem is None or was_interrupted:
            return
        if problem.code == BAD_CHUNK:
            recipient.avoids.add(source.id)
        elif problem.code in {STALLED, UNREACHABLE} and source.done_bytes > recipient.done_bytes:
            recipient.passes_over = {source.id}

    def _ask_to_dial(self, source: str, recipient: Recipient, streams: int) -> Future[Any]:
        remote = self.remote(source)
        if remote is None:
            return failed(lost(source, "it has failed"))
        return ask(remote, "serve_by_dialling", self._tid, recipient.party.addresses, streams, recipient.id)

    def _needs_dialling(self, recipient: str) -> bool:
        """Whether the sender has to dial it, should it want to take from the sender, as far as is known."""
        with self._lock:
            there, back = (recipient, self._sender.id), (self._sender.id, recipient)
            works = {pair: self._ways[pair].ok for pair in (there, back) if pair in self._ways}
        return self._listens(recipient) and not works.get(there, False) and works.get(back, True)

    def _standing(self, joining: Sequence[str], avoided: Collection[str]) -> dict[str, Leg]:
        """The legs of the others that are there to take from, and do not take from who joins."""
        others = [
            (other.id, other.leg)
            for other in self._recipients
            if other.id not in avoided and other.accepted and other.state != FAILED
        ]
        return {name: leg for name, leg in others if leg and not set(joining) & set(leg.path)}

    def _probe(self, chain: Sequence[str], joining: Sequence[str]) -> None:
        listening = frozenset(name for name in (self._sender.id, *chain) if self._listens(name))
        with self._lock:
            self._ways = {pair: way for pair, way in self._ways.items() if not set(pair) & set(joining)}
        self._try(planning.first_question(self._sender.id, chain, listening))
        self._try(planning.second_question(self._sender.id, chain, listening, self._ways))

    def _listens(self, name: str) -> bool:
        remote = self.remote(name)
        return bool(remote and remote.addresses)

    def _try(self, question: planning.Question) -> None:
        """Ask every dialler at once for all its ways that are not known."""
        asked = []
        for dialler in dict.fromkeys(who for who, _ in question):
            remote = self.remote(dialler)
            others = [
                self.remote(dialled) for who, dialled in question if who == dialler and (who, dialled) not in self._ways
            ]
            targets = [{"name": other.id, "addresses": other.addresses} for other in others if other]
            if remote and targets:
                asked.append((dialler, targets, ask(remote, "reach", self._tid, self._secret, targets)))
        for dialler, targets, future in asked:
            found: dict[str, Any]
            try:
                found = result(future, dialler, _PROBE)
            except (TransferProblem, TimeoutError) as problem:
                found = {str(target["name"]): {"ok": False, "ms": 0.0, "why": str(problem)} for target in targets}
            with self._lock:
                for name, way in found.items():
                    self._ways[dialler, name] = Reached(way["ok"], way["ms"], way["why"])
