"""Whether nodes stay alive: followed in the background, beyond the time that Ray needs to find one that can't be reached.

A node that joined and can't be reached is marked dead only after Ray's health check has failed several times (FACTS 1). A
node that dies, vanishes or is replaced within the window is a problem, whatever it was able to do until then.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from ws.errors import WsError
from ws.verify import programs
from ws.verify.programs import Event
from ws.verify.site import Expected, Runs

_DEFAULTS = {
    "RAY_health_check_period_ms": 3000.0,
    "RAY_health_check_timeout_ms": 10_000.0,
    "RAY_health_check_failure_threshold": 5.0,
}
_SILENCE = 6.0  # seconds without an answer of the GCS, until another candidate is asked for it
_START = 25.0  # seconds that the program may take until its first answer; importing Ray takes long on a busy machine
_PATIENCE = 30.0  # seconds without an answer by any candidate that are a problem


def window(environment: Mapping[str, str]) -> float:
    """Seconds until Ray marks a node dead whose packets vanish, from the variables that its head was started with.

    Source: Ray's `gcs_health_check_manager.cc`; each of the checks that fail waits for its timeout, then for the period.
    """
    period, timeout, threshold = (_number(environment.get(name), default) for name, default in _DEFAULTS.items())
    return threshold * (period + timeout) / 1000


def _number(text: str | None, default: float) -> float:
    """Ray itself does not start with what is no number."""
    with suppress(ValueError):
        return float(text) if text else default
    return default


@dataclass
class Lives:
    """What is known of each node's life, from the events of the program `watch`. Times are of one clock, in seconds.

    `since[name][id]` is when a living node was first seen alive; `looked` when the GCS answered last; `troubles` what has
    happened, per node. `ignored`: ids of nodes that ended before all this; the GCS may take a while to find them dead.
    """

    names: Sequence[str]
    ignored: frozenset[str] = frozenset()
    since: dict[str, dict[str, float]] = field(default_factory=dict)
    troubles: dict[str, list[str]] = field(default_factory=dict)
    looked: float | None = None
    lost: str = ""

    def take(self, event: Event, now: float) -> None:
        if event["event"] == "lost":
            self.lost = str(event["why"])
        elif event["event"] == "nodes":
            for name in self.names:
                known = [node for node in event["nodes"] if node["name"] == name and node["id"] not in self.ignored]
                self._look(known, name, now)
        if event["event"] in ("nodes", "same"):
            self.looked, self.lost = now, ""

    def _look(self, nodes: Iterable[Event], name: str, now: float) -> None:
        """`nodes`: all that have this name, living and dead."""
        by_id = {str(node["id"]): node for node in nodes}
        living = [node_id for node_id, node in by_id.items() if node["alive"]]
        since = self.since.setdefault(name, {})
        for node_id in [known for known in since if known not in living]:
            end = (
                f"died: {by_id[node_id].get('why') or 'no reason given'}"
                if node_id in by_id
                else "vanished: no GCS knows it"
            )
            self._trouble(name, f"{name} was alive for {now - since.pop(node_id):.0f} s, and {end}")
        for node_id in living:
            since.setdefault(node_id, now)
        if len(living) > 1:
            self._trouble(name, f"{len(living)} living nodes are named {name}: {', '.join(sorted(living))}")

    def _trouble(self, name: str, what: str) -> None:
        if what not in self.troubles.setdefault(name, []):
            self.troubles[name].append(what)

    def alive_for(self, name: str) -> float | None:
        """Seconds for which a node was seen alive without a break, up to the last answer; None where it is not alive."""
        since = self.since.get(name)
        return self.looked - max(since.values()) if since and self.looked is not None else None


class Watched(Runs, Protocol):
    """What is followed: nodes that are expected, and a way to run a program on the candidates among them."""

    @property
    def expected(self) -> Mapping[str, Expected]: ...

    @property
    def known_before(self) -> frozenset[str]:
        """Ids of external Ray nodes that the GCS knew before the test's containers were started: they have ended."""


