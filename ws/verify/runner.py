"""Running scenarios: in two lanes, while a watch sees to it that the nodes stay alive.

The window that nodes must stay alive for is long (65 s with Ray's defaults), so everything else happens meanwhile. What
makes nodes come and go, which is `head-override`, has a lane of its own; what counts nodes comes before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import contextmanager
from functools import partial

from ws.errors import WsError
from ws.verify.scenarios import AFTER_OTHERS, BEFORE_OTHERS, BESIDE_OTHERS, Scenario
from ws.verify.site import Site
from ws.verify.verdict import Abandoned, Check, PictureNode, Recorder, Report, ScenarioResult, Verdict

OnCheck = Callable[[ScenarioResult, Check], None]


def run(site: Site, scenarios: Sequence[Scenario], on_check: OnCheck) -> Report:
    """Run these scenarios; the report has them in the order given.

    `site.watch` has been started when the external node was seen alive, or before. Raises what is a bug in a scenario, and
    KeyboardInterrupt, after which no scenario makes another check.
    """
    report = Report(started=time.time())
    began = time.monotonic()
    site.first_head = site.head()
    results = {scenario.name: ScenarioResult(scenario.name, scenario.title) for scenario in scenarios}
    report.scenarios = list(results.values())
    special = (*BEFORE_OTHERS, *BESIDE_OTHERS, *AFTER_OTHERS)

    def named(names: Sequence[str]) -> list[Scenario]:
        return [scenario for scenario in scenarios if scenario.name in names]

    with _crew(site, results, on_check) as crew:
        crew.work(named(BEFORE_OTHERS))
        beside = crew.start(named(BESIDE_OTHERS))
        crew.work([scenario for scenario in scenarios if scenario.name not in special])
        beside.result()
        site.failed = report.verdict is Verdict.FAIL
        crew.work(named(AFTER_OTHERS))
    report.links = site.links
    report.picture = picture(site)
    report.logs = {name: site.log(name) for name in site.expected if site.seen(name)}
    report.seconds = time.monotonic() - began
    return report


class _Crew:
    """Threads that scenarios run in, so that one that does not end in time, or after Ctrl-C, holds nobody up."""

    def __init__(self, site: Site, results: dict[str, ScenarioResult], on_check: OnCheck) -> None:
        self._site = site
        self._results = results
        self._on_check = on_check
        self.recorders: list[Recorder] = []

    def start(self, scenarios: Sequence[Scenario]) -> Future[None]:
        """Begin with these, one after the other, and go on."""
        return _in_a_thread("lane", partial(self.work, scenarios))

    def work(self, scenarios: Sequence[Scenario]) -> None:
        """Run these one after the other; of one that does not end within its deadline, what it was at is inconclusive."""
        for scenario in scenarios:
            result = self._results[scenario.name]
            record = Recorder(result, self._on_check)
            self.recorders.append(record)
            began = time.monotonic()
            result.started = time.time()
            try:
                _in_a_thread(scenario.name, partial(_guarded, scenario, self._site, record)).result(scenario.deadline)
            except NotInTime:
                record.close(f"not seen to its end within the scenario's {scenario.deadline:g} s")
            result.seconds = time.monotonic() - began


def _in_a_thread(name: str, body: Callable[[], None]) -> Future[None]:
    """Run it in a thread of its own, which the end of the process does not wait for."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            body()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def _guarded(scenario: Scenario, site: Site, record: Recorder) -> None:
    try:
        scenario.run(site, record)
    except Abandoned:
        pass
    except WsError as error:
        with record.check("the scenario as a whole", "its steps, one after the other") as check:
            check.unseen(": ".join(part for part in (error.what, error.why) if part))


@contextmanager
def _crew(site: Site, results: dict[str, ScenarioResult], on_check: OnCheck) -> Iterator[_Crew]:
    crew = _Crew(site, results, on_check)
    try:
        yield crew
    except BaseException:
        for record in crew.recorders:
            record.close()
        raise


def picture(site: Site) -> list[PictureNode]:
    """Every container that is there, for the report's picture."""
    head = site.head()
    nodes = []
    for name, expected in site.expected.items():
        seen = site.seen(name)
        if seen is None:
            continue
        role = "head" if head and head.name == name else "worker" if expected.ray_node else expected.role
        address = seen.addresses.get(expected.network, "")
        nodes.append(PictureNode(name, role, expected.network, address, tuple(sorted(seen.published))))
    return nodes
