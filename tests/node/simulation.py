"""Candidates, health server and network on a simulated clock: the real `Election` and `LeaseBook`, and nothing that waits.

A `World` is a queue of events. `chaos` fills it with faults from a seed; tests may also script their own. The health
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

Reply = dict[str, Any] | None


class ServerDeath(Exception):
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
        """The answer; None for a refusal. Raises ServerDeath."""
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
            raise ServerDeath


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
        lone_overlaps: how often a head that started without a health server acted beside another one.
        unsteady: the last moment at which the number of heads was, or became, another than one.
    """

    def __init__(self, seed: int, candidates: int, ttl: float = 10.0, patience: float = 0.0, drift: float = 0.01) -> None:
        self.rng = random.Random(seed)
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
            self._deliver_to_server(send, answer)
        else:
            self._deliver_to_candidate(self.candidates[send.target], send, answer)

    def _deliver_to_server(self, send: Send, answer: Callable[[Reply], None]) -> None:
        server = self.server
        if server.paused:
            server.inbox.append(lambda: self._deliver_to_server(send, answer))
        elif server.up:
            try:
                answer(server.handle(send))
            except ServerDeath:
                self.at(self.now + self.rng.uniform(0, self.ttl), server.start)
        elif self.rng.random() < 0.5:
            answer(None)  # refused; otherwise the packet vanishes

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
        election.receive(candidate.clock(), send.id, reply, "" if reply else "refused")
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

    def _check_alone(self) -> None:
        if len(self.heads) < 2:
            return
        bound = [name for name in self.heads if not self._leads_alone(self.candidates[name])]
        if len(bound) > 1:
            self.violations.append(f"{self.now:.3f}: {len(bound)} heads at once: {self.heads}")
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


@dataclass(frozen=True)
class Report:
    """One run. `recovery`: lease times from the healing of the network until there was one head for good."""

    seed: int
    candidates: int
    violations: tuple[str, ...]
    recovery: float
    lone_overlaps: int
    epochs: int
    events: int


LEASE_TIMES_TO_RECOVER = 2.0


