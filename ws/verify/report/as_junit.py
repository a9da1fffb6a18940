"""The report as JUnit XML, which CI servers read: a testsuite for each scenario, a testcase for each check.

What is inconclusive is an `<error>`: most readers count `<skipped>` as if it had passed.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from ws.verify.report.as_json import instant
from ws.verify.report.visible import visible
from ws.verify.verdict import Check, Report, ScenarioResult, Verdict

_ELEMENT = {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error"}


def render(report: Report) -> str:
    """The XML document. A run or a scenario without a check has one case, with an error: nothing was observed."""
    root = Element("testsuites", name="ws")
    results = report.scenarios or [ScenarioResult("run", "No scenario ran", started=report.started)]
    for result in results:
        _suite(root, result)
    _count(root, [check for result in results for check in _checks(result)], report.seconds)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _suite(root: Element, result: ScenarioResult) -> None:
    suite = SubElement(root, "testsuite", name=visible(result.name), timestamp=instant(result.started).removesuffix("Z"))
    checks = _checks(result)
    _count(suite, checks, result.seconds)
    for check in checks:
        _case(suite, result, check)


def _checks(result: ScenarioResult) -> list[Check]:
    return result.checks or [Check(result.title, "", Verdict.INCONCLUSIVE, "no check was made")]


def _count(element: Element, checks: Iterable[Check], seconds: float) -> None:
    verdicts = [check.verdict for check in checks]
    element.set("tests", str(len(verdicts)))
    element.set("failures", str(verdicts.count(Verdict.FAIL)))
    element.set("errors", str(verdicts.count(Verdict.INCONCLUSIVE)))
    element.set("skipped", "0")
    element.set("time", f"{seconds:.3f}")


def _case(suite: Element, result: ScenarioResult, check: Check) -> None:
    case = SubElement(
        suite, "testcase", name=visible(check.what), classname=visible(f"ws.{result.name}"), time=f"{check.seconds:.3f}"
    )
    if check.verdict is Verdict.PASS:
        SubElement(case, "system-out").text = visible(check.evidence)
        return
    trouble = SubElement(case, _ELEMENT[check.verdict], message=visible(_message(check)), type=visible(_kind(check)))
    trouble.text = _details(check)


def _message(check: Check) -> str:
    return check.causes[0].what if check.causes else check.evidence.partition("\n")[0]


def _kind(check: Check) -> str:
    return check.causes[0].key if check.causes else check.verdict.value


def _details(check: Check) -> str:
    parts = [f"How: {check.how}", check.evidence]
    parts += [f"Cause: {cause.what}\nMend: {cause.remedy}" for cause in check.causes]
    return "\n\n".join(map(visible, parts))  # each for itself: a carriage return at the end of one is no line's end
