"""What discovery tells of a cluster: one record for each, whatever addresses lead to it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


class TokenNeed(enum.StrEnum):
    """Whether a cluster asks for a token; `refused`: it does, and the one that it was given is not its own."""

    needed = "needed"
    refused = "refused"
    not_needed = "not needed"
    unknown = "unknown"


class Kind(enum.StrEnum):
    """What an address is for."""

    gcs = "gcs"
    client = "client"
    dashboard = "dashboard"


@dataclass
class ClusterRecord:
    """One cluster.

    Attributes:
        id: its cluster id (56 hex digits) where the GCS told it, else its session's name, else an address.
        session: the name of its session, where known.
        addresses: host:port of each kind, those first that lead there most directly.
        found_by: the ways that found it: "files", "processes", "ports", "containers", "RAY_ADDRESS".
        nodes: how many nodes are alive; None where nobody could be asked.
        alive: whether something of it answered now.
        stale: why it is taken for dead; None where it is alive.
        reliability: 0 to 1, by what answered and what is known of it; records are in its order.
        notes: what a user should know of it beside, in words.
    """

    id: str
    session: str | None = None
    addresses: dict[Kind, list[str]] = field(default_factory=dict)
    found_by: list[str] = field(default_factory=list)
    ray_version: str | None = None
    python_version: str | None = None
    nodes: int | None = None
    token: TokenNeed = TokenNeed.unknown
    alive: bool = False
    stale: str | None = None
    reliability: float = 0.0
    notes: list[str] = field(default_factory=list)

    def first(self, kind: Kind) -> str | None:
        """The best address of a kind."""
        return next(iter(self.addresses.get(kind, ())), None)

    def add_addresses(self, kind: Kind, addresses: Iterable[str]) -> None:
        """Add those that are not there yet, behind the others."""
        self.addresses[kind] = list(dict.fromkeys([*self.addresses.get(kind, ()), *addresses]))

    def as_json(self) -> dict[str, Any]:
        """The record as plain data: every attribute under its own name."""
        addresses = {kind.value: list(found) for kind, found in self.addresses.items()}
        return {**vars(self), "addresses": addresses, "token": self.token.value}
