"""The node agent: decide what this node is, start Ray as that, watch it, and decide again when the head is lost.

`run` is the whole life of a node; it returns the exit code that the engine sees.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ws.node import guide as guides
from ws.node.elector import Elector, ElectorSettings, Elsewhere
from ws.node.gate import Gate, gate_routes
from ws.node.gatekeeper import GateClient
from ws.node.guide import Assignment
from ws.node.health import HttpService
from ws.node.log import BAD, GOOD, STEP, plain, say
from ws.node.probe import split, wait_for_port
from ws.node.ray_process import RayProcess, head_command, worker_command
from ws.node.settings import Candidate, Settings, SettingsError, read_settings
from ws.node.signals import set_on_signal

if TYPE_CHECKING:
    from ws.node.relay import Relay, Target

NO_HEAD_EXIT = 4
_START_LIMIT = 120.0
_LONG_RUN = 60.0
_RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 8.0)
_WATCH_INTERVAL = 0.25
_REFUSED_TOKEN = ("Unauthenticated", "UNAUTHENTICATED", "InvalidAuthToken", "authentication token")


def main() -> int:
    """Run the agent with the process's environment until SIGTERM or SIGINT."""
    try:
        agent = Agent(read_settings(os.environ), os.environ)
        set_on_signal(agent.stopping)
        return agent.run()
    except SettingsError as error:
        say(str(error), BAD)
        return 2


def _ray_version() -> str:
    try:
        return version("ray")
    except PackageNotFoundError:
        return "of another Python"  # `ray` is on the PATH all the same


