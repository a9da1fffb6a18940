"""What a transfer tells while it runs: one stream of typed events for the command line, the history and the metrics.

Every event is plain data. `as_json` gives {"event": kind, "time": UNIX seconds, "transfer": id, ...its fields}.
The order is: started, planned (again for one whose way changed), then progress, retry, paused and resumed as they
come, recipient_done or recipient_failed once for each recipient, and at the end finished or cancelled. A transfer that
can't begin has `finished` alone after `started`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened to one transfer (its id: 32 hex digits), at a time in seconds since 1970."""

    kind: ClassVar[str]

    transfer: str
    at: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        values = asdict(self)
        return {"event": self.kind, "time": values.pop("at"), **values}


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The source was read: names as `ray_node_1:/data/x`, `here:/home/me/x`; size in bytes.

    `algorithm`: sha256 or blake3, whichever its hashes are; empty where it came to nothing before that was clear.
    `options` is what a program needs to run it again: command, source, recipients, dest, plane, limit, overwrite …
    """

    kind = "started"

    source: str
    recipients: tuple[str, ...]
    dest: str | None = None
    plane: str = "auto"
    size: int = 0
    files: int = 0
    chunks: int = 0
    algorithm: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """How one recipient gets it: the plane (stream, ray), why in words, and the chain from the sender to it.

    `name`: Ray's name of the recipient's node, by which it is found again when numbers have changed.
    """

    recipient: str
    plane: str
    why: str = ""
    path: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    kind = "planned"

    routes: tuple[Route, ...]


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Bytes that this recipient has, verified, of `total`; `coming`: of chunks that are on their way, not verified yet.

    rate in bytes per second; eta in seconds, None: unknown.
    """

    kind = "progress"

    recipient: str
    done: int
    total: int
    rate: float = 0.0
    eta: float | None = None
    coming: int = 0


@dataclass(frozen=True, kw_only=True)
class Retry(Event):
    """Something failed; the `attempt`th try (2: the first one after a failure) begins in `pause` seconds."""

    kind = "retry"

    recipient: str
    attempt: int
    why: str
    pause: float = 0.0


@dataclass(frozen=True)
class Receipt:
    """The proof that a recipient has it.

    Attributes:
        root_hash: see docs/transfer.md for how to check it; computed by the recipient from what it wrote.
        algorithm: of the root hash: sha256 or blake3.
        bytes: the size of all; `had` of them were in place when the transfer began, and were not sent.
        place: where it is, a path at the recipient.
        path: the chain from the sender to it.
        chunks: how many were received, `had` ones not counted.
        chunk_size: bytes; what it takes to check the root hash of more than one chunk.
        kept: files of a folder that were there with other content and stay, as `--overwrite` was not given: the first
            100 of the `kept_count` names.
    """

    root_hash: str
    bytes: int
    seconds: float
    plane: str
    place: str = ""
    path: tuple[str, ...] = ()
    retries: int = 0
    had: int = 0
    chunks: int = 0
    chunk_size: int = 0
    kept: tuple[str, ...] = ()
    kept_count: int = 0
    algorithm: str = "sha256"


@dataclass(frozen=True, kw_only=True)
class RecipientDone(Event):
    kind = "recipient_done"

    recipient: str
    receipt: Receipt


@dataclass(frozen=True, kw_only=True)
class RecipientFailed(Event):
    """`problem` is TransferProblem.as_dict(): code, what, why, mend."""

    kind = "recipient_failed"

    recipient: str
    problem: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The end. `state`: done (every recipient has it) or failed; rate: bytes of all recipients per second."""

    kind = "finished"

    state: str
    bytes: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    root_hash: str = ""
    algorithm: str = ""
    retries: int = 0
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    problem: Mapping[str, str] | None = None
    """What ended the whole transfer before any recipient could be asked; None where recipients failed on their own."""


@dataclass(frozen=True, kw_only=True)
class Cancelled(Event):
    """`left_at`: recipients that have not confirmed that nothing unfinished is left there, where nothing was to be kept."""

    kind = "cancelled"

    kept_partial: bool = False
    left_at: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    kind = "paused"


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    kind = "resumed"


Subscriber = Callable[[Event], None]


class Stream:
    """Hands each event to every subscriber, in the order of subscribing, in the thread that emits."""

    def __init__(self, *subscribers: Subscriber | None) -> None:
        self._subscribers = [subscriber for subscriber in subscribers if subscriber is not None]

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Returns what ends the subscription."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def emit(self, event: Event) -> None:
        """All get it; then what the first of them raised is raised."""
        raised: list[Exception] = []
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception as error:
                raised.append(error)
        if raised:
            raise raised[0]
