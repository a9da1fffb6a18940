"""Giving a transfer up that no process runs any more: what it left at its recipients is removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from ws.errors import EnvironmentProblem, UsageError, WsError
from ws.transfer.here import HereParty
from ws.transfer.job import Job, found_now
from ws.transfer.onnode.party import LEASE
from ws.transfer.onnode.problems import BUSY, TransferProblem
from ws.transfer.records import TransferRecord
from ws.transfer.remote import LocalRemote, Remote, ask, lost, result
from ws.transfer.targets import HERE
from ws.wait import NotYet, WaitTimeout, wait_for

if TYPE_CHECKING:
    from ws.cluster.nodes import Node

_ANSWER = 30.0
_PATIENCE = LEASE + 5.0
"""Seconds until a node has noticed that who coordinated the transfer is gone, and lets go of its files."""

Problem = Mapping[str, str]


class Cluster(Protocol):
    """A `Session`."""

    @property
    def nodes(self) -> Sequence[Node]: ...

    def party(self, party_id: str, fresh: bool = False) -> Remote: ...


def discard_leftovers(record: TransferRecord, connect: Callable[[], AbstractContextManager[Cluster]]) -> dict[str, Problem]:
    """Remove what is unfinished at all who do not have it; returns why that could not be, by recipient."""
    unserved = [each.node for each in record.unserved]
    try:
        job = Job.of(record)
        if unserved == [HERE]:
            with closing(LocalRemote(HERE, HereParty())) as here:
                return _at_all(unserved, lambda _: here, job, record)
        with connect() as cluster:
            return _at_all(unserved, lambda node: cluster.party(found_now(job, node, cluster.nodes)), job, record)
    except (UsageError, EnvironmentProblem) as error:  # nobody can be asked
        return dict.fromkeys(unserved, _as_problem(error))


def _at_all(nodes: Sequence[str], party: Callable[[str], Remote], job: Job, record: TransferRecord) -> dict[str, Problem]:
    def discard(node: str) -> Problem | None:
        try:
            _discard_at(party(node), job, record)
        except TransferProblem as problem:
            return problem.as_dict()
        except WsError as error:
            return _as_problem(error)
        return None

    with ThreadPoolExecutor(len(nodes), thread_name_prefix="transfer giving up") as pool:
        return {node: problem for node, problem in zip(nodes, pool.map(discard, nodes), strict=True) if problem}


def _discard_at(party: Remote, job: Job, record: TransferRecord) -> None:
    """Problems: busy, where another transfer goes on writing there; lost; what the disk says."""
    name = PurePosixPath(job.source.path).name
    busy: list[TransferProblem] = []

    def discard() -> None:
        asked = ask(party, "discard_named", record.id, name, job.dest, job.chunk_size or 0, record.chunks)
        try:
            result(asked, party.id, _ANSWER)
        except TimeoutError:
            raise lost(party.id, "no answer in time") from None
        except TransferProblem as problem:
            if problem.code != BUSY:
                raise
            busy.append(problem)
            raise NotYet(problem.what) from problem

    try:
        wait_for(f"{party.id} to let go of {name}", discard, timeout=_PATIENCE, interval=1.0)
    except WaitTimeout:
        raise busy[-1] from None


def _as_problem(error: WsError) -> Problem:
    return {"what": error.what, "why": error.why or "", "mend": error.mend or ""}
