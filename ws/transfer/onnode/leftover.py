"""What a transfer left unfinished at a target, found by its name alone: its source may be gone, and with it the listing."""

from __future__ import annotations

import json
import os

from ws.transfer.onnode.entries import Listing
from ws.transfer.onnode.journal import Journal
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import Place, open_folder
from ws.transfer.onnode.problems import NO_SUCH_FILE, TransferProblem
from ws.transfer.onnode.staging import Staging, look_at

_LONGEST_HEADER = 1024


def discard_leftover(place: Place, chunk_size: int, chunks: int) -> bool:
    """Remove `NAME.part` and its journal; returns whether they were there. Those of another transfer stay.

    `chunk_size` (bytes) and `chunks` are the transfer's: a journal says as much of its own.
    Problems: busy, where it is being written; read-only…
    """
    try:
        os.close(open_folder(place.parent))
    except TransferProblem as problem:
        if problem.code == NO_SUCH_FILE:
            return False
        raise
    nothing = Listing(place.name, False, [])
    staging = Staging(place, nothing, Layout(nothing.entries))
    journal = Journal(staging.parent, staging.journal, content="", chunk_size=chunk_size, count=chunks)
    try:
        if look_at(staging.parent, staging.journal) is None:  # without one, a .part is someone else's
            return False
        journal.open()
        ours = _begun_with(staging) in [(chunk_size, chunks), None]
        if ours:
            staging.clear()
            journal.remove()
        return ours
    except OSError as error:
        raise staging.problem(error) from error
    finally:
        journal.close()
        staging.close()


def _begun_with(staging: Staging) -> tuple[int, int] | None:
    """The size and number of chunks that the journal's first line tells; None: it was never written whole."""
    descriptor = os.open(staging.journal, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=staging.parent)
    try:
        header = json.loads(os.pread(descriptor, _LONGEST_HEADER, 0).partition(b"\n")[0])
        return int(header["chunk_size"]), int(header["count"])
    except (ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(descriptor)
