"""The `ws` application: every command by name."""

from __future__ import annotations

import typer

from ws.cli import cluster, diagnose, discover, nodes, send, setup, test, transfers, verify
from ws.cli.common import options

app = typer.Typer(
    help="A real multi-node Ray cluster on your own machines, and the proof that it works.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its imports would triple the time of `ws --help`
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def top(
    directory: str = typer.Option(".", "--directory", "-C", help="The project folder.", metavar="DIR"),
    config: str | None = typer.Option(None, "--config", help="The config file; default: config.yaml in the project folder."),
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"ws {version_of('cslr-exp-platform')} (Ray {version_of('ray')})")
        raise typer.Exit
    options.directory, options.config = directory, config


app.command("init")(setup.init)
app.add_typer(setup.config_app, name="config")
app.command("render")(setup.render)
app.command("up")(cluster.up)
app.command("down")(cluster.down)
app.command("ps")(cluster.ps)
app.command("status")(cluster.status)
app.command("logs")(cluster.logs)
app.command("exec", context_settings={"ignore_unknown_options": True})(cluster.exec_)
app.command("test")(test.test)
app.command("verify")(verify.verify)
app.command("discover")(discover.discover)
app.command("nodes")(nodes.nodes)
app.command("send")(send.send)
app.command("fetch")(send.fetch)
app.add_typer(transfers.transfers_app, name="transfers")
app.command("doctor")(diagnose.doctor)
app.add_typer(setup.image_app, name="image")
