"""Files from one party to others: what the command line and Python programs call."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol, TypedDict, Unpack

from ws.errors import UsageError
from ws.transfer.events import Event, Started, Stream
from ws.transfer.history import History
from ws.transfer.job import Job
from ws.transfer.meeting import HASHES
from ws.transfer.outcome import Outcome, Settings
from ws.transfer.planning import PLANES, chunk_size
from ws.transfer.remote import Remote
from ws.transfer.running import Transfer
from ws.transfer.targets import HERE, parse_place


class Parties(Protocol):
    """Where parties come from; a `Session`."""

    def party(self, party_id: str, fresh: bool = False) -> Remote: ...


class Options(TypedDict, total=False):
    """How to do it; the defaults are those of a `Job`.

    `plane`: auto, stream or ray; `limit`: bytes per second over all recipients; `hash`: sha256, blake3, or auto,
    which is BLAKE3 where all have it.
    """

    plane: str
    limit: int | None
    overwrite: bool
    keep_partial: bool
    fsync: bool
    hash: str


def send(
    session: Parties,
    source: str,
    recipients: Sequence[str],
    *,
    dest: str | None = None,
    on_event: Callable[[Event], None] | None = None,
    history: History | None = None,
    **options: Unpack[Options],
) -> Outcome:
    """Send a file or folder: `source` is NODE:PATH, or a path of this machine; recipients are ids of nodes.

    `dest` at each recipient is a path below one of its roots, by default its first root. A folder `data` goes to
    `dest`/data. A file goes to `dest`, or into it where that is a folder or ends with "/". `on_event` gets every event
    (`ws.transfer.events`), also from other threads, one at a time.

    Raises:
        UsageError: nobody receives it, the sender among others, or there is no such plane or hash.
    """
    job = Job(parse_place(source), tuple(recipients), dest, **options)
    return run(session, job, on_event=on_event, history=history)


def fetch(
    session: Parties,
    source: str,
    dest: str = ".",
    *,
    on_event: Callable[[Event], None] | None = None,
    history: History | None = None,
    **options: Unpack[Options],
) -> Outcome:
    """Bring a file or folder of a node, NODE:PATH, to `dest` on this machine; the rest is as for `send`."""
    job = Job(parse_place(source), (HERE,), dest, **options)
    return run(session, job, on_event=on_event, history=history)


def run(
    session: Parties,
    job: Job,
    *,
    on_event: Callable[[Event], None] | None = None,
    history: History | None = None,
) -> Outcome:
    """Do the job; failures of single recipients are in the outcome."""
    _check(job)
    tid = uuid.uuid4().hex
    settings = Settings(
        dest=job.dest,
        plane=job.plane,
        limit=None if job.limit is None else job.limit / len(job.recipients),
        overwrite=job.overwrite,
        keep_partial=job.keep_partial,
        fsync=job.fsync,
        chunk_size=job.chunk_size or chunk_size(len(job.recipients)),
        hash=job.hash,
        algorithm=job.algorithm,
    )

    def remember(event: Event) -> None:
        """To be resumed with: a target that has chunks of another size begins anew."""
        if history and isinstance(event, Started):
            history.add_options(tid, {"chunk_size": settings.chunk_size})

    stream = Stream(history.record if history else None, on_event, remember)
    wanted = (lambda: history.wanted(tid)) if history else (lambda: "none")
    transfer = Transfer(
        session.party, (job.source.node, job.source.path), job.recipients, settings, stream, wanted=wanted, tid=tid
    )
    with history.own(tid) if history else contextlib.nullcontext():
        return transfer.run()


def _check(job: Job) -> None:
    if not job.recipients:
        raise UsageError("nobody receives it")
    if job.source.node in job.recipients:
        raise UsageError(f"{job.source.node} is the sender and can't be a recipient")
    if len(set(job.recipients)) < len(job.recipients):
        raise UsageError("a recipient is named twice")
    if job.plane not in PLANES:
        raise UsageError(f"there is no plane {job.plane!r}", mend=f"known: {', '.join(PLANES)}")
    if job.hash not in HASHES:
        raise UsageError(f"there is no hash {job.hash!r}", mend=f"known: {', '.join(HASHES)}")
