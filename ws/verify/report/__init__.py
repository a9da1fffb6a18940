"""The folder that a run leaves: JSON, JUnit XML, an HTML page, the configuration, and every log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ws.errors import EnvironmentProblem
from ws.verify.report import as_html, as_json, as_junit, run_folder
from ws.verify.report.log_names import log_names
from ws.verify.verdict import Report


def write(report: Report, folder: Path, files: Mapping[str, str]) -> Path:
    """Write the run folder in the project folder's `.ws/runs`; the path of its report.html.

    `files`: text by name, kept beside it (config.yaml, the rendered files). Neither they nor the logs are searched for
    secrets: a report holds no token, and what could carry one must not be handed in. Raises EnvironmentProblem.
    """
    try:
        run = run_folder.make(folder, report.started)
        _fill(run, report, files)
        run_folder.finish(run)
    except OSError as error:
        raise EnvironmentProblem(
            "the report can't be written", str(error), f"free space, or make {folder / '.ws' / 'runs'} yours to write in"
        ) from error
    return run / "report.html"


def _fill(run: Path, report: Report, files: Mapping[str, str]) -> None:
    logs = log_names(report.logs)
    _write(run / "report.json", json.dumps(as_json.document(report), indent=2, ensure_ascii=False) + "\n")
    _write(run / "junit.xml", as_junit.render(report))
    _write(run / "report.html", as_html.render(report, logs, sorted(files)))
    for name, text in files.items():
        _write(run / name, text)
    for name, path in logs.items():
        _write(run / path, report.logs[name])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    # A lone surrogate (bytes of a log that are no UTF-8) becomes `\udc80`, which JSON reads back as it was.
    path.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
