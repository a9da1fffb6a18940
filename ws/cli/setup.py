"""`ws init`, `config`, `render`, `image`: a project folder and its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ws import console
from ws.cli.common import JSON, load_config, load_project
from ws.console import Progress
from ws.errors import CheckFailed

if TYPE_CHECKING:
    from ws.engine.base import Project

config_app = typer.Typer(help="The configuration: what it is, and its schema.", no_args_is_help=True, rich_markup_mode=None)
image_app = typer.Typer(help="The node image.", no_args_is_help=True, rich_markup_mode=None)


def init(force: bool = typer.Option(False, "--force", help="Overwrite files that are there.")) -> None:
    """Put config.yaml and the templates into the project folder."""
    from ws.cli.common import project_folder
    from ws.engine.init import write_project

    folder = project_folder()
    for name, written in write_project(folder, force=force):
        console.result(f"{'✓' if written else '·'} {name}{'' if written else ' (kept: it is there already)'}")
    console.result("next: look through config.yaml, then `ws up`")


@config_app.command("show")
def config_show(as_json: bool = JSON) -> None:
    """Show the configuration in effect: defaults, config.yaml and WS_… variables together."""
    from ws.config.show import as_data, dump

    loaded = load_config()
    for warning in loaded.warnings:
        Progress().warn(str(warning))
    if as_json:
        console.result_json(as_data(loaded.config))
    else:
        console.result(dump(loaded.config).rstrip())


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of config.yaml; editors complete the file by it."""
    from ws.config.show import schema

    console.result_json(schema())


def render(check: bool = typer.Option(False, "--check", help="Write nothing; say whether the files are in step.")) -> None:
    """Render the Compose files from config.yaml and the templates."""
    from ws.engine.render import outdated, render, write_rendered

    progress = Progress()
    project = load_project(progress)
    stale = outdated(project)
    if check:
        if stale:
            raise CheckFailed(
                f"not in step with config.yaml and the templates: {', '.join(stale)}", mend="`ws render` writes them"
            )
        console.result("in step")
        return
    write_rendered(project)
    for name in render(project):
        console.result(f"{'✓' if name in stale else '·'} {name}{'' if name in stale else ' (unchanged)'}")
    _prepare_for_compose(project, progress)


def _prepare_for_compose(project: Project, progress: Progress) -> None:
    """Write the token as well, and `.env` where there is an engine to ask, so that `docker compose up` alone runs."""
    from ws.engine.compose import ComposeEngine
    from ws.engine.init import write_schema
    from ws.engine.token import ensure_token

    engine = ComposeEngine()
    obstacle = engine.available()
    if obstacle is None:
        engine.prepare(project)
        return
    ensure_token(project.token_path)
    write_schema(project.folder)
    progress.note(f"no .env: {obstacle}")


@image_app.command("build")
def image_build() -> None:
    """Build the images that nodes need on this machine, under the config's names, from images/."""
    from ws.engine.compose import ComposeEngine
    from ws.engine.images import build

    progress = Progress()
    project = load_project(progress)
    engine = ComposeEngine()
    engine.require()
    names = build(project, engine.client, engine.machine, lambda image: progress.note(f"building {image}"))
    for name in names:
        console.result(f"✓ {name}")