class Agent:
    """One node's agent; `stopping` ends it. Raises SettingsError, from the constructor and from `run`."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        if not shutil.which("ray", path=environ.get("PATH")):
            raise SettingsError(f"no `ray` on the PATH ({environ.get('PATH', '')})")
        self.settings = settings
        self.environ = environ
        self.stopping = threading.Event()
        self.instance = uuid.uuid4().hex
        self.token = settings.token()
        self.state = "deciding"
        self._gate_client = GateClient(settings.name, self.instance, self.token, self.stopping)
        self._service: HttpService | None = None
        self._elector: Elector | None = None
        self._relay: Relay | None = None
        self._failures = 0

    def run(self) -> int:
        plain(f"Hostname: {self.settings.name}")
        say(f"Ray {_ray_version()}, Python {platform.python_version()}, advertised as {self.settings.address}", STEP)
        self._guide = self._choose_guide()
        try:
            self._service = self._open_service()
            # Only now: the other candidates' questions are answered from the first moment on.
            if self._elector:
                self._elector.start()
            return self._live()
        finally:
            self._guide.stop()
            if self._service:
                self._service.stop()
            if self._relay:
                self._relay.close()
            say("stopped", GOOD)

    # What this node goes by

    def _choose_guide(self) -> guides.FixedGuide | guides.ElectedGuide | guides.FollowingGuide:
        settings = self.settings
        whitelist = ", ".join(settings.whitelist) or "empty"
        if settings.head_address:
            plain(f"HEAD_ADDRESS: {settings.head_address}")
            say(f"HEAD_ADDRESS is set: a worker of {settings.head_address}", STEP)
            return guides.FixedGuide(settings.head_address)
        if settings.is_candidate and settings.me:
            say(f"a candidate (whitelist: {whitelist}): the lease decides who is head", STEP)
            self._elector = self._make_elector(settings.me)
            return guides.ElectedGuide(self._elector)
        if settings.is_candidate:
            raise SettingsError(f"WS_CANDIDATES does not tell the ports of this candidate, {settings.name!r}")
        say(f"not in the whitelist ({whitelist}): a worker", STEP)
        if settings.head_address_cfg:
            plain(f"HEAD_ADDRESS: {settings.head_address_cfg}")
            say(f"nodes.head_address names the head: {settings.head_address_cfg}", STEP)
            return guides.FixedGuide(settings.head_address_cfg)
        return guides.FollowingGuide(settings, self.token)

    def _make_elector(self, me: Candidate) -> Elector:
        settings = self.settings
        known = {candidate.name: candidate for candidate in settings.candidates}
        return Elector(
            ElectorSettings(
                me=settings.name,
                instance=self.instance,
                candidates=[known.get(name) or Elsewhere(name) for name in dict.fromkeys(settings.whitelist)],
                address=me.head_address,
                ttl=settings.lease_ttl,
                health_url=settings.health_url,
                health_timeout=settings.health_timeout,
                token=self.token,
                patience=settings.health_patience,
                max_retries=settings.health_max_retries,
                retry_interval=settings.health_retry_interval,
            ),
            on_log=lambda text: say(text, STEP),
        )

    def _open_service(self) -> HttpService | None:
        """The agent's own port: peers ask it in elections, nodes for a place at the gate, people for its state."""
        port = self.settings.ports.get("agent")
        if not port:
            return None
        routes = dict(gate_routes(Gate(os.cpu_count() or 1)))
        routes[("GET", "/node")] = lambda _body: (200, self.describe())
        if self._elector:
            routes.update(self._elector.app_routes())
        host = "0.0.0.0" if self.settings.bind_host == "0.0.0.0" else self.settings.address
        try:
            service = HttpService(routes, host, port, self.token)
        except OSError as error:
            raise SettingsError(f"the agent's own port {port} can't be opened at {host}: {error.strerror}") from None
        service.start()
        return service

    def describe(self) -> dict[str, object]:
        """This node as a JSON object: name, state, and the assignment that it follows."""
        current = self._guide.current()
        return {
            "name": self.settings.name,
            "state": self.state,
            "mode": current.mode if current else None,
            "address": current.address if current else None,
            "leader": current.leader if current else None,
            "epoch": current.epoch if current else None,
        }

    # The life of a node

    def _live(self) -> int:
        deadline = time.monotonic() + self.settings.wait_for_head
        while not self.stopping.is_set():
            self.state = "deciding"
            assignment = self._discover(deadline)
            if self.stopping.is_set():
                break
            if assignment is None:
                return self._give_up(self._guide.why_none())
            self._announce(assignment)
            obstacle = self._wait_for_head(assignment, deadline)
            if obstacle:
                return self._give_up(obstacle)
            if self._run_ray(assignment):
                deadline = time.monotonic() + self.settings.wait_for_head
            elif time.monotonic() > deadline:
                return self._give_up(f"Ray did not start against {assignment.address}; its last lines are above")
        return 0

    def _discover(self, deadline: float) -> Assignment | None:
        """Wait for an assignment; after DISCOVERY_TIMEOUT, say what is in the way, and go on waiting."""
        left = max(0.0, deadline - time.monotonic())
        patience = min(left, self.settings.discovery_timeout)
        assignment = guides.wait_for_assignment(self._guide, patience, self.stopping)
        if assignment or self.stopping.is_set():
            return assignment
        say(f"no head found within {patience:g} s: {self._guide.why_none()}", BAD)
        return guides.wait_for_assignment(self._guide, left - patience, self.stopping)

    def _announce(self, assignment: Assignment) -> None:
        settings = self.settings
        plain(f"Mode: {assignment.mode}")
        if settings.is_candidate and not settings.head_address:
            self._point_relay(assignment)

    def _point_relay(self, assignment: Assignment) -> None:
        """A candidate that is worker leads its own entry ports to the head; a head needs them for Ray itself."""
        if assignment.mode == "head":
            if self._relay:
                self._relay.point({})
            return
        from ws.node.relay import Relay  # asyncio is a tenth of a second that heads and plain workers need not spend

        self._relay = self._relay or Relay(self.settings.bind_host.split(","))
        ports = self._relayed_ports(assignment)
        self._relay.point(ports)
        head = ", ".join(f"{port} → {host}:{far}" for port, (host, far) in ports.items())
        say(f"relaying {head}", STEP)

    def _relayed_ports(self, assignment: Assignment) -> dict[int, Target]:
        settings = self.settings
        host, port = split(assignment.address)
        ports = {settings.head_port: (host, port)}
        leader = next((candidate for candidate in settings.candidates if candidate.name == assignment.leader), None)
        if leader:
            # A head on this very machine serves its dashboard on the loopback address alone.
            dashboard_host = host if settings.dashboard_host == "0.0.0.0" else settings.dashboard_host
            ports[settings.dashboard_port] = (dashboard_host, leader.dashboard_port)
            ports[settings.client_port] = (host, leader.client_port)
        return ports

    def _wait_for_head(self, assignment: Assignment, deadline: float) -> str | None:
        """Wait until the head's port accepts; returns the obstacle where it never does.

        A head that has just been elected is starting now, and `ray start` waits for it by itself: a worker that starts
        beside it is up sooner. Only where that has failed, or nobody vouches for the address, it is looked at first.
        """
        if assignment.mode == "head" or (assignment.leader and not self._failures):
            return None
        self.state = "waiting for the head"
        while not self.stopping.is_set():
            slice_ = min(1.0, max(0.0, deadline - time.monotonic()))
            obstacle = wait_for_port(assignment.address, slice_, self.stopping)
            if obstacle is None or self._reassigned(assignment):
                return None
            if time.monotonic() >= deadline:
                return obstacle
        return None

    def _run_ray(self, assignment: Assignment) -> bool:
        """Start Ray and stay until it ends or the assignment changes; returns whether it had come up."""
        if self.stopping.is_set() or self._reassigned(assignment):
            return False
        is_head = assignment.mode == "head"
        command = head_command(self.settings) if is_head else worker_command(self.settings, assignment.address)
        self.state = "at the gate"
        with self._gate_client.passage(self._gate_keepers(assignment), priority=is_head):
            if self.stopping.is_set() or self._reassigned(assignment):
                return False
            began = time.monotonic()
            self.state = "starting Ray"
            say(f"ray start {'--head' if is_head else f'--address={assignment.address}'}", STEP)
            ray = RayProcess(command, self.instance, self.environ)
            why = self._watch_start(ray, assignment, began)
        if why is None:
            say(f"Ray is up after {time.monotonic() - began:.1f} s", GOOD)
            self.state = "up"
            why = self._watch(ray, assignment)
        self._finish(ray, assignment, why, time.monotonic() - began)
        return ray.started.is_set()

    def _watch_start(self, ray: RayProcess, assignment: Assignment, began: float) -> str | None:
        """None once Ray is up, else why it will not be."""
        while not ray.started.wait(0.05):
            why = self._interrupted(assignment) or ray.ended()
            if why or time.monotonic() - began > _START_LIMIT:
                return why or f"Ray did not start within {_START_LIMIT:.0f} s"
        return None

    def _watch(self, ray: RayProcess, assignment: Assignment) -> str:
        while True:
            why = self._interrupted(assignment) or ray.ended()
            if why:
                return why
            self.stopping.wait(_WATCH_INTERVAL)

    def _interrupted(self, assignment: Assignment) -> str | None:
        if self.stopping.is_set():
            return "asked to stop"
        return "another assignment" if self._reassigned(assignment) else None

    def _reassigned(self, running: Assignment) -> bool:
        current = self._guide.current()
        if current is None:
            # A head without a right steps down. A worker stays where it is until it hears of another head: that it hears
            # of none right now may be its own network, and its Ray may well go on.
            return running.mode == "head"
        return current.replaces(running)

    def _finish(self, ray: RayProcess, assignment: Assignment, why: str, ran: float) -> None:
        """End what is left of Ray; after a failure, say what it printed and pause before the next try."""
        stepping_down = assignment.mode == "head" and self._reassigned(assignment)
        failed = ray.ended() is not None or why.startswith("Ray did not start")
        if failed and not self.stopping.is_set():
            self._report(ray, why)
        else:
            say(f"{why}: ending Ray", STEP)
        # A head that has lost its lease must be gone before the next one starts: no grace.
        ray.stop(politely=not (stepping_down or failed))
        if self.stopping.is_set() or not failed:
            return
        if assignment.mode == "head" or ran > _LONG_RUN:
            self._guide.lost()
        self._failures = 0 if ran > _LONG_RUN else self._failures + 1
        if self._failures:
            pause = _RETRY_PAUSES[min(self._failures, len(_RETRY_PAUSES)) - 1]
            say(f"trying again in {pause:.0f} s (failure {self._failures})", STEP)
            self.stopping.wait(pause)

    def _report(self, ray: RayProcess, why: str) -> None:
        say(why, BAD)
        lines = ray.tail()
        for line in lines:
            plain(f"  ray | {line}")
        if any(mark in line for mark in _REFUSED_TOKEN for line in lines):
            say("the head refuses this node's token: give every node the token file that the head has", BAD)

    def _gate_keepers(self, assignment: Assignment) -> list[str]:
        keepers = [self.settings.health_url] if self.settings.health_url else []
        if assignment.mode == "worker":
            keepers += [peer.agent_url for peer in self.settings.candidates if peer.name == assignment.leader]
        return keepers

    def _give_up(self, obstacle: str) -> int:
        waited = self.settings.wait_for_head
        say(f"no head within {waited:g} s (WAIT_FOR_HEAD): {obstacle}", BAD)
        return NO_HEAD_EXIT
