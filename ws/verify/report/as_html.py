"""The report as one page for people: nothing is loaded from elsewhere, no script, and all text is escaped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ws.verify.causes import TITLES
from ws.verify.report import matrix
from ws.verify.report import picture as drawing
from ws.verify.report.as_json import instant
from ws.verify.report.headlines import anchor, headlines
from ws.verify.report.visible import visible
from ws.verify.verdict import Report, Verdict

MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.INCONCLUSIVE: "?"}
_FIRST = 3


def render(report: Report, logs: Mapping[str, str], files: Sequence[str]) -> str:
    """The page. `logs`: path by node, `files`: paths; both relative to the page's folder."""
    found = headlines(report)
    counts = Counter(check.verdict for result in report.scenarios for check in result.checks)
    return _template().render(
        report=report,
        started=instant(report.started).replace("T", " ").replace("Z", " UTC"),
        counts=counts,
        total=counts.total(),
        first=found[:_FIRST],
        more=found[_FIRST:],
        drawn=drawing.picture(report),
        width=drawing.WIDTH,
        card_width=drawing.CARD_WIDTH,
        card_height=drawing.CARD_HEIGHT,
        names=matrix.names(report),
        rows=matrix.rows(report),
        logs=logs,
        files=["report.json", "junit.xml", *files],
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": _prose, "clip": _clip, "seconds": _seconds}
    environment.globals |= {"marks": MARKS, "titles": TITLES, "anchor": anchor}
    return environment.get_template("report.html.jinja2")


def _readable(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _prose(text: str) -> Markup:
    """A sentence with `code` in backticks."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(visible(text)))))  # noqa: S704 (escaped before)


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"
