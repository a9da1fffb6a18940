"""Asks for a place at the gate before Ray is started (FACTS 12: a storm of starts kills nodes).

The health server keeps the gate; where it does not answer, the head's agent does; where nobody does, the start goes
ahead, and a start that Ray times out is tried again anyway.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ws.node.http_client import HttpFailure, call
from ws.node.log import BAD, STEP, say
from ws.node.secret import Token

_SHORTEST_PAUSE, _LONGEST_PAUSE, _PAUSE_PER_PLACE = 0.3, 3.0, 0.15
_TIMEOUT = 2.0


class GateClient:
    """A node's view of the gate. `urls` are the keepers, asked in order until one answers."""

    def __init__(self, name: str, instance: str, token: Token, stopping: threading.Event) -> None:
        self._who: dict[str, object] = {"name": name, "instance": instance}
        self._token = token
        self._stopping = stopping
        self._keeper: str | None = None

    @contextmanager
    def passage(self, urls: Sequence[str], priority: bool) -> Iterator[None]:
        """Wait for a place, hold it for the body, give it back (or earlier by `leave`)."""
        self._enter(urls, priority)
        try:
            yield
        finally:
            self.leave()

    def leave(self) -> None:
        """Give the place back; without one, nothing happens."""
        keeper, self._keeper = self._keeper, None
        if keeper:
            self._ask(keeper, "leave", self._who)

    def _enter(self, urls: Sequence[str], priority: bool) -> None:
        told = False
        while not self._stopping.is_set():
            for url in urls:
                answer = self._ask(url, "enter", {**self._who, "priority": priority})
                if answer is None:
                    continue
                self._keeper = url  # a place in the queue is one to give back, too
                if answer.get("granted"):
                    return
                if not told:
                    say(f"waiting at the gate: {answer.get('ahead', '?')} nodes start before this one", STEP)
                    told = True
                # Whoever is far from its turn asks seldom: twenty that ask often cost the starting ones their time.
                ahead = answer.get("ahead")
                pause = _PAUSE_PER_PLACE * (ahead if isinstance(ahead, int) else 1)
                break
            else:
                self._keeper = None
                return
            self._stopping.wait(min(max(pause, _SHORTEST_PAUSE), _LONGEST_PAUSE))

    def _ask(self, url: str, verb: str, body: dict[str, object]) -> dict[str, object] | None:
        try:
            return call(f"{url}/gate/{verb}", "POST", body, self._token, _TIMEOUT)
        except HttpFailure as failure:
            if failure.is_refusal and verb == "enter":
                say(f"the gate refuses this node: {failure.text}", BAD)
            return None
