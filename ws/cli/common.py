"""What the commands share: loading the project, choosing the engine, common options."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ws.console import Progress
from ws.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from ws.cli.overrides import Changes
    from ws.config.load import Loaded
    from ws.config.models import Config
    from ws.engine.base import Engine, Project
    from ws.engine.compose import ComposeEngine
    from ws.node.secret import Secret


class EngineName(enum.StrEnum):
    auto = "auto"
    compose = "compose"
    local = "local"


@dataclass
class Options:
    """The options that stand before the command's name; one command line is one process."""

    directory: str = "."
    config: str | None = None


options = Options()

ENGINE = typer.Option(
    EngineName.auto, "--engine", help="Where nodes run: containers (compose), processes of this machine (local)."
)
JSON = typer.Option(False, "--json", help="Print JSON for programs.")


def load_config(changes: Callable[[Config], Changes] | None = None) -> Loaded:
    """Read the configuration of the current command; raises ConfigError with every problem.

    `changes` tells, of the configuration as it is without flags, what the flags change.
    """
    from ws.config.load import load

    folder = project_folder()
    path = Path(options.config) if options.config else folder / "config.yaml"
    if options.config and not path.exists():
        raise UsageError(f"there is no config file {path}")
    file = path if path.exists() else None
    loaded = load(file, os.environ)
    if changes is None:
        return loaded
    wanted = changes(loaded.config)
    return load(file, os.environ, wanted.overrides, wanted.nodes)


def project_folder() -> Path:
    folder = Path(options.directory)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    return folder


def token_for(address: str | None, given: Path | None) -> Secret:
    """The token for a cluster, empty where none is known; the one of this folder's project is for no other machine."""
    from ws.cluster.address import parse
    from ws.cluster.credentials import find_token
    from ws.verify.outside_cluster import is_own

    local = address is None or is_own(parse(address).host)
    return find_token(given, os.environ, project_folder() if local else None)


def load_project(progress: Progress | None = None) -> Project:
    """The project of the current command; the config's warnings go to `progress`."""
    loaded = load_config()
    if progress:
        show_warnings(loaded, progress)
    return project_of(loaded)


def project_of(loaded: Loaded) -> Project:
    from ws.config.plan import plan
    from ws.engine.base import Project

    return Project(project_folder(), loaded.config, plan(loaded.config))


def show_warnings(loaded: Loaded, progress: Progress, engine: Engine | None = None) -> None:
    """The config's warnings; with the engine known, without those of ports that it does not publish."""
    unpublished = loaded.exposure if engine and engine.name == EngineName.local else ()
    for warning in loaded.warnings:
        if warning not in unpublished:
            progress.warn(str(warning))


def choose_engine(name: EngineName, progress: Progress | None = None) -> Engine:
    """The engine by name; `auto` takes containers where there is an engine for them, else local processes."""
    from ws.engine.compose import ComposeEngine

    if name is EngineName.local:
        return _local_engine()
    compose = ComposeEngine()
    try:
        compose.require()
    except EnvironmentProblem as problem:
        if name is EngineName.compose:
            raise
        if progress:
            progress.warn(
                f"{in_one_line(problem)}: the cluster runs as local processes instead{_way_to_containers(problem)}"
            )
        return _local_engine()
    return compose


def in_one_line(problem: EnvironmentProblem) -> str:
    return f"{problem.what}{f' ({problem.why})' if problem.why else ''}"


def _way_to_containers(problem: EnvironmentProblem) -> str:
    """What makes an engine usable that is there; who has none has chosen so."""
    from ws.engine.docker_client import OR_LOCAL, NotInstalled

    if isinstance(problem, NotInstalled) or problem.mend is None:
        return ""
    return f"; for containers: {problem.mend.removesuffix(OR_LOCAL)}"


def compose_if_usable(progress: Progress | None = None) -> ComposeEngine | None:
    """The compose engine, or None where it can't be used; `progress` is told why, unless there is no Docker at all."""
    from ws.engine.compose import ComposeEngine
    from ws.engine.docker_client import NotInstalled

    compose = ComposeEngine()
    try:
        compose.require()
    except EnvironmentProblem as problem:
        if progress and not isinstance(problem, NotInstalled):
            progress.warn(f"containers not looked at: {in_one_line(problem)}{_way_to_containers(problem)}")
        return None
    return compose


def _local_engine() -> Engine:
    from ws.engine.local import LocalEngine

    return LocalEngine()


def running_engine(name: EngineName, project: Project, progress: Progress | None = None) -> Engine:
    """The engine that runs something of this project; where none does, the one that `auto` would take.

    `progress` is told where containers could not be looked at.
    """
    from ws.engine.local import LocalEngine

    if name is not EngineName.auto:
        return choose_engine(name)
    local = LocalEngine()
    if local.nodes(project):
        return local
    return compose_if_usable(progress) or local


def check_names(project: Project, names: Sequence[str], *, also: Sequence[str] = ()) -> list[str]:
    """The nodes that a command was given, all of the config where none was; a name of none is a UsageError.

    `also`: further names that will do, such as those of nodes that run with flags of `ws up`.
    """
    import difflib

    planned = [node.hostname for node in project.plan.nodes]
    known = list(dict.fromkeys([*planned, *also]))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"there is no node {name!r}{'' if also else ' in the config'}",
                f"nodes: {', '.join(known)}",
                f"did you mean {near[0]}?" if near else None,
            )
    return list(names) or planned


def require_running(engine: Engine, project: Project) -> None:
    if not engine.nodes(project):
        raise EnvironmentProblem("nothing of this project is running", mend="ws up starts it")
