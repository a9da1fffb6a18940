"""One transfer as it was asked for: what the command line makes, and what the history keeps to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ws.errors import UsageError
from ws.transfer.records import TransferRecord
from ws.transfer.targets import HERE, Place, find_node

if TYPE_CHECKING:
    from ws.cluster.nodes import Node


@dataclass(frozen=True)
class Job:
    """Paths of this machine are absolute, so that it can be run again from any folder.

    Attributes:
        source: where it is; a node by its id.
        recipients: ids of nodes, or `here` alone.
        limit: bytes per second over all recipients; None: none.
        chunk_size: bytes; None: by the number of recipients. What is run again keeps it, else it could not go on.
        hash: auto, sha256 or blake3; algorithm: what `auto` came to the last time, kept where all still have it.
        names: Ray's names of the nodes, by id: ids are numbered anew with every connection.
    """

    source: Place
    recipients: tuple[str, ...]
    dest: str | None = None
    plane: str = "auto"
    limit: int | None = None
    overwrite: bool = False
    keep_partial: bool = False
    fsync: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    chunk_size: int | None = None
    hash: str = "auto"
    algorithm: str | None = None

    def named(self, nodes: Sequence[Node]) -> Job:
        """With the names that its nodes have now."""
        involved = {self.source.node, *self.recipients}
        return replace(self, names={node.id: node.seen.name for node in nodes if node.id in involved})

    def as_options(self) -> dict[str, Any]:
        """Plain data, for the history."""
        return asdict(self)

    @classmethod
    def of(cls, record: TransferRecord) -> Job:
        """As it was asked for. Raises UsageError where the record does not tell enough."""
        options = dict(record.options)
        try:
            return cls(**{**options_of_job(options), "source": Place(**options["source"])})
        except (KeyError, TypeError):
            why = "its process ended before it had written down all of it"
            raise UsageError(f"too little is known of {record.short}", why, "send it anew") from None

    @classmethod
    def again(cls, record: TransferRecord, nodes: Sequence[Node]) -> Job:
        """What is left to do of a transfer: the same, to those who do not have it yet.

        Raises:
            UsageError: a node is not there any more, or the record does not tell enough.
        """
        job = cls.of(record)
        return replace(
            job,
            source=Place(found_now(job, job.source.node, nodes), job.source.path),
            recipients=tuple(found_now(job, node, nodes) for node in _left(job, record)),
            algorithm=record.algorithm or None,
        ).named(nodes)


def options_of_job(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the recorded options that are a Job's own."""
    known = {name: options[name] for name in Job.__dataclass_fields__ if name in options}
    return {**known, "recipients": tuple(options["recipients"])}


def _left(job: Job, record: TransferRecord) -> list[str]:
    """Its recipients but those that have it."""
    done = {recipient.node for recipient in record.recipients if recipient.state == "done"}
    return [recipient for recipient in job.recipients if recipient not in done]


def found_now(job: Job, node_id: str, nodes: Sequence[Node]) -> str:
    """Today's id of a node of the job: by its name where that is its own, else the same id, where the name has not changed.

    Raises UsageError or EnvironmentProblem where it is not there any more.
    """
    name = job.names.get(node_id, "")
    if node_id == HERE:
        return HERE
    called = [node.id for node in nodes if node.seen.name == name and node.state.value != "dead"]
    if len(called) == 1 and name:
        return called[0]
    if node_id in called or not name:
        return find_node(node_id, nodes).id
    return find_node(name, nodes).id
