"""`ws send` and `ws fetch`: files between this machine and the nodes of any Ray cluster, and among those nodes."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ws.cli.common import JSON
from ws.cli.transfer_run import Cluster, Run, connect, work_of
from ws.console import Progress
from ws.errors import UsageError

if TYPE_CHECKING:
    from ws.transfer.job import Job


class Plane(enum.StrEnum):
    auto = "auto"
    stream = "stream"
    ray = "ray"


class Hash(enum.StrEnum):
    auto = "auto"
    sha256 = "sha256"
    blake3 = "blake3"


ADDRESS = typer.Option(
    None,
    "--address",
    help="host:port, ray://host:port or http://host:port; default: RAY_ADDRESS, the config's, the best found.",
)
TOKEN_FILE = typer.Option(
    None, "--token-file", metavar="FILE", help="The cluster's token; default: as for Ray's own clients."
)
CONFIG = typer.Option(
    None, "--config", metavar="FILE", help="A config_external_cluster.json; default: what CASTRAY_CONFIG names."
)


@dataclass(frozen=True)
class Given:
    """What the options say that both commands have; `job`: by the names of a Job's attributes."""

    cluster: Cluster
    job: dict[str, Any]
    as_json: bool


def _given(
    address: str | None = ADDRESS,
    token_file: Path | None = TOKEN_FILE,
    config: Path | None = CONFIG,
    plane: Plane = typer.Option(
        Plane.auto, help="stream: straight over TCP; ray: through Ray's object store; auto: what works, told with why."
    ),
    limit: str | None = typer.Option(None, metavar="SIZE", help="At most so many bytes a second: 50M, 800k, 1.5GiB."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what is there with other content."),
    keep_partial: bool = typer.Option(False, "--keep-partial", help="Keep what came so far when it is cancelled."),
    no_fsync: bool = typer.Option(False, "--no-fsync", help="Do not wait for the recipients' disks."),
    algorithm: Hash = typer.Option(
        Hash.auto, "--hash", help="What chunks are checked with; auto: BLAKE3 where all have it, else SHA-256."
    ),
    as_json: bool = JSON,
) -> Given:
    from ws.cli.units import parse_size

    job = {
        "plane": plane.value,
        "limit": None if limit is None else parse_size(limit, "--limit"),
        "overwrite": overwrite,
        "keep_partial": keep_partial,
        "fsync": not no_fsync,
        "hash": algorithm.value,
    }
    return Given(Cluster(address, token_file, config), job, as_json)


def _with_shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command line has the options of `_given`, too, and the command gets what that makes of them."""
    own = inspect.signature(command, eval_str=True).parameters
    shared = inspect.signature(_given, eval_str=True).parameters

    @functools.wraps(command)
    def run(**values: Any) -> None:
        command(given=_given(**{name: values.pop(name) for name in shared}), **values)

    parameters = [*(each for name, each in own.items() if name != "given"), *shared.values()]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


@_with_shared_options
def send(
    sources: list[str] = typer.Argument(metavar="SRC...", help="A file or folder here, or NODE:PATH; ./a:b is a file here."),
    to: list[str] = typer.Option([], "--to", metavar="NODE", help="A recipient by id, name or host; may be repeated."),
    everyone: bool = typer.Option(False, "--all", help="To every living node but the sender."),
    dest: str | None = typer.Option(
        None,
        metavar="PATH",
        help="Where it goes there: PATH/ or an existing folder takes it in; default: the node's first root.",
    ),
    *,
    given: Given,
) -> None:
    """Send files and folders to nodes of a cluster: from here, or from one of its nodes. Whole or not at all."""
    from ws.transfer.targets import HERE, choose_recipients, find_node, parse_place, require_source

    places = [parse_place(source) for source in sources]
    for place in places:
        require_source(place)
    if not to and not everyone:
        raise UsageError("nobody receives it", mend="`--to NODE` names a recipient, `--all` takes every other node")
    if to and everyone:
        raise UsageError("--to and --all exclude each other", mend="leave one of them out")
    if len(places) > 1 and dest and not dest.endswith("/"):
        raise UsageError(
            f"--dest {dest} can't be the name of {len(places)} sources", mend=f"--dest {dest}/ takes them all in"
        )
    progress = Progress(quiet=given.as_json)

    def jobs(nodes: Sequence[Any]) -> list[Job]:
        from ws.transfer.job import Job
        from ws.transfer.targets import Place

        made = []
        for text, place in zip(sources, places, strict=True):
            sender = HERE if place.node == HERE else find_node(place.node, nodes, mend=_colon_mend(text)).id
            recipients = choose_recipients(to, everyone, sender, nodes, progress.warn)
            made.append(Job(Place(sender, place.path), tuple(recipients), dest, **given.job).named(nodes))
        return made

    run_jobs("send", given.cluster, jobs, progress, as_json=given.as_json)


@_with_shared_options
def fetch(
    source: str = typer.Argument(metavar="NODE:PATH", help="What to bring here, and from which node."),
    dest: str = typer.Argument(".", help="Where it goes here: a folder that exists takes it in."),
    *,
    given: Given,
) -> None:
    """Bring a file or folder of a node here. Whole or not at all."""
    from ws.transfer.targets import HERE, find_node, parse_place

    place = parse_place(source)
    if place.node == HERE:
        raise UsageError(f"{source!r} names no node", mend="for example `ws fetch ray_node_1:result.bin .`")
    target = _target(dest)

    def jobs(nodes: Sequence[Any]) -> list[Job]:
        from ws.transfer.job import Job
        from ws.transfer.targets import Place

        sender = find_node(place.node, nodes, mend=_colon_mend(source)).id
        return [Job(Place(sender, place.path), (HERE,), target, **given.job).named(nodes)]

    run_jobs("fetch", given.cluster, jobs, Progress(quiet=given.as_json), as_json=given.as_json)


def _colon_mend(text: str) -> str | None:
    """For a file here whose name has a colon."""
    return f"for the file of this name here: ./{text}" if Path(text).exists() else None


def _target(dest: str) -> str:
    """The absolute path; a slash at its end stays, as it says that this is a folder."""
    from ws.transfer.targets import at_home

    path = str(at_home(dest).absolute())
    return f"{path.rstrip('/')}/" if dest.endswith("/") or dest in {".", ".."} else path


def run_jobs(
    command: str,
    cluster: Cluster,
    jobs: Callable[[Sequence[Any]], list[Job]],
    progress: Progress,
    *,
    as_json: bool,
    resumes: str | None = None,
) -> None:
    """Connect, and run what `jobs` makes of the cluster's nodes, one after the other; ends with the worst exit code.

    Who is asked to stop begins no further one, even if the last was done. `resumes`: the id of the transfer whose place
    this one takes.
    """
    from ws.cli.transfer_view import JsonView, PeopleView
    from ws.transfer.history import History

    code = 0
    with closing(History(required=False)) as history, connect(cluster, progress) as session:
        left = jobs(session.nodes)
        while left:
            job = left.pop(0)
            view = JsonView() if as_json else PeopleView()
            options = {"command": command, **job.as_options(), **cluster.as_options(), "address": session.where}
            run = Run(history, view, options, resumes)
            code = max(code, run.run(work_of(session, job, history)))
            if run.stopped_by and left:
                code = run.exit_code_of_signal
                break
        if history.trouble:
            progress.warn(f"not in `ws transfers`, or not all of it: {history.trouble}")
    raise typer.Exit(code)
