"""The report for programs; `docs/cluster-test.md` documents the fields."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ws.verify.verdict import Check, Report, ScenarioResult


def document(report: Report) -> dict[str, Any]:
    """The report as a JSON-ready object. `started` is in UTC by ISO 8601, `seconds` are durations."""
    return {
        "started": instant(report.started),
        "seconds": round(report.seconds, 3),
        "verdict": report.verdict.value,
        "exit_code": report.exit_code,
        "about": dict(report.about),
        "scenarios": [_scenario(result) for result in report.scenarios],
        "links": [asdict(link) for link in report.links],
        "nodes": [{**asdict(node), "ports": list(node.ports)} for node in report.picture],
    }


def instant(epoch: float) -> str:
    """`2026-11-21T15:04:05Z`, of seconds since the epoch."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _scenario(result: ScenarioResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "verdict": result.verdict.value,
        "seconds": round(result.seconds, 3),
        "checks": [_check(check) for check in result.checks],
    }


def _check(check: Check) -> dict[str, Any]:
    return {
        "what": check.what,
        "how": check.how,
        "verdict": check.verdict.value,
        "evidence": check.evidence,
        "seconds": round(check.seconds, 3),
        "causes": [asdict(cause) for cause in check.causes],
    }
