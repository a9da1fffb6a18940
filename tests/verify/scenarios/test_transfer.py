"""The scenario transfer on a site that is made up, with nodes that keep what is sent to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.verify.fake_site import FakeSite, bad, performed
from ws.errors import EnvironmentProblem, StillRunning
from ws.process import Completed
from ws.verify.scenarios import transfer

WORKER = "test-ray-worker"
IN, ACROSS, OUT = (
    f"the file arrives unchanged: {way}" for way in ("outside → ray-cpu", f"ray-cpu → {WORKER}", f"{WORKER} → outside")
)
PROBLEM = {"code": "no-space", "what": "the disk is full", "why": "2 MiB are free", "mend": "free 14 MiB"}


class Keeping(FakeSite):
    """`kept` is what each node has, by `node:path`; `problems` what happens instead at a stop, each time one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, bytes] = {}
        self.problems: dict[str, list[Completed | Exception]] = {}
        self.sent: list[str] = []
        self.damages = ""

    def ws(self, arguments: Sequence[str], *, timeout: float) -> Completed:
        command, source, last, *rest = arguments
        target = rest[0] if command == "send" else "outside"
        self.sent.append(f"{command} {target}")
        if self.problems.get(target):
            problem = self.problems[target].pop(0)
            if isinstance(problem, Exception):
                raise problem
            return problem
        content = self.kept[source] if source in self.kept else Path(source).read_bytes()
        content = content[:-1] + b"?" if target == self.damages else content
        place = last if target == "outside" else f"/home/ray/data/{Path(source).name}"
        if target == "outside":
            Path(place).write_bytes(content)
        else:
            self.kept[f"{target}:{place}"] = content
        return said(recipient_done={"place": place, "seconds": 0.05, "plane": "stream"})

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        if argv[0] == "sha256sum":
            content = self.kept.get(f"{node}:{argv[1]}")
            if content is None:
                return Completed(1, "", f"sha256sum: {argv[1]}: No such file or directory")
            return Completed(0, f"{hashlib.sha256(content).hexdigest()}  {argv[1]}\n", "")
        if argv[0] == "rm":
            self.kept.pop(f"{node}:{argv[2]}", None)
            return Completed(0, "", "")
        return super().run(node, argv, timeout=timeout)


def said(recipient_done: dict[str, Any] | None = None, recipient_failed: dict[str, Any] | None = None) -> Completed:
    events: list[dict[str, Any]] = [{"event": "started"}]
    if recipient_done:
        events.append({"event": "recipient_done", "receipt": recipient_done})
    if recipient_failed:
        events.append({"event": "recipient_failed", "problem": recipient_failed})
    lines = [json.dumps(event) for event in [*events, {"event": "finished", "problem": None}]]
    return Completed(1 if recipient_failed else 0, "\n".join(lines), "")


def late() -> StillRunning:
    return StillRunning(["ws"], -1, "still running after 60 s")


@pytest.fixture
def site() -> Keeping:
    return Keeping()


def test_in_across_and_out(site: Keeping) -> None:
    checks = performed(transfer, site)
    assert list(checks) == [IN, ACROSS, OUT]
    assert bad(checks) == {}
    assert checks[ACROSS].evidence.endswith("…, 0.05 s by the stream plane")
    assert site.sent == ["send ray-cpu", f"send {WORKER}", "fetch outside"]
    assert site.kept == {}


@pytest.mark.parametrize(("damages", "of"), [(WORKER, ACROSS), ("outside", OUT)])
def test_what_arrives_is_something_else(site: Keeping, damages: str, of: str) -> None:
    site.damages = damages
    found = bad(performed(transfer, site))
    assert found.pop(of) == ["data-differs"]
    assert set(map(tuple, found.values())) <= {("inconclusive",)}
    assert site.kept == {}


def test_a_recipient_that_fails_says_why(site: Keeping) -> None:
    site.problems[WORKER] = [said(recipient_failed=PROBLEM)]
    checks = performed(transfer, site)
    assert bad(checks) == {ACROSS: ["ray-error"], OUT: ["inconclusive"]}
    assert checks[ACROSS].evidence == "the disk is full: 2 MiB are free"


def test_a_hop_that_fails_has_the_nodes_cause(site: Keeping) -> None:
    site.problems[WORKER] = [said(recipient_failed=PROBLEM)]
    seen = site.containers[WORKER]
    site.change(WORKER, published=frozenset(place for place in seen.published if not place.endswith(":31049")))
    checks = performed(transfer, site)
    assert bad(checks)[ACROSS] == ["port-blocked"]
    assert "object_manager" in checks[ACROSS].causes[0].what


def test_a_hop_that_was_too_slow_once_is_tried_again(site: Keeping) -> None:
    site.problems["ray-cpu"] = [late()]
    assert bad(performed(transfer, site)) == {}
    assert site.sent == ["send ray-cpu", "send ray-cpu", f"send {WORKER}", "fetch outside"]


def test_a_hop_that_is_too_slow_twice_is_inconclusive(site: Keeping) -> None:
    site.problems["ray-cpu"] = [late(), late()]
    checks = performed(transfer, site)
    assert set(map(tuple, bad(checks).values())) == {("inconclusive",)}
    assert "60 s" in checks[IN].evidence


def test_a_hop_that_is_too_slow_at_a_paused_node_fails(site: Keeping) -> None:
    site.problems[WORKER] = [late()]
    site.change(WORKER, state="paused")
    assert bad(performed(transfer, site))[ACROSS] == ["node-paused"]
    assert site.sent == ["send ray-cpu", f"send {WORKER}"]


def test_a_command_that_fails_before_it_begins(site: Keeping) -> None:
    site.problems["ray-cpu"] = [Completed(4, "", "✗ no Ray cluster answers at ray://x:10001\n  nothing listens there\n")]
    checks = performed(transfer, site)
    assert bad(checks)[IN] == ["ray-error"]
    assert checks[IN].evidence == "no Ray cluster answers at ray://x:10001: nothing listens there"


def test_a_file_that_is_not_there_although_a_receipt_says_so(site: Keeping) -> None:
    site.problems["ray-cpu"] = [said(recipient_done={"place": "/nowhere", "seconds": 0.1, "plane": "ray"})]
    checks = performed(transfer, site)
    assert bad(checks)[IN] == ["ray-error"]
    assert checks[IN].evidence.startswith("it is not there afterwards: ")


def test_without_an_entry_it_is_not_seen(site: Keeping) -> None:
    site.problems["ray-cpu"] = [EnvironmentProblem("no candidate runs, so nothing leads to Ray Client")]
    assert bad(performed(transfer, site))[IN] == ["inconclusive"]


def test_without_a_second_node_it_goes_to_the_head_and_back(site: Keeping) -> None:
    for name in (WORKER, "test-ray-joiner", "ray-gpu"):
        del site.expected[name]
    checks = performed(transfer, site)
    assert bad(checks) == {}
    assert site.sent == ["send ray-cpu", "fetch outside"]


def test_without_a_head(site: Keeping) -> None:
    site.heads, site.lease_answer = [None], {}
    assert bad(performed(transfer, site)) == {"a file goes in, across and out": ["no-leader"]}
