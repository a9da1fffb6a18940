"""What is wanted of a transfer, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ws.transfer.events import Receipt
from ws.transfer.planning import AUTO

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"


@dataclass(frozen=True)
class Settings:
    """How to do it; as the parameters of `send`."""

    dest: str | None = None
    plane: str = AUTO
    limit: float | None = None
    overwrite: bool = False
    keep_partial: bool = False
    fsync: bool = True
    chunk_size: int | None = None
    hash: str = AUTO
    algorithm: str | None = None
    """The hash that was taken the last time, of which the journals are."""


@dataclass(frozen=True)
class Outcome:
    """What came of a transfer: `state` done (all have it), failed, or cancelled.

    Attributes:
        receipts: of those who have it.
        problems: of the others, as TransferProblem.as_dict().
        bytes: of the source; seconds: from the first question to the last receipt.
        problem: what ended the whole transfer before any recipient could be asked.
    """

    transfer: str
    state: str
    bytes: int = 0
    seconds: float = 0.0
    root_hash: str = ""
    algorithm: str = ""
    retries: int = 0
    receipts: Mapping[str, Receipt] = field(default_factory=dict)
    problems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    problem: Mapping[str, str] | None = None
