"""Looking at a cluster that an engine runs: who leads, where a driver can run, and whether a node has died."""

from __future__ import annotations

import json
import math
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ws.engine.base import Engine, NodeState, Project
from ws.engine.token import read_token
from ws.errors import CheckFailed, CommandFailed
from ws.node.http_client import HttpFailure, call
from ws.node.secret import Secret
from ws.process import Spawn, run, start

_TAIL = 25
_ASK_CANDIDATES_EVERY = 2.0


@dataclass(frozen=True)
class Leader:
    """Who leads: hostname, the head's address (host:port), the lease's epoch, and seconds since the grant, if known."""

    name: str
    address: str
    epoch: int
    held_for: float | None = None


class Lookout:
    """Eyes on one project's cluster. How often its nodes were started anew before it looked first does not count."""

    def __init__(self, engine: Engine, project: Project) -> None:
        self.engine = engine
        self.project = project
        self._restarts = {state.name: state.restarts for state in engine.nodes(project)}
        self._asking = threading.Lock()
        self._answer: Leader | None = None
        self._answered_at = -math.inf

    def token(self) -> Secret:
        return read_token(self.project.token_path)

    @cached_property
    def _health_url(self) -> str:
        """Asked for once: engines look through all that runs for it, and `leader` is polled while nodes start."""
        return self.engine.health_url(self.project)

    def leader(self) -> Leader | None:
        """Who holds the lease; without a health server, whom the candidates follow."""
        try:
            answer = call(f"{self._health_url}/lease", "GET", None, self.token(), 2.0)
        except HttpFailure:
            return self._leader_by_candidates()
        lease = answer.get("lease", answer)
        if lease is None:
            return None
        if not isinstance(lease, dict) or "holder" not in lease:
            return self._leader_by_candidates()  # whatever answers there is no health server of ours
        return Leader(lease["holder"], lease["address"], int(lease["epoch"]), lease.get("held_for"))

    def _leader_by_candidates(self) -> Leader | None:
        """Their last answer while it is young: each question is a program run on a node that may be starting."""
        with self._asking:
            if time.monotonic() >= self._answered_at + _ASK_CANDIDATES_EVERY:
                self._answer = self._ask_candidates()
                self._answered_at = time.monotonic()
            return self._answer

    def _ask_candidates(self) -> Leader | None:
        """Whom the first candidate follows that knows it."""
        running = self._running()
        for candidate in self.project.plan.candidates:
            if candidate.hostname not in running:
                continue
            answer = self._ask_agent(candidate.hostname)
            if answer.get("mode") and answer.get("address"):
                return Leader(str(answer["leader"]), str(answer["address"]), int(str(answer["epoch"] or 0)))
        return None

    def _running(self) -> set[str]:
        return {state.name for state in self.engine.nodes(self.project) if state.state == "running"}

    def _ask_agent(self, name: str) -> dict[str, object]:
        argv = self.engine.exec_command(self.project, name, ["python3", self.engine.agent_program, "look"])
        try:
            done = run(argv, env=self.engine.exec_environment(self.project, name), check=False, timeout=15)
            answer = json.loads(done.stdout)
        except (CommandFailed, ValueError):  # it hangs, or does not know: the next one may
            return {}
        return answer if isinstance(answer, dict) else {}

    def driver(self, names: Sequence[str]) -> tuple[str, Spawn] | None:
        """The cluster's address and how to run a driver on one of our nodes: the head where it is ours."""
        leader = self.leader()
        # Nodes here may all be workers of a head elsewhere, which holds no lease of ours.
        address = leader.address if leader else self.project.config.nodes.head_address
        if address is None:
            return None
        place = leader.name if leader and leader.name in self._running() else names[0]

        def spawn(argv: list[str]) -> subprocess.Popen[str]:
            environment = self.engine.exec_environment(self.project, place)
            return start(self.engine.exec_command(self.project, place, argv), env=environment)

        return address, spawn

    def require_alive(self, names: Sequence[str]) -> None:
        """Raise CheckFailed where one of these nodes, or the health server, has ended by itself."""
        wanted = {"health", *names}
        for state in self.engine.nodes(self.project):
            before = self._restarts.get(state.name, 0)
            self._restarts[state.name] = min(before, state.restarts)  # a container made anew counts from zero again
            if state.name in wanted and (state.restarts > before or state.ended_badly):
                raise self.died(state)

    def died(self, state: NodeState) -> CheckFailed:
        """The error for a node that ended, with the tail of its log."""
        again = f", and was started again {state.restarts} time{'s' * (state.restarts != 1)}" if state.restarts else ""
        detail = f" ({state.detail})" if state.detail else ""
        code = f"exit code {state.exit_code}" if state.exit_code is not None else "an error"
        return CheckFailed(
            f"{state.name} ended with {code}{detail}{again}",
            self.tail(state.name),
            f"ws logs {state.name} shows all of it; ws doctor looks for causes on this machine",
        )

    def tail(self, name: str, lines: int = _TAIL) -> str:
        """The last lines of a node's log, marked with its name."""
        try:
            return "\n".join(f"{name} | {line}" for line in self.engine.logs(self.project, name, tail=lines))
        except Exception as error:  # the log is evidence for another error, which must not be lost over it
            return f"{name} | no log: {error}"