class StabilityWatch:
    """Follows the lives of the expected Ray nodes (joiners come and go, and don't count) from `start` until `stop`."""

    def __init__(self, site: Watched, clock: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._clock = clock
        self._change = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._started: float | None = None

    @cached_property
    def window(self) -> float:
        """Seconds for which a node must stay alive, by the candidates' settings; the longest, where they differ."""
        return max((window(node.environment) for node in self._candidates()), default=window({}))

    @cached_property
    def _lives(self) -> Lives:
        nodes = self._site.expected.values()
        names = [node.name for node in nodes if node.ray_node and node.role != "joiner"]
        return Lives(names, self._site.known_before)

    def _candidates(self) -> list[Expected]:
        return [node for node in self._site.expected.values() if node.role == "candidate"]

    def start(self) -> None:
        self._started = self._clock()
        self._thread = threading.Thread(target=self._run, name="stability", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and the program that it follows; what was seen stays known."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def problems(self, name: str | None = None) -> list[str]:
        """What has happened to a node, or to any; that nobody tells of them is a problem of all of them."""
        with self._change:
            troubles = self._lives.troubles
            happened = [trouble for of in ([name] if name else troubles) for trouble in troubles.get(of, [])]
            return [*happened, *self._silence()]

    def alive_for(self, name: str) -> float | None:
        """Seconds for which a node was seen alive without a break; None where it is not alive, or never was."""
        with self._change:
            return self._lives.alive_for(name)

    @property
    def has_looked(self) -> bool:
        """Whether any candidate has told of the nodes yet."""
        with self._change:
            return self._lives.looked is not None

    def wait(self, until: float) -> None:
        """Return when every node was alive for `until` seconds, or there is a problem; or when that can't come any more.

        With 0 seconds, the first answer is all that is waited for.
        A node that was not alive at the begin may make it last up to that long from now, and a moment more.
        """
        deadline = self._clock() + until + _SILENCE
        while not self._stopping.is_set() and self._clock() < deadline and not self.problems():
            with self._change:
                lived = [self._lives.alive_for(name) or 0.0 for name in self._lives.names]
                if self._lives.looked is not None and min(lived, default=until) >= until:
                    return
                self._change.wait(timeout=0.2)

    def _silence(self) -> list[str]:
        last = self._lives.looked if self._lives.looked is not None else self._started
        if last is None or self._stopping.is_set() or self._clock() - last < _PATIENCE:
            return []
        return [f"no candidate has told of the nodes for {self._clock() - last:.0f} s: {self._lives.lost or 'no answer'}"]

    def _run(self) -> None:
        while not self._stopping.is_set():
            for candidate in self._candidates():
                if not self._stopping.is_set():
                    self._follow(candidate)
            self._stopping.wait(0.2)

    def _follow(self, candidate: Expected) -> None:
        """Take what the program says on this candidate, until it ends or its GCS does not answer any more."""
        params = {"address": f"{candidate.name}:{candidate.entries['head']}", "pulse": True}
        try:
            process = self._site.spawn(candidate.name, programs.argv("watch", params))
        except WsError as error:
            self._take({"event": "lost", "why": str(error)})
            return
        try:
            self._listen(candidate.name, programs.events(process))
        finally:
            programs.leave(process, done=False)

    def _listen(self, candidate: str, coming: queue.Queue[Event | None]) -> None:
        patience, heard = _START, self._clock()
        while not self._stopping.is_set() and self._clock() - heard < patience:
            try:
                event = coming.get(timeout=0.2)
            except queue.Empty:
                continue
            if event is None:
                return
            if event["event"] not in ("lost", "broken"):
                heard = self._clock()
                self._take(event)
            else:
                self._take({"event": "lost", "why": f"{candidate}: {event['why']}"})
            patience = _SILENCE

    def _take(self, event: Event) -> None:
        with self._change:
            self._lives.take(event, self._clock())
            self._change.notify_all()
