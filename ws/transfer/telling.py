"""The first and the last event of a transfer, and its outcome, from what its parts know."""

from __future__ import annotations

from collections.abc import Sequence

from ws.transfer.events import Finished, Started
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.outcome import DONE, FAILED, Outcome, Settings
from ws.transfer.recipient import Recipient
from ws.transfer.sender import Sender


def started(
    transfer: str, source: tuple[str, str], sender: Sender, recipients: Sequence[Recipient], settings: Settings
) -> Started:
    """What it is about; the sizes are 0 where the source could not be read."""
    return Started(
        transfer=transfer,
        source=":".join(source),
        recipients=tuple(recipient.id for recipient in recipients),
        dest=settings.dest,
        plane=settings.plane,
        size=sender.total,
        files=int(sender.about.get("files", 0)),
        chunks=int(sender.about.get("chunks", 0)),
        algorithm=sender.algorithm,
        options=vars(settings),
    )


def concluded(
    transfer: str, sender: Sender, recipients: Sequence[Recipient], seconds: float, problem: TransferProblem | None
) -> Outcome:
    """The outcome; `problem`: what ended the whole."""
    receipts = {each.id: each.receipt for each in recipients if each.receipt is not None}
    return Outcome(
        transfer=transfer,
        state=DONE if len(receipts) == len(recipients) else FAILED,
        bytes=sender.total,
        seconds=seconds,
        root_hash=sender.root_hash,
        algorithm=sender.algorithm,
        retries=sum(each.retries + each.stream_retries for each in recipients),
        receipts=receipts,
        problems={each.id: each.problem.as_dict() for each in recipients if each.problem is not None},
        problem=problem.as_dict() if problem else None,
    )


def finished(outcome: Outcome) -> Finished:
    """Its last event, unless it was cancelled; the rate counts bytes that were moved, not those that were there."""
    moved = sum(receipt.bytes - receipt.had for receipt in outcome.receipts.values())
    return Finished(
        transfer=outcome.transfer,
        state=outcome.state,
        bytes=outcome.bytes,
        seconds=outcome.seconds,
        rate=moved / outcome.seconds if outcome.seconds else 0.0,
        root_hash=outcome.root_hash,
        algorithm=outcome.algorithm,
        retries=outcome.retries,
        done=tuple(outcome.receipts),
        failed=tuple(outcome.problems),
        problem=outcome.problem,
    )
