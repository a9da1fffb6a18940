"""The link matrix: every ordered pair of nodes, as cells of a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log2

from ws.verify.verdict import Link, Report

LEVELS = 5
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Cell:
    """One direction in words. `state`: ok, dead, or none (not measured, or the node itself).

    `slow` and `thin` are heat, from 0 (as good as the best link, or nearly) to 4 (sixteen times worse, or more), of
    latency and of bandwidth.
    """

    state: str
    trouble: str = ""
    median: str = ""
    p99: str = ""
    bandwidth: str = ""
    slow: int = 0
    thin: int = 0


@dataclass(frozen=True)
class Row:
    """All directions that start at a node, in the order of the matrix's names."""

    source: str
    cells: tuple[Cell, ...]


def names(report: Report) -> list[str]:
    """The nodes that have links, in the picture's order."""
    linked = {name: None for link in report.links for name in (link.source, link.target)}
    drawn = [node.name for node in report.picture if node.name in linked]
    return list(dict.fromkeys([*drawn, *linked]))


def rows(report: Report) -> list[Row]:
    """The matrix, a row for each source."""
    order = names(report)
    by_pair = {(link.source, link.target): link for link in report.links}
    best = _Best(report.links)
    return [Row(source, tuple(_cell(by_pair.get((source, target)), best) for target in order)) for source in order]


def state(link: Link) -> str:
    """`dead` where nothing could be measured, else `ok`."""
    return "dead" if link.trouble or link.median_ms is None else "ok"


class _Best:
    """The best values of all links, which the others are compared with."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.median = min((link.median_ms for link in links if link.median_ms), default=1.0)
        self.bandwidth = max((link.bandwidth for link in links if link.bandwidth), default=1.0)


def _cell(link: Link | None, best: _Best) -> Cell:
    if link is None:
        return Cell("none")
    if state(link) == "dead" or link.median_ms is None:
        return Cell("dead", trouble=link.trouble or "no measurement")
    return Cell(
        "ok",
        median=_milliseconds(link.median_ms),
        p99=_milliseconds(link.p99_ms),
        bandwidth=_per_second(link.bandwidth),
        slow=_level(link.median_ms / best.median),
        thin=_level(best.bandwidth / link.bandwidth) if link.bandwidth else LEVELS - 1,
    )


def _level(times_worse: float) -> int:
    """0 below twice, 1 below four times, …"""
    return max(0, min(LEVELS - 1, floor(log2(times_worse)))) if times_worse > 0 else 0


def _milliseconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def _per_second(value: float | None) -> str:
    if value is None:
        return "no bandwidth measured"
    return f"{value / _MEGABYTE:.0f} MB/s" if value >= 10 * _MEGABYTE else f"{value / _MEGABYTE:.2g} MB/s"
