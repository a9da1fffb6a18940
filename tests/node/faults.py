"""Faults from a seed for a simulated `World`, and what must hold after them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.node.simulation import Network, SimulatedCandidate, World


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
    world = World(seed, candidates, ttl=rng.choice([2.0, 5.0, 10.0]), max_retries=rng.choice([1, 2, 3]))
    if rng.random() < 0.15:
        _forget_addresses(world, rng)
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


def _forget_addresses(world: World, rng: random.Random) -> None:
    """Candidates on two machines that have the same whitelist, and do not know each other's addresses."""
    here = {name for name in world.names if rng.random() < 0.5}
    there = set(world.names) - here
    world.unknown = {name: there if name in here else here for name in world.names}


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


def _refuse(world: World, rng: random.Random, begin: float, end: float) -> None:
    """The server does not take the token of some of them."""

    def happen() -> None:
        refused = {name for name in world.names if rng.random() < 0.4} | {rng.choice(world.names)}
        world.server.refuses |= refused
        world.strike(end, lambda: world.server.refuses.difference_update(refused))

    world.strike(begin, happen)


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
    *(_isolate_head, _isolate_head, _betray_word, _betray_word, _isolate_and_restart_server, _refuse),
)


def _heal(world: World, rng: random.Random) -> None:
    """The network and the server work from now on; some of the crashed stay away, never all."""
    world.network = Network(delay=world.ttl * 0.001, longest=world.ttl * 0.01)  # no cuts, no sides
    world.healed = True
    world.server.refuses.clear()
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
