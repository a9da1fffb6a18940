"""What comes before a transfer: its parties are started, all at once, and agree on a hash."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ws.transfer.onnode.hashing import BLAKE3, MEND, SHA256
from ws.transfer.onnode.problems import NO_HASH, TransferProblem
from ws.transfer.planning import AUTO
from ws.transfer.recipient import Recipient
from ws.transfer.sender import Connect, Sender

HASHES = (AUTO, SHA256, BLAKE3)


def meet(connect: Connect, sender: Sender, recipients: Sequence[Recipient]) -> None:
    """A recipient that can't be started is left without a `remote`; the sender's problem is raised."""

    def bring(recipient: Recipient) -> None:
        try:
            recipient.remote = connect(recipient.id, False)
        except TransferProblem:
            return  # it is tried again when its turn comes, and told then

    with ThreadPoolExecutor(len(recipients), thread_name_prefix="transfer start") as pool:
        coming = [pool.submit(bring, recipient) for recipient in recipients]
        sender.connect()
    for each in coming:
        each.result()


def agreed(wanted: str, former: str | None, parties: Mapping[str, Collection[str] | None]) -> str:
    """The hash of a transfer: BLAKE3 where all have it, unless the user or an earlier attempt (`former`) says otherwise.

    `parties`: the hashes that each has; None where that is not known, as it did not answer.

    Raises:
        TransferProblem: no-hash, where BLAKE3 is wanted and somebody lacks it.
    """
    lacking = [name for name, known in parties.items() if known is not None and BLAKE3 not in known]
    if wanted == BLAKE3 and lacking:
        verb = "lacks" if len(lacking) == 1 else "lack"
        raise TransferProblem(NO_HASH, f"{', '.join(lacking)} {verb} BLAKE3", "--hash blake3 needs it at all nodes", MEND)
    if wanted != AUTO:
        return wanted
    if lacking or (not former and None in parties.values()):
        return SHA256
    return former or BLAKE3
