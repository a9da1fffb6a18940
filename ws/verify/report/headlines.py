"""What a reader wants first of a run that did not pass: the causes with their mends, and what was not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ws.verify.causes import TITLES
from ws.verify.verdict import Cause, Check, Report, Verdict


@dataclass
class Headline:
    """One trouble of the run. `kind`: cause, unexplained (a failure without a cause) or unseen.

    `checks`: anchor and name of each check that it stands for.
    """

    kind: str
    title: str
    what: str
    remedy: str = ""
    checks: list[tuple[str, str]] = field(default_factory=list)


def anchor(scenario: int, check: int) -> str:
    """The id of a check on the page, by its place, from 1."""
    return f"check-{scenario}-{check}"


def headlines(report: Report) -> list[Headline]:
    """Causes, those first that a check names first; then failures without one; then what was not seen."""
    return [*_causes(report), *_others(report, Verdict.FAIL), *_others(report, Verdict.INCONCLUSIVE), *_empty(report)]


def _causes(report: Report) -> list[Headline]:
    found: dict[Cause, Headline] = {}
    ranks: dict[Cause, int] = {}
    for place, check in _checks(report):
        for rank, cause in enumerate(check.causes):
            ranks[cause] = min(rank, ranks.get(cause, rank))
            headline = found.setdefault(cause, Headline("cause", TITLES.get(cause.key, cause.key), cause.what, cause.remedy))
            headline.checks.append((place, check.what))
    return [found[cause] for cause in sorted(found, key=ranks.__getitem__)]


def _others(report: Report, verdict: Verdict) -> list[Headline]:
    kind, reason = ("unexplained", "no evidence") if verdict is Verdict.FAIL else ("unseen", "no reason is known")
    return [
        Headline(kind, check.what, check.evidence.strip() or reason, checks=[(place, check.what)])
        for place, check in _checks(report)
        if check.verdict is verdict and not check.causes
    ]


def _empty(report: Report) -> list[Headline]:
    return [Headline("unseen", result.title, "no check was made") for result in report.scenarios if not result.checks]


def _checks(report: Report) -> Iterator[tuple[str, Check]]:
    for first, result in enumerate(report.scenarios, start=1):
        for second, check in enumerate(result.checks, start=1):
            yield anchor(first, second), check
