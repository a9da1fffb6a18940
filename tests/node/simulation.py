"""Candidates, health server and network on a simulated clock: the real `Election` and `LeaseBook`, and nothing that waits.

A `World` is a queue of events; `faults.py` fills it from a seed, and tests may script their own. The health
server is the real request handlers over the real book; what it keeps survives its crashes, also one between the
writing and the answer. Clocks run at slightly different rates, and wake-ups come late.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ws.node.election import Election
from ws.node.health import lease_routes
from ws.node.lease import BookState, LeaseBook
from ws.node.messages import HEAD, HEALTH, Claim, Send

Reply = dict[str, Any] | str | None
"""An answer; REFUSED: something is up there and does not take the request; None: nothing there."""

REFUSED = "refused"


class ServerDiedError(Exception):
    """The health server's process ended in the middle of a request."""


@dataclass
class Network:
    """How messages travel. Delays are exponential with mean `delay`, at most `longest` seconds."""

    loss: float = 0.0
    delay: float = 0.005
    longest: float = 0.05
    doubled: float = 0.0
    group: dict[str, int] = field(default_factory=dict)
    cut_from_health: set[str] = field(default_factory=set)

    def connects(self, one: str, other: str) -> bool:
        if HEALTH in (one, other):
            return not {one, other} & self.cut_from_health
        return self.group.get(one, 0) == self.group.get(other, 0)


class Clock:
    """A clock of a machine: `rate` 1.01 gains a hundredth."""

    def __init__(self, world: World, rate: float, offset: float) -> None:
        self._world, self._rate, self._offset = world, rate, offset

    def __call__(self) -> float:
        return self._offset + self._rate * self._world.now

    def real(self, local: float) -> float:
        return (local - self._offset) / self._rate


class SimulatedServer:
    """The health server: `kept` is its disk."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Clock(world, world.rate(), world.rng.uniform(0, 1e6))
        self.kept: BookState | None = None
        self.disk_fails = self.dies_when_saving = 0.0
        self.up = self.paused = self.unreadable = False
        self.refuses: set[str] = set()
        self.inbox: list[Callable[[], None]] = []

    def start(self, unreadable: bool = False) -> None:
        if not self.up:
            self.unreadable = self.unreadable or unreadable
            state = None if self.unreadable else self.kept
            book = LeaseBook(
                self.clock, lambda: 1e9 + self.world.now, save=self._save, state=state, recovering=self.unreadable
            )
            self.routes = lease_routes(book, lambda text, mark: None)
            self.up = True

    def stop(self) -> None:
        self.up = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        waiting, self.inbox = self.inbox, []
        for deliver in waiting:
            deliver()

    def handle(self, send: Send) -> Reply:
        """The answer; None where the disk fails. Raises ServerDiedError."""
        status, answer = self.routes["POST" if send.message else "GET", send.path](send.message)
        return answer if status == 200 else None

    def _save(self, state: BookState) -> None:
        if self.world.rng.random() < self.disk_fails:
            raise OSError("no space left")
        dies = self.world.rng.random() < self.dies_when_saving
        if not dies or self.world.rng.random() < 0.5:
            self.kept, self.unreadable = state, False
        if dies:
            self.up = False
            raise ServerDiedError


class SimulatedCandidate:
    """A machine that may run a candidate's process, one after the other."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.clock = Clock(world, world.rate(), world.rng.uniform(0, 1e6))
        self.election: Election | None = None
        self.paused = False
        self.inbox: list[Callable[[], None]] = []
        self._wake_at = -1.0

    def start(self) -> None:
        """A new process: it remembers nothing."""
        world = self.world
        instance = f"{self.name}/{next(world.ids)}"
        rng = random.Random(world.rng.random())
        self.election = Election(
            self.name,
            instance,
            world.names,
            address=f"{self.name}:1",
            ttl=world.ttl,
            rng=rng,
            patience=world.patience,
            timeout=world.ttl / 10,
            max_retries=world.max_retries,
            retry_interval=world.ttl / 10,
            unreachable=world.unknown.get(self.name, set()),
        )
        self.paused = False
        self.run()

    def restart(self) -> None:
        if self.election is None:
            self.start()

    def crash(self) -> None:
        self.election, self.paused, self.inbox = None, False, []
        self.world.observe(self)

    def pause(self) -> None:
        self.paused = self.election is not None
        self.world.observe(self)

    def resume(self) -> None:
        """What came in during the pause is handled first: the election itself must see that time has passed."""
        if self.paused:
            self.paused = False
            waiting, self.inbox = self.inbox, []
            for deliver in waiting:
                deliver()
            self.run()

    def lose_head(self) -> None:
        if self.is_head and self.election:
            self.election.lost(self.clock())
            self.run()

    def run(self) -> None:
        """One turn of the driver's loop: send what is due, and note when to come again."""
        if self.election is None or self.paused:
            return
        for send in self.election.step(self.clock()):
            self.world.post(self, send)
        self.world.observe(self)
        wake = max(self.clock.real(self.election.next_wake(self.clock())), self.world.now)
        if wake < float("inf") and wake != self._wake_at:
            self._wake_at = wake
            self.world.at(wake + self.world.rng.random() * self.world.lateness, lambda: self._wake(wake))

    def _wake(self, meant: float) -> None:
        if meant == self._wake_at:
            self._wake_at = -1.0
            self.run()

    @property
    def is_head(self) -> bool:
        return self.election is not None and not self.paused and self.election.view.role == HEAD


