"""How a transfer ends at its parties: each is told, and who does not confirm that nothing is left there is known by name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.recipient import Recipient
from ws.transfer.remote import Remote, ask, result

FAREWELL = 5.0
"""Seconds for the answers to a goodbye; the lease of who does not answer ends what is left there."""
_REMOVAL = 12.0
"""Seconds for what is unfinished to be removed: a node gives its writing threads 10 s to let go."""

_Asked = list[tuple[str, Future[Any]]]


class Ending:
    """Not for several threads at once, but for `cancel`."""

    def __init__(self, tid: str) -> None:
        self._tid = tid
        self._cancelling: _Asked = []

    def cancel(self, remotes: Iterable[Remote], *, keep_partial: bool) -> None:
        """Tell all of them, without waiting."""
        self._cancelling += [(remote.id, ask(remote, "finish", self._tid, keep_partial)) for remote in remotes]

    def say_goodbye(self, remotes: Iterable[Remote]) -> None:
        """It is over, and what is not whole stays for the next try."""
        _unconfirmed([(remote.id, ask(remote, "finish", self._tid, True)) for remote in remotes], FAREWELL)

    def remove_all(self, sender: Remote | None, recipients: Sequence[Recipient]) -> tuple[str, ...]:
        """Nothing unfinished is to be left; returns the recipients that have not confirmed that."""
        deadline = time.monotonic() + _REMOVAL
        begun = [each for each in recipients if each.spec and not each.receipt]
        if sender:
            ask(sender, "finish", self._tid)  # there is nothing to be removed: nobody waits for its answer
        _unconfirmed([(name, future) for name, future in self._cancelling if name in {each.id for each in begun}], FAREWELL)
        asked = [(each.id, ask(each.remote, "discard", self._tid, each.spec)) for each in begun if each.remote]
        lost = [each.id for each in begun if not each.remote]
        return (*lost, *_unconfirmed(asked, max(FAREWELL, deadline - time.monotonic())))


def _unconfirmed(asked: _Asked, seconds: float) -> list[str]:
    """Who has not answered well by then."""
    deadline = time.monotonic() + seconds
    found = []
    for name, future in asked:
        try:
            result(future, name, max(0.0, deadline - time.monotonic()))
        except (TransferProblem, TimeoutError):
            found.append(name)
    return found
