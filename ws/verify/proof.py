"""Proving the nodes of a cluster: run the prober as a driver somewhere, follow its events, name what is missing."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ws.errors import CheckFailed
from ws.process import Spawn
from ws.verify import programs
from ws.verify.programs import Event

CHECKS = ("task", "pull", "serve", "runtime_env")
WORDS = {
    "task": "a task on it",
    "pull": "an object pulled by it",
    "serve": "an object served by it",
    "runtime_env": "a task with a runtime_env on it",
}
_TELLING = {
    "pull": "the object-manager port of another node is not reachable from it",
    "serve": "its object-manager port is not reachable from the head",
    "runtime_env": "its runtime-env agent's port is not reachable, or the agent died",
    "task": "its node-manager or worker ports are not reachable from the head",
}

_MOST_TAILS = 3
_WATCH_INTERVAL = 1.0
_LATENESS = 5.0  # seconds that a prober may take beyond its deadline


@dataclass
class Proof:
    """What is known of each expected node: whether it is alive at the head, and each check's outcome.

    `checks[node][check]` is None while it passes, else why it failed; a check without an entry has not ended.
    """

    nodes: tuple[str, ...]
    alive: set[str] = field(default_factory=set)
    checks: dict[str, dict[str, str | None]] = field(default_factory=dict)
    trouble: str = ""

    def take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "alive":
            self.alive.add(event["node"])
            self.checks[event["node"]] = {}
        elif kind == "check":
            self.checks.setdefault(event["node"], {})[event["check"]] = None if event["ok"] else event["why"]
        elif kind in ("connecting", "done") and event.get("why"):
            self.trouble = event["why"]
        elif kind == "broken":
            self.trouble = self.trouble or event["why"]

    def proven(self, node: str) -> bool:
        checks = self.checks.get(node, {})
        return node in self.alive and all(check in checks and checks[check] is None for check in CHECKS)

    @property
    def missing(self) -> list[str]:
        return [node for node in self.nodes if not self.proven(node)]

    def lack(self, node: str) -> str:
        """What a node lacks, in words, with the likely cause."""
        if node not in self.alive:
            return "it has not come alive at the head under its own name"
        checks = self.checks.get(node, {})
        for check in CHECKS:
            if check not in checks:
                return f"no answer yet: {WORDS[check]}"
            why = checks[check]
            if why is not None:
                return f"{WORDS[check]} failed ({why}); likely {_TELLING[check]}"
        return "nothing"


def prove(
    nodes: Sequence[str],
    locate: Callable[[], tuple[str, Spawn] | None],
    *,
    timeout: float,
    watch: Callable[[], None] = lambda: None,
    evidence: Callable[[str], str] = lambda node: "",
    on_event: Callable[[Event], None] = lambda event: None,
) -> Proof:
    """Prove `nodes` within `timeout` seconds.

    Args:
        locate: gives the cluster's address and a way to spawn the prober beside it, or None while there is none; asked
            again where the prober ends early, because the head may have moved.
        watch: called once a second; raises where waiting has become vain (a node has died).
        evidence: gives the tail of a node's log, for the error.
        on_event: called with each of the prober's events, and `{"event": "proven", "node"}` once a node lacks nothing.

    Raises:
        CheckFailed: some node was not proven in time; it says which, what it lacks and why.
    """
    proof = Proof(tuple(nodes))
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        watch()
        found = locate()
        if found is None:
            time.sleep(0.1)
            continue
        address, spawn = found
        _follow(proof, address, spawn, deadline, watch, on_event)
        if not proof.missing:
            return proof
        time.sleep(0.5)
    raise _unproven(proof, timeout, evidence)


def _follow(
    proof: Proof,
    address: str,
    spawn: Spawn,
    deadline: float,
    watch: Callable[[], None],
    on_event: Callable[[Event], None],
) -> None:
    """Run one prober until it has said all, or died."""
    params = {"address": address, "nodes": list(proof.nodes), "timeout": max(1.0, deadline - time.monotonic())}
    process = spawn(programs.argv("prober", params))
    done = False
    try:
        events = programs.events(process)
        watched = 0.0
        while True:
            if time.monotonic() - watched > _WATCH_INTERVAL:
                watch()
                watched = time.monotonic()
            try:
                event = events.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() > deadline + _LATENESS:
                    return
                continue
            if event is None:
                return
            proof.take(event)
            on_event(event)
            if event["event"] == "check" and proof.proven(event["node"]):
                on_event({"event": "proven", "node": event["node"]})
            if event["event"] == "done":
                done = True
                return
    finally:
        programs.leave(process, done)


def _unproven(proof: Proof, timeout: float, evidence: Callable[[str], str]) -> CheckFailed:
    missing = proof.missing
    findings = [f"{node}: {proof.lack(node)}" for node in missing]
    if proof.trouble and not proof.alive:
        findings.append(f"the driver that should prove them could not connect: {proof.trouble}")
    findings += [tail for node in missing[:_MOST_TAILS] if (tail := evidence(node))]
    return CheckFailed(
        f"{', '.join(missing)} not proven within {timeout:g} s",
        "\n".join(findings),
        "`ws doctor` looks for causes on this machine; `ws logs NODE` shows a node's whole log",
    )
