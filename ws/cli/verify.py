"""`ws verify`: a conformance test for a cluster that somebody else started."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ws import console
from ws.cli.common import JSON, project_folder
from ws.cli.scenarios import require_known, show_list
from ws.errors import UsageError

if TYPE_CHECKING:
    from ws.verify.outside_cluster import Outside
    from ws.verify.verdict import Check, ScenarioResult


def verify(
    address: str = typer.Argument(
        None, help="ray://host:10001 (Ray Client); or, on one of its nodes, host:6379; default: RAY_ADDRESS, the best found."
    ),
    token_file: Path | None = typer.Option(
        None, metavar="FILE", help="The cluster's token; default: where Ray looks for it."
    ),
    dashboard: str | None = typer.Option(None, metavar="URL", help="The dashboard, where it is not found by itself."),
    window: float | None = typer.Option(
        None,
        min=0,
        metavar="SECONDS",
        help="How long nodes must stay alive; default: by the cluster's settings; 0: not at all.",
    ),
    allow_no_token: bool = typer.Option(False, "--allow-no-token", help="A cluster may do without a token."),
    scenario: list[str] = typer.Option(None, metavar="NAME", help="Run this scenario; more than once: all of these."),
    listed: bool = typer.Option(False, "--list", help="List the scenarios."),
    as_json: bool = JSON,
) -> None:
    """Test a running Ray cluster from outside, whoever started it, and name the cause where it fails."""
    from ws.verify.outside import SCENARIOS

    titles = {one.name: one.title for one in SCENARIOS}
    if listed:
        show_list(titles, as_json)
        return
    require_known(scenario or [], list(titles), "ws verify")
    outside = _outside(address, token_file, dashboard)
    outside.given_window, outside.allow_no_token = window, allow_no_token
    raise typer.Exit(_verify(outside, scenario or [], as_json))


def _outside(address: str | None, token_file: Path | None, dashboard: str | None) -> Outside:
    """The cluster that was asked for; raises UsageError for an address, a URL or a token file that is none."""
    from ws.verify.outside_cluster import Address, Outside, is_own
    from ws.verify.outside_local import find_credentials

    address = address or os.environ.get("RAY_ADDRESS") or discovered()
    if dashboard and not dashboard.startswith(("http://", "https://")):
        raise UsageError(f"{dashboard!r} is no URL of a dashboard", mend="for example `--dashboard http://127.0.0.1:8265`")
    parsed = Address.parse(address)
    folder = project_folder() if is_own(parsed.host) else None  # its token is for no other machine
    return Outside(parsed, find_credentials(token_file, folder, os.environ), given_dashboard=dashboard)


def discovered() -> str:
    """The address of the most reliable cluster that can be found; raises UsageError where there is none."""
    from ws.cluster.discover import discover
    from ws.cluster.records import Kind

    found = [record for record in discover() if record.alive]
    addresses = [f"ray://{at}" for record in found if (at := record.first(Kind.client))]
    addresses += [at for record in found if (at := record.first(Kind.gcs))]
    if not addresses:
        mend = "for example `ws verify ray://127.0.0.1:10001`; `ws discover` tells where it looks"
        raise UsageError("no address was given, and no cluster can be found", mend=mend)
    print(f"! testing {addresses[0]}, found here; an address chooses another", file=sys.stderr, flush=True)
    return addresses[0]


def _verify(outside: Outside, names: list[str], as_json: bool) -> int:
    """Run the scenarios, show the verdict, leave the run folder; returns the exit code."""
    from ws.verify import report as reports
    from ws.verify import table
    from ws.verify.outside import verify as run
    from ws.verify.report import as_json as for_programs

    def show(result: ScenarioResult, check: Check) -> None:
        if not as_json:
            print(table.check_line(result, check, sys.stderr), file=sys.stderr, flush=True)

    report = run(outside, names, show)
    page = reports.write(report, project_folder(), {})
    if not as_json and "not tried" in report.about:
        print(f"! not tried: {report.about['not tried']}", file=sys.stderr, flush=True)
    if as_json:
        console.result_json({**for_programs.document(report), "report": str(page)})
    else:
        console.result("\n" + table.final(report, page, sys.stdout))
    return report.exit_code
