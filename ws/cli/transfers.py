"""`ws transfers`: what was transferred and what runs, and how to cancel, pause and resume it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ws import console
from ws.cli.common import JSON
from ws.cli.send import ADDRESS, CONFIG, TOKEN_FILE, run_jobs
from ws.cli.transfer_run import Cluster, connect
from ws.console import Progress
from ws.errors import UsageError

if TYPE_CHECKING:
    from ws.transfer.history import History
    from ws.transfer.job import Job
    from ws.transfer.records import RecipientRecord, TransferRecord
    from ws.transfer.session import Session

transfers_app = typer.Typer(help="Transfers of this user: list, show, cancel, pause, resume.", invoke_without_command=True)
ID = typer.Argument(metavar="ID", help="The transfer's id, or its beginning.")
_NOTICE = 30.0
"""Seconds that the process which runs a transfer may take to do what is asked of it."""


@transfers_app.callback()
def transfers(
    context: typer.Context,
    last: int = typer.Option(20, "--last", "-n", min=1, metavar="COUNT", help="How many, the newest first."),
    as_json: bool = JSON,
) -> None:
    """List the newest transfers of this user."""
    if context.invoked_subcommand is not None:
        return
    with _history() as history:
        records = history.transfers(last)
    if as_json:
        console.result_json([record.as_json() for record in records])
    elif records:
        console.result(_table(records))
    else:
        console.result("no transfers yet; `ws send FILE --to NODE` makes one")


@transfers_app.command()
def show(transfer: str = ID, as_json: bool = JSON) -> None:
    """Show one transfer: each recipient with its receipt or problem, and what happened."""
    with _history() as history:
        record = history.find(transfer)
        happened = history.events_of(record.id)
    if as_json:
        console.result_json({**record.as_json(), "events": happened})
    else:
        console.result("\n".join(_details(record)))


@transfers_app.command()
def cancel(
    transfer: str = ID, address: str | None = ADDRESS, token_file: Path | None = TOKEN_FILE, config: Path | None = CONFIG
) -> None:
    """Cancel a transfer that runs, or give up one that was interrupted, failed or was cancelled.

    What came so far is removed at the recipients that do not have it whole. The options are as for resume.
    """
    with _history() as history:
        record = history.find(transfer)
        if record.is_resumable:
            raise typer.Exit(_give_up(history, record, _cluster_of(record, address, token_file, config)))
        _require(record, ("running", "paused"), "cancelled")
        history.want(record.id, "cancel")
        _await(history, record, lambda now: now.state not in {"running", "paused"})
        console.result(f"{record.short} is {history.find(record.id).state}")


@transfers_app.command()
def pause(transfer: str = ID) -> None:
    """Let a transfer that runs rest; `ws transfers resume` lets it go on."""
    with _history() as history:
        record = history.find(transfer)
        _require(record, ("running", "paused"), "paused")
        history.want(record.id, "pause")
        _await(history, record, lambda now: now.state != "running")
        console.result(f"{record.short} is {history.find(record.id).state}")


@transfers_app.command()
def resume(
    transfer: str = ID,
    address: str | None = ADDRESS,
    token_file: Path | None = TOKEN_FILE,
    config: Path | None = CONFIG,
    as_json: bool = JSON,
) -> None:
    """Let a paused transfer go on; run one that was interrupted, failed or was cancelled again, for who does not have it.

    The cluster is the one of the first time, unless an option says otherwise. Chunks that are there are not sent again.
    """
    with _history() as history:
        record = history.find(transfer)
        if record.state in {"running", "paused"}:
            history.want(record.id, "none")
            _await(history, record, lambda now: now.state != "paused")
            console.result(f"{record.short} is {history.find(record.id).state}")
            return
        _require_resumable(record)

    def jobs(nodes: Sequence[Any]) -> list[Job]:
        from ws.transfer.job import Job

        return [Job.again(record, nodes)]

    run_jobs(
        str(record.options.get("command", "send")),
        _cluster_of(record, address, token_file, config),
        jobs,
        Progress(quiet=as_json),
        as_json=as_json,
        resumes=record.id,
    )


def _history() -> closing[History]:
    from ws.transfer.history import History

    return closing(History())


def _cluster_of(record: TransferRecord, address: str | None, token_file: Path | None, config: Path | None) -> Cluster:
    """Where it was, unless an option says otherwise."""
    before = Cluster.of(record.options)
    return Cluster(address or before.address, token_file or before.token_file, config or before.config)


def _give_up(history: History, record: TransferRecord, cluster: Cluster) -> int:
    """Remove what it left, and say where that could not be; returns the exit code."""
    from ws.cli import transfer_words as words
    from ws.transfer.events import Cancelled
    from ws.transfer.giving_up import discard_leftovers

    progress = Progress()

    def connected() -> Session:
        session = connect(cluster, progress)
        progress.note("removing what it left; nodes that have not noticed its end yet take up to 20 s to do so")
        return session

    problems = discard_leftovers(record, connected)
    if record.state == "interrupted":
        history.record(Cancelled(transfer=record.id, kept_partial=bool(problems)))
    for node, problem in problems.items():
        console.show_error(words.error(problem, node))
    if not problems:
        console.result(f"{record.short} is given up; nothing unfinished is left at the recipients")
        return 0
    stays = f"what came so far stays at {words.names(tuple(problems))}, as NAME.part"
    console.result(f"{record.short} is given up; {stays}: `ws transfers cancel {record.short}` tries again")
    return 1


def _require(record: TransferRecord, states: tuple[str, ...], verb: str) -> None:
    if record.state not in states:
        can = f"`ws transfers resume {record.short}` runs it again" if record.is_resumable else None
        if record.resumed_by:
            can = f"it was resumed as {record.resumed_by[:8]}, and is that one now"
        raise UsageError(f"{record.short} can't be {verb}: it is {record.state}", mend=can)


def _require_resumable(record: TransferRecord) -> None:
    if record.resumed_by:
        by = record.resumed_by[:8]
        raise UsageError(f"{record.short} was resumed as {by}", mend=f"`ws transfers show {by}` tells how that went")
    if not record.is_resumable:
        raise UsageError(f"{record.short} can't be resumed: it is {record.state}", "every recipient has it")


def _await(history: History, record: TransferRecord, happened: Callable[[TransferRecord], bool]) -> None:
    """Wait until the process that runs it has done what was asked; it may also have come to its end meanwhile."""
    from ws.wait import NotYet, wait_for

    def look() -> None:
        if not happened(history.find(record.id)):
            raise NotYet("the process that runs it has not taken notice yet")

    wait_for(f"transfer {record.short}", look, timeout=_NOTICE, interval=0.05)


def _table(records: list[TransferRecord]) -> str:
    header = ["ID", "STARTED", "STATE", "SIZE", "DONE", "FROM", "TO", "DETAIL"]
    return console.table(header, [_row(record) for record in records])


def _row(record: TransferRecord) -> list[str]:
    from ws.cli import transfer_words as words
    from ws.cli import units

    return [
        record.short,
        _when(record.created),
        record.state,
        units.size(record.size),
        _share(record),
        words.plain(record.source),
        words.names(tuple(recipient.node for recipient in record.recipients), 3),
        _detail(record),
    ]


def _share(record: TransferRecord) -> str:
    """How much of it the recipients have, all together."""
    from ws.cli import transfer_words as words

    if record.state == "done":
        return "100 %"
    return words.percent(sum(each.done_bytes for each in record.recipients), max(1, record.size * len(record.recipients)))


def _detail(record: TransferRecord) -> str:
    """Why it is not done, in a few words."""
    from ws.cli import transfer_words as words

    if record.resumed_by:
        return f"resumed as {record.resumed_by[:8]}"
    if record.wanted != "none" and record.state in {"running", "paused"}:
        return f"{record.wanted} wanted"
    problems = [each.problem for each in record.recipients if each.problem]
    first = record.problem or (problems[0] if problems else None)
    return words.plain(str(first.get("what", ""))) if first else ""


def _details(record: TransferRecord) -> Iterator[str]:
    from ws.cli import transfer_words as words
    from ws.cli import units

    yield f"transfer   {record.id}"
    yield f"state      {record.state}{f', resumed as {record.resumed_by[:8]}' if record.resumed_by else ''}"
    yield f"source     {words.plain(record.source)} ({units.counted(record.files, 'file')}, {units.size(record.size)})"
    if record.dest:
        yield f"dest       {words.plain(record.dest)}"
    yield f"plane      {record.plane}"
    yield f"started    {_when(record.created)}"
    if record.finished is not None:
        yield f"ended      {_when(record.finished)}, after {units.seconds(max(0.0, record.finished - record.created))}"
    if record.root_hash:
        yield f"hash       {words.hashed(record.algorithm, record.root_hash)}"
    if record.problem:
        yield f"problem    {_problem(record.problem)}"
    for recipient in record.recipients:
        yield ""
        yield from _recipient(recipient, record)
    if record.is_resumable:
        yield ""
        again = f"`ws transfers resume {record.short}` tries again for who does not have it"
        yield f"→ {again}; `cancel` removes what they have so far"


def _recipient(recipient: RecipientRecord, record: TransferRecord) -> Iterator[str]:
    from ws.cli import transfer_words as words
    from ws.cli import units
    from ws.transfer.events import Receipt

    name = f" ({words.plain(recipient.name)})" if recipient.name else ""
    state = record.state if recipient.state in {"waiting", "running"} else recipient.state
    yield f"{words.plain(recipient.node)}{name}: {state}"
    if recipient.receipt:
        receipt = Receipt(**{**recipient.receipt, **{key: tuple(recipient.receipt[key]) for key in ("path", "kept")}})
        yield f"  {words.has_it('', receipt).removeprefix(': ')}"
        yield f"  {words.receipt_hash(receipt)}"
        if receipt.kept:
            yield f"  {words.keeps('', receipt).removeprefix(': ')}"
    elif recipient.state != "waiting":
        done = f"{units.size(recipient.done_bytes)} of {units.size(record.size)}"
        yield f"  {done} ({words.percent(recipient.done_bytes, record.size)}), {words.retries(recipient.retries)}"
    if len(recipient.path) > 2:
        yield f"  {' → '.join(words.plain(stop) for stop in recipient.path)}"
    if recipient.problem:
        yield f"  {_problem(recipient.problem)}"


def _problem(problem: dict[str, Any]) -> str:
    from ws.cli import transfer_words as words

    what, why, mend = (words.plain(str(problem.get(key) or "")) for key in ("what", "why", "mend"))
    return what + (f": {why}" if why else "") + (f" → {mend}" if mend else "")


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