def chaos(seed: int, candidates: int, lease_times: float = 6.0) -> Report:
    """Faults for `lease_times`, then a network that works; watched for three lease times more."""
    rng = random.Random(f"faults {seed}")
    world = World(seed, candidates, ttl=rng.choice([2.0, 5.0, 10.0]))
    healed = world.ttl * lease_times * rng.uniform(0.7, 1.3)
    _start_everything(world, rng, healed)
    for _ in range(rng.randint(2, 8 + candidates // 4)):
        _plan_fault(world, rng, healed)
    world.at(healed, lambda: _heal(world, rng))
    world.run_until(healed + 3 * world.ttl)
    recovery = max(0.0, world.steady_since() - healed) / world.ttl
    if recovery > LEASE_TIMES_TO_RECOVER:
        world.violations.append(f"one head only {recovery:.2f} lease times after the network healed")
    world.check_followers()
    epochs = world.server.kept.epoch if world.server.kept else 0
    return Report(seed, candidates, tuple(world.violations), recovery, world.lone_overlaps, epochs, world.events)


def _start_everything(world: World, rng: random.Random, healed: float) -> None:
    world.at(0.0 if rng.random() < 0.7 else rng.uniform(0, healed), world.server.start)
    spread = rng.choice([0.0, 0.05, 1.0]) * world.ttl
    for candidate in world.candidates.values():
        world.at(rng.uniform(0, spread), candidate.start)
    world.server.dies_when_saving = rng.choice([0.0, 0.0, 0.2])
    world.server.disk_fails = rng.choice([0.0, 0.0, 0.1])
    _worsen(world, rng)


def _worsen(world: World, rng: random.Random) -> None:
    network = world.network
    network.loss = rng.choice([0.0, 0.0, 0.05, 0.2, 0.4])
    network.doubled = rng.choice([0.0, 0.1, 0.3])
    network.delay = world.ttl * rng.choice([0.0005, 0.005, 0.03, 0.1])
    network.longest = world.ttl * 0.3


def _plan_fault(world: World, rng: random.Random, healed: float) -> None:
    begin = rng.uniform(0, healed)
    end = min(begin + world.ttl * rng.choice([0.1, 0.5, 1.0, 2.0, 4.0]) * rng.random(), healed)
    rng.choice(FAULTS)(world, rng, begin, end)
    if rng.random() < 0.3:
        world.strike(begin, lambda: _worsen(world, rng))


def _head_or_someone(world: World, rng: random.Random) -> SimulatedCandidate:
    return world.candidates[rng.choice(list(world.heads) or world.names)]


def _someone(world: World, rng: random.Random) -> SimulatedCandidate:
    """Half of the time the head: that is where it hurts."""
    name = rng.choice(list(world.heads) if world.heads and rng.random() < 0.5 else world.names)
    return world.candidates[name]


def _crash(world: World, rng: random.Random, begin: float, end: float) -> None:
    def happen() -> None:
        victim = _someone(world, rng)
        victim.crash()
        if rng.random() < 0.8:
            world.strike(end, victim.restart)

    world.strike(begin, happen)


def _pause(world: World, rng: random.Random, begin: float, end: float) -> None:
    def happen() -> None:
        victim = _someone(world, rng)
        victim.pause()
        world.strike(end, victim.resume)

    world.strike(begin, happen)


def _lose(world: World, rng: random.Random, begin: float, end: float) -> None:
    def happen() -> None:
        for name in list(world.heads):
            world.candidates[name].lose_head()

    world.strike(begin, happen)


def _split(world: World, rng: random.Random, begin: float, end: float) -> None:
    sides = rng.choice([2, 2, 3])
    groups = {name: rng.randrange(sides) for name in world.names}
    world.strike(begin, lambda: world.network.group.update(groups))
    world.strike(end, world.network.group.clear)


def _cut(world: World, rng: random.Random, begin: float, end: float) -> None:
    def happen() -> None:
        share = rng.choice([0.2, 0.5, 1.0])
        cut = {name for name in world.names if rng.random() < share} | {_someone(world, rng).name}
        world.network.cut_from_health |= cut
        world.strike(end, lambda: world.network.cut_from_health.difference_update(cut))

    world.strike(begin, happen)


def _isolate_head(world: World, rng: random.Random, begin: float, end: float) -> None:
    """The head hears nobody and nobody hears it: only its own clock can tell it when to stop."""

    def happen() -> None:
        alone = _head_or_someone(world, rng).name
        world.network.group[alone] = 9
        world.network.cut_from_health.add(alone)
        world.strike(end, lambda: world.network.group.pop(alone, None))
        world.strike(end, lambda: world.network.cut_from_health.discard(alone))

    world.strike(begin, happen)


def _betray_word(world: World, rng: random.Random, begin: float, end: float) -> None:
    """Nobody reaches the server, so the head leads by everyone's word. Then it is isolated, and the server is back for
    those who gave it; some of them restart and have forgotten it.
    """
    turn = begin + rng.uniform(0.3, 2.5) * world.ttl
    end = turn + 2 * world.ttl
    restarts = rng.random() < 0.5
    really_down = rng.random() < 0.5

    def fall() -> None:
        world.network.cut_from_health.update(world.names)
        if really_down:
            world.server.stop()

    def betray() -> None:
        _isolate_head(world, rng, world.now, end)
        world.strike(world.now, lambda: world.network.cut_from_health.intersection_update(world.network.group))
        world.server.start()
        for name, candidate in world.candidates.items():
            if restarts and name not in world.heads and candidate.election:
                candidate.crash()
                world.strike(world.now + rng.uniform(0, 0.3) * world.ttl, candidate.restart)

    world.strike(begin, fall)
    world.strike(turn, betray)
    world.strike(end, world.network.cut_from_health.clear)


def _stop_server(world: World, rng: random.Random, begin: float, end: float) -> None:
    unreadable = rng.random() < 0.1
    world.strike(begin, world.server.stop)
    world.strike(end, lambda: world.server.start(unreadable))


def _isolate_and_restart_server(world: World, rng: random.Random, begin: float, end: float) -> None:
    """A server that comes back must not hand out the lease of a head that it cannot hear."""
    _isolate_head(world, rng, begin, begin + 2 * world.ttl)
    _stop_server(world, rng, begin, begin + rng.uniform(0, 0.5) * world.ttl)


def _pause_server(world: World, rng: random.Random, begin: float, end: float) -> None:
    world.strike(begin, world.server.pause)
    world.strike(end, world.server.resume)


FAULTS = (
    *(_crash, _crash, _pause, _pause_server, _lose, _split, _cut, _cut, _stop_server, _stop_server),
    *(_isolate_head, _isolate_head, _betray_word, _betray_word, _isolate_and_restart_server),
)


def _heal(world: World, rng: random.Random) -> None:
    """The network and the server work from now on; some of the crashed stay away, never all."""
    world.network = Network(delay=world.ttl * 0.001, longest=world.ttl * 0.01)  # no cuts, no sides
    world.healed = True
    world.server.disk_fails = world.server.dies_when_saving = 0.0
    world.server.resume()
    world.server.start()
    for candidate in world.candidates.values():
        candidate.resume()
    down = [candidate for candidate in world.candidates.values() if candidate.election is None]
    for candidate in down:
        if rng.random() < 0.5:
            candidate.start()
    if all(candidate.election is None for candidate in world.candidates.values()):
        rng.choice(down).start()
    world.unsteady = max(world.unsteady, world.now) if len(world.heads) != 1 else world.unsteady
