"""Scenario transfer: a file goes in, from node to node, and out again, unchanged, by `ws send` and `ws fetch`."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ws.errors import EnvironmentProblem, StillRunning, WsError
from ws.verify.diagnose import diagnose, suspect
from ws.verify.diagnose_again import head_now
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.ray_client import NO_CAUSE
from ws.verify.site import Site
from ws.verify.verdict import Cause, Check, Recorder

_SIZE = 16 * 2**20
_HOP_LIMIT = 60.0  # seconds for a command; it connects, starts an actor on each node, and sends in well under a second
_HASH_LIMIT = 20.0
OUTSIDE = "outside"


def _run(site: Site, record: Recorder) -> None:
    head = head_now(site)
    if head is None:
        _without_head(site, record)
        return
    stops = [OUTSIDE, *dict.fromkeys((head.name, _second(site, head.name))), OUTSIDE]
    with TemporaryDirectory(prefix="ws-test-") as folder:
        trip = _Trip(site, Path(folder))
        try:
            for source, target in pairwise(stops):
                with record.check(f"the file arrives unchanged: {source} → {target}", _how(target)) as check:
                    trip.go_on(check, target)
        finally:
            trip.remove()


def _without_head(site: Site, record: Recorder) -> None:
    with record.check("a file goes in, across and out", "`ws send` and `ws fetch` on this machine") as check:
        causes = suspect(site, next(iter(site.whitelist)))
        if causes:
            check.failed("there is no head", *causes)
        else:
            check.unseen("there is no head")


def _second(site: Site, head: str) -> str:
    """The node that the file goes to from the head: the external one, for the longest way; else any other; else the head."""
    others = [node for node in site.expected.values() if node.ray_node and node.role != "joiner" and node.name != head]
    others.sort(key=lambda node: node.inside)
    return others[0].name if others else head


def _how(target: str) -> str:
    command = "fetch" if target == OUTSIDE else "send"
    return f"`ws {command}` of {_SIZE // 2**20} MiB on this machine, then SHA-256 of what was written there"


@dataclass
class _Copy:
    """The file at a node, or OUTSIDE, by its path there."""

    node: str
    path: str

    def __str__(self) -> str:
        return self.path if self.node == OUTSIDE else f"{self.node}:{self.path}"


class _NotArrived(Exception):
    """Why the file did not get there; `late`: nothing but that it took too long is known."""

    def __init__(self, why: str, *, late: bool = False) -> None:
        super().__init__(why)
        self.late = late


class _Trip:
    """A random file on its way, hop by hop; `folder` is where it begins and ends here."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._back = folder / "back.bin"
        file = folder / f"ws-test-{secrets.token_hex(8)}.bin"
        content = os.urandom(_SIZE)
        try:
            file.write_bytes(content)
        except OSError as error:
            what = f"no file of {_SIZE // 2**20} MiB could be made in {folder}"
            raise EnvironmentProblem(what, error.strerror, "make room there, or name another folder in TMPDIR") from error
        self._digest = hashlib.sha256(content).hexdigest()
        self._at: _Copy | None = _Copy(OUTSIDE, str(file))
        self._placed: list[_Copy] = []

    def go_on(self, check: Check, target: str) -> None:
        """One hop, judged. After one that failed there is nothing to go on with."""
        if self._at is None:
            check.unseen("not tried, because of what failed before")
            return
        source, self._at = self._at, None
        nodes = [name for name in (source.node, target) if name != OUTSIDE]
        try:
            receipt = self._patiently(source, target, nodes)
            copy = _Copy(target, receipt["place"])
            self._placed.append(copy)
            arrived = self._sha256(copy)
        except _NotArrived as problem:
            causes = self._suspect(nodes)
            if problem.late and not causes:
                check.unseen(f"{problem}, {NO_CAUSE}")
            else:
                check.failed(str(problem), *(causes or diagnose(self._site, nodes[-1], str(problem))))
            return
        if arrived == self._digest:
            check.passed(f"SHA-256 {arrived[:16]}…, {receipt['seconds']:.2f} s by the {receipt['plane']} plane")
            self._at = copy
        else:
            what = f"what arrived has SHA-256 {arrived}, what was sent {self._digest}"
            mend = "run the test again; where it stays, check memory and disk of both machines"
            check.failed(what, Cause("data-differs", f"{source.node} → {target}: {what}", mend))

    def remove(self) -> None:
        """From every node; what is here goes with the folder."""
        for copy in self._placed:
            if copy.node != OUTSIDE:
                with suppress(WsError):  # a node that is gone by now keeps nothing
                    self._site.run(copy.node, ["rm", "-f", copy.path], timeout=_HASH_LIMIT)

    def _patiently(self, source: _Copy, target: str, nodes: Sequence[str]) -> dict[str, Any]:
        """As `_hop`; one that was late, while nothing is found to be wrong, is tried once more."""
        try:
            return self._hop(source, target)
        except _NotArrived as problem:
            if not problem.late or self._suspect(nodes):
                raise
        return self._hop(source, target)

    def _suspect(self, nodes: Sequence[str]) -> list[Cause]:
        return [cause for name in nodes for cause in suspect(self._site, name)]

    def _hop(self, source: _Copy, target: str) -> dict[str, Any]:
        """Send the file there; the receipt."""
        to_us = target == OUTSIDE
        command = ["fetch", str(source), str(self._back)] if to_us else ["send", str(source), "--to", target]
        try:
            done = self._site.ws([*command, "--json"], timeout=_HOP_LIMIT)
        except StillRunning:
            raise _NotArrived(f"`ws {command[0]}` was not done within {_HOP_LIMIT:g} s", late=True) from None
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        receipts = [event["receipt"] for event in events if event["event"] == "recipient_done"]
        if receipts:
            return dict(receipts[0])
        problems = [event["problem"] for event in events if event.get("problem")]
        if problems:
            raise _NotArrived(": ".join(part for part in (problems[0]["what"], problems[0]["why"]) if part))
        said = [line.strip(" ✗→") for line in done.stderr.splitlines() if line.strip()]
        raise _NotArrived(": ".join(said[:2]) or f"`ws {command[0]}` ended with {done.code} and said nothing")

    def _sha256(self, copy: _Copy) -> str:
        """Of the file as it is there, read anew."""
        if copy.node == OUTSIDE:
            with Path(copy.path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        done = self._site.run(copy.node, ["sha256sum", copy.path], timeout=_HASH_LIMIT)
        if done.code:
            raise _NotArrived(f"it is not there afterwards: {(done.stderr or done.stdout).strip()}")
        return done.stdout.split()[0]


TITLE = "A file goes in, from node to node, and out again"
SCENARIO = Scenario("transfer", TITLE, 480.0, _run)
