"""Every Ray cluster that can be found from here: all ways at once, one record for each cluster."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ws.cluster.endpoint import Endpoint
from ws.cluster.find_containers import find_by_containers
from ws.cluster.find_environment import find_by_environment
from ws.cluster.find_files import find_by_files, temp_dirs
from ws.cluster.find_ports import hosts_of, sweep
from ws.cluster.find_processes import find_by_processes
from ws.cluster.hints import Hint, Way
from ws.cluster.merge import merge
from ws.cluster.protocol import Sighting, look
from ws.cluster.records import ClusterRecord, TokenNeed
from ws.cluster.wire import in_thread, missing_host
from ws.errors import WsError
from ws.node.secret import Secret, Token

_PATIENCE = 5
"""How often `timeout` a way may take: files and processes are read at once, unless the machine is hard at work."""
_AT_ONCE = 128
_PER_SECOND = 500
"""Connections to hosts of a CIDR: as many as a careful scan opens, so that no network takes it for an attack."""


@dataclass(frozen=True)
class Search:
    """What to look at beside this machine, and how long.

    Attributes:
        hosts: further hosts, names or addresses; on each, the usual ports and `ports` are asked.
        cidrs: networks whose every host is asked so, 1,024 hosts in all at most.
        temp_dirs: further temp dirs of Ray.
        token: sent only to what speaks as Ray and asks for a token.
        timeout: seconds that each address may take, and each answer of Docker; a CIDR takes longer, by its bounds.
        environ: the environment to look into, this process's own by default.
    """

    hosts: Sequence[str] = ()
    ports: Sequence[int] = ()
    cidrs: Sequence[str] = ()
    temp_dirs: Sequence[Path] = ()
    token: Token = ""
    timeout: float = 1.0
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(frozen=True)
class Scan:
    """What a search found: the records, ways that could not be gone, in words, and the seconds that it took."""

    records: list[ClusterRecord]
    problems: list[str]
    seconds: float


def discover(
    hosts: Sequence[str] = (),
    ports: Sequence[int] = (),
    cidrs: Sequence[str] = (),
    temp_dirs: Sequence[Path] = (),
    token: Token = "",
    timeout: float = 1.0,
) -> list[ClusterRecord]:
    """All clusters that answer, the most reliable first, then what is left of dead ones; parameters as of `Search`.

    Not to be called in a thread that runs an event loop. Raises UsageError for a CIDR that is none, or is too large.
    """
    return scan(Search(hosts, ports, cidrs, temp_dirs, token, timeout)).records


def scan(search: Search) -> Scan:
    """As `discover`, with the problems met on the way."""
    began = time.monotonic()
    targets = hosts_of(search.cidrs)
    records, problems = asyncio.run(_scan(search, targets))
    return Scan(records, problems, time.monotonic() - began)


async def _scan(search: Search, targets: Sequence[str]) -> tuple[list[ClusterRecord], list[str]]:
    scout = _Scout(search)
    scout.visit(Hint(Way.ports, tuple(sweep(search.hosts, search.ports))))
    ways = asyncio.gather(*(_go(way, search, scout, find) for way, find in _ways(search).items()))
    await scout.sweep_slowly(sweep(targets, search.ports) if targets else [])
    names = asyncio.gather(*(missing_host(host, search.timeout) for host in dict.fromkeys(search.hosts)))
    problems = [problem for problem in [*await ways, *await names] if problem]
    await scout.settle()
    return merge(scout.hints, scout.sightings), problems


def _ways(search: Search) -> dict[Way, Callable[[], list[Hint]]]:
    folders = temp_dirs(search.temp_dirs, search.environ)
    return {
        Way.address: lambda: find_by_environment(search.environ),
        Way.files: lambda: find_by_files(folders),
        Way.processes: find_by_processes,
        Way.containers: lambda: find_by_containers(search.environ, search.timeout),
    }


async def _go(way: Way, search: Search, scout: _Scout, find: Callable[[], list[Hint]]) -> str | None:
    """Go one way within its time, and visit what it points to; the answer is why it could not be gone."""
    try:
        async with asyncio.timeout(_PATIENCE * search.timeout):
            hints: list[Hint] = await in_thread(find, f"find by {way}")
    except TimeoutError:
        return f"{way}: not done within {_PATIENCE * search.timeout:g} s"
    except (OSError, WsError) as error:
        return f"{way}: {error}"
    for hint in hints:
        scout.visit(hint)
    return None


class _Scout:
    """Looks at every endpoint once, while hints are still coming in."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tried: dict[Endpoint, int] = {}
        self._visits: dict[Endpoint, asyncio.Task[None]] = {}
        self.hints: list[Hint] = []
        self.sightings: dict[Endpoint, Sighting] = {}

    def visit(self, hint: Hint) -> None:
        self.hints.append(hint)
        for endpoint in hint.endpoints:
            self._open(endpoint)

    def _open(self, endpoint: Endpoint) -> None:
        if endpoint not in self._visits:
            self._visits[endpoint] = asyncio.create_task(self._look(endpoint, self._tokens(endpoint)))

    async def sweep_slowly(self, endpoints: Sequence[Endpoint]) -> None:
        """Visit many, no faster than the bound on the rate."""
        began = time.monotonic()
        for number, endpoint in enumerate(endpoints):
            self.visit(Hint(Way.ports, (endpoint,)))
            ahead = began + number / _PER_SECOND - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)

    async def settle(self) -> None:
        """Wait for all visits, and for those that they led to; then knock again where a cluster's own token is at hand."""
        while open_visits := [task for task in self._visits.values() if not task.done()]:
            await asyncio.gather(*open_visits)
        again = [sighting.endpoint for sighting in self.sightings.values() if self._may_open(sighting)]
        await asyncio.gather(*(self._look(endpoint, self._tokens(endpoint)) for endpoint in again))

    async def _look(self, endpoint: Endpoint, tokens: Sequence[Secret]) -> None:
        async with self._room:
            sighting = await look(endpoint, self._search.token, tokens, self._search.timeout)
        self._tried[endpoint] = len(tokens)
        self.sightings[endpoint] = sighting
        if sighting.dashboard:
            self._open(sighting.dashboard)

    def _may_open(self, sighting: Sighting) -> bool:
        """Whether it wants a token, and one has come to light since it was asked."""
        wants_token = sighting.is_ray and sighting.token is not TokenNeed.not_needed and not sighting.is_named
        return wants_token and len(self._tokens(sighting.endpoint)) > self._tried[sighting.endpoint]

    def _tokens(self, endpoint: Endpoint) -> list[Secret]:
        """Tokens of those whose own this endpoint is."""
        found = (hint.token for hint in self.hints if hint.claims and endpoint in hint.endpoints)
        return list(dict.fromkeys(token for token in found if token))
