"""What the commands share: loading the project, choosing the engine, common options."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ws.console import Progress
from ws.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from ws.config.load import Loaded
    from ws.engine.base import Engine, Project


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


def load_config(overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Read the configuration of the current command; raises ConfigError with every problem."""
    from ws.config.load import load

    folder = project_folder()
    path = Path(options.config) if options.config else folder / "config.yaml"
    if options.config and not path.exists():
        raise UsageError(f"there is no config file {path}")
    return load(path if path.exists() else None, os.environ, overrides or {})


def project_folder() -> Path:
    folder = Path(options.directory)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    return folder


def load_project(progress: Progress | None = None, overrides: Mapping[str, Any] | None = None) -> Project:
    """The project of the current command; the config's warnings go to `progress`."""
    from ws.config.plan import plan
    from ws.engine.base import Project

    loaded = load_config(overrides)
    for warning in loaded.warnings if progress else ():
        assert progress is not None
        progress.warn(str(warning))
    return Project(project_folder(), loaded.config, plan(loaded.config))


def choose_engine(name: EngineName, progress: Progress | None = None) -> Engine:
    """The engine by name; `auto` takes containers where there is an engine for them, else local processes."""
    from ws.engine.compose import ComposeEngine

    if name is EngineName.local:
        return _local_engine()
    compose = ComposeEngine()
    obstacle = compose.available()
    if obstacle is None:
        return compose
    if name is EngineName.compose:
        compose.require()
    if progress:
        progress.warn(f"{obstacle}: the cluster runs as local processes instead")
    return _local_engine()


def _local_engine() -> Engine:
    from ws.engine.local import LocalEngine

    return LocalEngine()


def running_engine(name: EngineName, project: Project) -> Engine:
    """The engine that runs something of this project; where none does, the one that `auto` would take."""
    from ws.engine.compose import ComposeEngine
    from ws.engine.local import LocalEngine

    if name is not EngineName.auto:
        return choose_engine(name)
    local = LocalEngine()
    if local.nodes(project):
        return local
    compose = ComposeEngine()
    return compose if compose.available() is None else local


def check_names(project: Project, names: Sequence[str], *, also: Sequence[str] = ()) -> list[str]:
    """The nodes that a command was given, all where none was; a name of none is a UsageError."""
    import difflib

    known = [node.hostname for node in project.plan.nodes]
    for name in names:
        if name not in [*known, *also]:
            near = difflib.get_close_matches(name, [*known, *also], n=1)
            raise UsageError(
                f"there is no node {name!r} in the config",
                f"nodes: {', '.join(known)}",
                f"did you mean {near[0]}?" if near else None,
            )
    return list(names) or known


def require_running(engine: Engine, project: Project) -> None:
    if not engine.nodes(project):
        raise EnvironmentProblem("nothing of this project is running", mend="ws up starts it")