class World:
    """Everything, and what was seen of it.

    Attributes:
        heads: the acting ones: not crashed, not paused, head in their own view.
        violations: broken invariants, in words.
        lone_overlaps: how often a head that started without a health server acted beside one with a lease.
        unknown: for a candidate, the others that it does not know how to ask.
        unsteady: the last moment at which the number of heads was, or became, another than one.
    """

    def __init__(
        self,
        seed: int,
        candidates: int,
        ttl: float = 10.0,
        patience: float = 0.0,
        drift: float = 0.01,
        max_retries: int = 1,
    ) -> None:
        self.rng = random.Random(seed)
        self.max_retries = max_retries
        self.unknown: dict[str, set[str]] = {}
        self.ttl, self.patience, self.drift = ttl, patience, drift
        self.lateness = ttl * 0.01
        self.now = 0.0
        self.ids = count(1)
        self.names = [f"n{index}" for index in range(candidates)]
        self.network = Network()
        self.server = SimulatedServer(self)
        self.candidates = {name: SimulatedCandidate(self, name) for name in self.names}
        self.heads: dict[str, int] = {}
        self.violations: list[str] = []
        self.lone_overlaps = 0
        self.unsteady = 0.0
        self.events = 0
        self.healed = False
        self._holder_of_epoch: dict[int, str] = {}
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    def rate(self) -> float:
        return 1 + self.rng.uniform(-self.drift, self.drift)

    # Time

    def at(self, moment: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (max(moment, self.now), next(self._order), event))

    def strike(self, moment: float, fault: Callable[[], object]) -> None:
        """A fault, or the end of one: nothing that comes after the healing."""
        self.at(moment, lambda: None if self.healed else fault())

    def run_until(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            self.now, _, event = heapq.heappop(self._queue)
            self.events += 1
            event()
        self.now = end

    # Messages

    def post(self, sender: SimulatedCandidate, send: Send) -> None:
        instance = sender.election.instance if sender.election else ""

        def bring_back(reply: Reply) -> None:
            for _ in range(self._copies()):
                self.at(self.now + self._delay(), lambda: self._receive(sender, instance, send, reply))

        for _ in range(self._copies()):
            self.at(self.now + self._delay(), lambda: self._deliver(sender.name, send, bring_back))

    def _copies(self) -> int:
        if self.rng.random() < self.network.loss:
            return 0
        return 2 if self.rng.random() < self.network.doubled else 1

    def _delay(self) -> float:
        return min(self.rng.expovariate(1 / self.network.delay), self.network.longest)

    def _deliver(self, sender: str, send: Send, answer: Callable[[Reply], None]) -> None:
        if not self.network.connects(sender, send.target):
            return
        if send.target == HEALTH:
            self._deliver_to_server(sender, send, answer)
        else:
            self._deliver_to_candidate(self.candidates[send.target], send, answer)

    def _deliver_to_server(self, sender: str, send: Send, answer: Callable[[Reply], None]) -> None:
        server = self.server
        if server.paused:
            server.inbox.append(lambda: self._deliver_to_server(sender, send, answer))
        elif server.up and sender in server.refuses:
            answer(REFUSED)
        elif server.up:
            try:
                answer(server.handle(send))
            except ServerDiedError:
                self.at(self.now + self.rng.uniform(0, self.ttl), server.start)
        elif self.rng.random() < 0.5:
            answer(None)  # nothing listens; otherwise the packet vanishes

    def _deliver_to_candidate(self, target: SimulatedCandidate, send: Send, answer: Callable[[Reply], None]) -> None:
        if target.paused:
            target.inbox.append(lambda: self._deliver_to_candidate(target, send, answer))
        elif target.election:
            reply = target.election.asked(target.clock(), Claim.read(send.message)).as_dict()
            self.observe(target)
            answer(reply)
            target.run()
        elif self.rng.random() < 0.5:
            answer(None)

    def _receive(self, candidate: SimulatedCandidate, instance: str, send: Send, reply: Reply) -> None:
        election = candidate.election
        if election is None or election.instance != instance:
            return
        if reply is not None and not self.network.connects(candidate.name, send.target):
            return
        if candidate.paused:
            candidate.inbox.append(lambda: self._receive(candidate, instance, send, reply))
            return
        answered = reply if isinstance(reply, dict) else None
        election.receive(candidate.clock(), send.id, answered, "" if answered else "no answer", reply == REFUSED)
        self.observe(candidate)
        candidate.run()

    # What is watched

    def observe(self, candidate: SimulatedCandidate) -> None:
        """Note whether this candidate acts as head, and check what must never be."""
        epoch = candidate.election.view.epoch if candidate.is_head and candidate.election else None
        if self.heads.get(candidate.name) == epoch:
            return
        if len(self.heads) != 1:
            self.unsteady = self.now
        if epoch is None:
            del self.heads[candidate.name]
        else:
            self.heads[candidate.name] = epoch
            self._check_epoch(candidate, epoch)
            self._check_alone()
        if len(self.heads) != 1:
            self.unsteady = self.now

    def _check_epoch(self, candidate: SimulatedCandidate, epoch: int) -> None:
        assert candidate.election
        instance = candidate.election.instance
        if epoch and self._holder_of_epoch.setdefault(epoch, instance) != instance:
            self.violations.append(f"{self.now:.3f}: epoch {epoch} of {self._holder_of_epoch[epoch]} led by {instance}")
        if not epoch and candidate.name != self.names[0]:
            self.violations.append(f"{self.now:.3f}: {candidate.name} leads without a lease, and is not the first")

    def _check_alone(self) -> None:
        if len(self.heads) < 2:
            return
        alone = [name for name in self.heads if self._leads_alone(self.candidates[name])]
        without_lease = [name for name, epoch in self.heads.items() if not epoch]
        if len(self.heads) - len(alone) > 1 or len(without_lease) > 1:
            self.violations.append(f"{self.now:.3f}: {len(self.heads)} heads at once: {self.heads}")
        else:
            self.lone_overlaps += 1

    @staticmethod
    def _leads_alone(candidate: SimulatedCandidate) -> bool:
        return candidate.election is not None and candidate.election.leads_without_lease

    def steady_since(self) -> float:
        """Since when there is exactly one head; infinite where there is not."""
        return self.unsteady if len(self.heads) == 1 else float("inf")

    def check_followers(self) -> None:
        """Every living candidate knows the one head."""
        leaders = {name: candidate.election.view.leader for name, candidate in self.candidates.items() if candidate.election}
        if len(self.heads) != 1 or set(leaders.values()) != set(self.heads):
            self.violations.append(f"{self.now:.3f}: heads {self.heads}, believed: {leaders}")
