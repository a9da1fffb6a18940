"""Which part this node plays, and who says so.

A guide answers with an Assignment and says when it changes. There are three: an address that was given, the election
that this node takes part in, and a leader that others elect.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from ws.node.elector import Elector, leader_of
from ws.node.secret import Token
from ws.node.settings import Settings

_FOLLOW_INTERVAL = 2.0


@dataclass(frozen=True)
class Assignment:
    """What this node is to be.

    `address` is the head's host:port; `leader` the candidate's name where it is known; `epoch` that of the lease, 0
    where none was granted.
    """

    mode: str
    address: str
    leader: str | None = None
    epoch: int = 0

    def replaces(self, running: Assignment) -> bool:
        """Whether a node that runs under `running` must start Ray anew.

        A head that started without a health server (epoch 0) and gets its lease later goes on as it is.
        """
        if (self.mode, self.address) != (running.mode, running.address):
            return True
        return running.epoch not in (self.epoch, 0)


class FixedGuide:
    """The head's address was given: a worker of it, for good."""

    def __init__(self, address: str) -> None:
        self._assignment = Assignment("worker", address)

    def current(self) -> Assignment | None:
        return self._assignment

    def why_none(self) -> str:
        return ""

    def lost(self) -> None:
        pass

    def stop(self) -> None:
        pass


class ElectedGuide:
    """This node is a candidate: what the election says."""

    def __init__(self, elector: Elector) -> None:
        self._elector = elector

    def current(self) -> Assignment | None:
        view = self._elector.view
        if view.role == "undecided" or not view.address:
            return None
        return Assignment(view.role, view.address, view.leader, view.epoch)

    def why_none(self) -> str:
        return self._elector.view.reason

    def lost(self) -> None:
        self._elector.lost()

    def stop(self) -> None:
        self._elector.resign()
        self._elector.stop()


class FollowingGuide:
    """This node is no candidate and was given no address: a worker of whoever leads, asked for every two seconds."""

    def __init__(self, settings: Settings, token: Token) -> None:
        self._settings = settings
        self._token = token
        self._assignment: Assignment | None = None
        self._tried: list[str] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow leader", daemon=True)
        self._thread.start()

    def current(self) -> Assignment | None:
        return self._assignment

    def why_none(self) -> str:
        tried = "; ".join(self._tried) or "no health server and no candidates are given"
        return f"no candidate leads ({tried}); set HEAD_ADDRESS to join a head by its address"

    def lost(self) -> None:
        self._assignment = None

    def stop(self) -> None:
        self._stopping.set()

    def _follow(self) -> None:
        settings = self._settings
        while not self._stopping.is_set():
            tried: list[str] = []
            leader = leader_of(settings.health_url, self._token, settings.candidates, settings.health_timeout, tried)
            self._tried = tried
            if leader and leader.address:
                self._assignment = Assignment("worker", leader.address, leader.leader, leader.epoch)
            self._stopping.wait(_FOLLOW_INTERVAL if self._assignment else 0.5)


def wait_for_assignment(
    guide: FixedGuide | ElectedGuide | FollowingGuide, timeout: float, stopping: threading.Event
) -> Assignment | None:
    """The first assignment within `timeout` seconds, or None."""
    deadline = time.monotonic() + timeout
    while not stopping.is_set():
        assignment = guide.current()
        if assignment or time.monotonic() > deadline:
            return assignment
        stopping.wait(0.05)
    return None
