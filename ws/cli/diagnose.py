"""`ws doctor`: what this machine lacks, and what mends it."""

from __future__ import annotations

import typer

from ws import console
from ws.cli.common import ENGINE, JSON, EngineName, load_config, project_of


def doctor(engine: EngineName = ENGINE, as_json: bool = JSON) -> None:
    """Look for what would keep a cluster from working here; each finding comes with the command that mends it."""
    from ws.engine.doctor import examine

    loaded = load_config()
    findings = examine(project_of(loaded), engine.value, loaded.warnings, loaded.exposure)
    if as_json:
        console.result_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            console.result(f"{finding.mark} {finding.subject}: {finding.text}")
            if finding.mend:
                console.result(f"  → {finding.mend}")
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)
