"""What a check can say, and how its words are collected: checks, scenarios, and the verdict of a whole run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from ws.errors import WsError


class Verdict(StrEnum):
    """`inconclusive` is for what could not be observed; its evidence says why."""

    PASS = "pass"  # noqa: S105, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Cause:
    """Why a check failed: `key` is one of `ws.verify.causes`, `what` names nodes and ports, `remedy` is the mend."""

    key: str
    what: str
    remedy: str


@dataclass
class Check:
    """One check: what was looked at, how, what was seen, and what follows from it. `seconds` is how long it took."""

    what: str
    how: str
    verdict: Verdict = Verdict.PASS
    evidence: str = ""
    causes: list[Cause] = field(default_factory=list)
    seconds: float = 0.0

    def passed(self, evidence: str) -> None:
        self.verdict, self.evidence = Verdict.PASS, evidence

    def failed(self, evidence: str, *causes: Cause) -> None:
        self.verdict, self.evidence, self.causes = Verdict.FAIL, evidence, list(causes)

    def unseen(self, why: str) -> None:
        """It could not be observed, and why."""
        self.verdict, self.evidence = Verdict.INCONCLUSIVE, why


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """One failure fails all; else what was not seen leaves all inconclusive. Nothing at all is inconclusive, too."""
    seen = set(verdicts)
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS):
        if verdict in seen:
            return verdict
    return Verdict.INCONCLUSIVE


@dataclass
class ScenarioResult:
    """What one scenario found. `seconds` is how long it took, `started` the wall clock at its start."""

    name: str
    title: str
    checks: list[Check] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        return combined(check.verdict for check in self.checks)


class Abandoned(Exception):
    """Raised into a scenario whose time is over, or whose run was interrupted."""


class Recorder:
    """Collects the checks of one scenario as they are made; `on_check` hears of each when it has ended."""

    def __init__(self, result: ScenarioResult, on_check: Callable[[ScenarioResult, Check], None]) -> None:
        self.result = result
        self._on_check = on_check
        self._under_way = ""
        self._closed = False

    @contextmanager
    def check(self, what: str, how: str) -> Iterator[Check]:
        """A check whose body calls `passed`, `failed` or `unseen` once.

        Where the body raises an error of ours, the check is inconclusive with that error as evidence. No verdict goes
        without evidence: that is a bug of the scenario. Raises Abandoned once the recorder is closed.
        """
        if self._closed:
            raise Abandoned
        made = Check(what, how, Verdict.INCONCLUSIVE)
        self._under_way = what
        began = time.monotonic()
        try:
            yield made
        except WsError as error:
            made.unseen(": ".join(part for part in (error.what, error.why) if part))
        made.seconds = time.monotonic() - began
        if self._closed:
            raise Abandoned
        if not made.evidence:
            raise AssertionError(f"the check {what!r} came to no verdict, or to one without evidence")
        self._under_way = ""
        self._keep(made)

    def close(self, why: str = "") -> None:
        """Take no more checks. With `why`, the check under way, or the one to come, is kept as inconclusive."""
        self._closed = True
        if why:
            self._keep(Check(self._under_way or "what comes next", "", Verdict.INCONCLUSIVE, why))

    def _keep(self, made: Check) -> None:
        self.result.checks.append(made)
        self._on_check(self.result, made)


@dataclass
class Report:
    """A whole run: scenarios in order, and what a reader needs to place them. Times are seconds since the epoch.

    `about` holds words for people (project, address, versions, machine); `nodes`, `links` feed the picture and the matrix;
    `logs` is the log of each node by its name.
    """

    started: float
    scenarios: list[ScenarioResult] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    picture: list[PictureNode] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        return combined(result.verdict for result in self.scenarios)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 a check failed, 3 inconclusive (DESIGN)."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}[self.verdict]


@dataclass(frozen=True)
class PictureNode:
    """A node in the report's network picture. `role`: health, head, worker, client; `network`: the name of its network.

    `ports` are those that lead in, published on the host, as `address:port`.
    """

    name: str
    role: str
    network: str
    address: str = ""
    ports: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """One direction between two nodes: latency in milliseconds (median and 99th percentile), bandwidth in bytes per second.

    `trouble` says why there is no measurement; then the numbers are None.
    """

    source: str
    target: str
    median_ms: float | None = None
    p99_ms: float | None = None
    bandwidth: float | None = None
    trouble: str = ""
