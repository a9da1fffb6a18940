"""What `ws test` and `ws verify` show on the console: a line for each check as it comes, and the table at the end.

Marks and words tell verdicts apart; colours, where the stream takes them, only help.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ws.console import BOLD, DIM, GREEN, RED, YELLOW, paint, table
from ws.verify.report import matrix
from ws.verify.report.as_html import MARKS
from ws.verify.report.visible import visible
from ws.verify.verdict import Check, Report, ScenarioResult, Verdict

_COLOURS = {Verdict.PASS: GREEN, Verdict.FAIL: RED, Verdict.INCONCLUSIVE: YELLOW}
_EVIDENCE_LINES = 6


def check_line(result: ScenarioResult, check: Check, stream: TextIO) -> str:
    """One line for a check that has ended: mark, scenario, what, seconds; why it could not be observed, if so."""
    mark = paint(MARKS[check.verdict], _COLOURS[check.verdict], stream)
    seconds = paint(f"({check.seconds:.1f} s)", DIM, stream)
    line = f"{mark} {result.name}: {_one_line(check.what)} {seconds}"
    if check.verdict is Verdict.PASS:
        return line
    return f"{line}: {_one_line(check.causes[0].what if check.causes else check.evidence)}"


def final(report: Report, page: Path, stream: TextIO) -> str:
    """The table of scenarios, below it what did not pass with causes and mends, and last the path of the HTML page."""
    parts = [_scenarios(report, stream), *([_matrix(report, stream)] if report.links else [])]
    for result in report.scenarios:
        parts += ["\n".join(_trouble(result, check, stream)) for check in result.checks if check.verdict is not Verdict.PASS]
    parts.append(f"{_summary(report, stream)}\nReport: {page}")
    return "\n\n".join(parts)


def _scenarios(report: Report, stream: TextIO) -> str:
    rows = [
        (result.name, _word(result.verdict), f"{_passes(result)}/{len(result.checks)}", f"{result.seconds:.1f}")
        for result in report.scenarios
    ]
    header, *lines = table(["SCENARIO", "VERDICT", "CHECKS", "SECONDS"], rows).splitlines()
    painted = [
        line.replace(_word(result.verdict), paint(_word(result.verdict), _COLOURS[result.verdict], stream), 1)
        for line, result in zip(lines, report.scenarios, strict=True)
    ]
    return "\n".join([paint(header, BOLD, stream), *painted])


def _matrix(report: Report, stream: TextIO) -> str:
    """Each link, from the row's node to the column's: median latency and bandwidth."""
    rows = [(row.source, *map(_cell, row.cells)) for row in matrix.rows(report)]
    header, *lines = table(["FROM, TO:", *matrix.names(report)], rows).splitlines()
    return "\n".join([paint(header, BOLD, stream), *lines])


def _cell(cell: matrix.Cell) -> str:
    return f"{MARKS[Verdict.FAIL]} dead" if cell.state == "dead" else f"{cell.median} {cell.bandwidth}".strip()


def _word(verdict: Verdict) -> str:
    return f"{MARKS[verdict]} {verdict.value}"


def _passes(result: ScenarioResult) -> int:
    return sum(check.verdict is Verdict.PASS for check in result.checks)


def _trouble(result: ScenarioResult, check: Check, stream: TextIO) -> Iterator[str]:
    mark = paint(MARKS[check.verdict], _COLOURS[check.verdict], stream)
    yield f"{mark} {result.name}: {paint(_one_line(check.what), BOLD, stream)}"
    lines = visible(check.evidence).strip().splitlines()
    yield from (f"  {line}" for line in lines[:_EVIDENCE_LINES])
    if len(lines) > _EVIDENCE_LINES:
        yield f"  … {len(lines) - _EVIDENCE_LINES} more lines in the report"
    for cause in check.causes:
        yield f"  cause: {_one_line(cause.what)}"
        yield f"  → {_indented(cause.remedy)}"


def _summary(report: Report, stream: TextIO) -> str:
    passes, total = sum(map(_passes, report.scenarios)), sum(len(result.checks) for result in report.scenarios)
    verdict = paint(_word(report.verdict), _COLOURS[report.verdict], stream)
    return f"{verdict}: {passes} of {total} checks passed, in {report.seconds:.1f} s"


def _one_line(text: str) -> str:
    return " ".join(visible(text).split())


def _indented(text: str) -> str:
    """A mend may be some lines to paste; those below the first stand below its beginning."""
    return visible(text).strip().replace("\n", "\n    ")
