"""A project's cluster and its test network as the scenarios see them: `ws.verify.site.Site` over containers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from tempfile import TemporaryDirectory
from typing import Any

from ws.cluster.dashboard import Dashboard
from ws.config.models import HEALTH_NAME
from ws.config.plan import JOINER_CPUS, ExternalPlan, NodePlan, PortBlock, official_image
from ws.engine.environment import AUTHENTICATION, resolved
from ws.engine.lookout import Lookout
from ws.engine.machine import in_effect, wants_gpu
from ws.engine.render import main_context, testbed_context
from ws.engine.testbed import TestBed
from ws.engine.testbed_docker import translated
from ws.engine.testbed_look import inspect, inspected
from ws.errors import CommandFailed, EnvironmentProblem
from ws.node.http_client import HttpFailure, call
from ws.process import Completed, run, start
from ws.verify.site import Expected, Head, Seen
from ws.verify.stability import StabilityWatch
from ws.verify.verdict import Link

_LEASE_TIMEOUT = 2.0
_JOINER_LIMIT = 20.0  # seconds that starting or removing a joiner may take
_NOT_STARTED = ("Error response from daemon", "OCI runtime exec failed")


class ProjectSite:
    """The containers of one project. `head`: the entry that the test's worker was told to join by.

    Where the Docker daemon refuses, is slow or gone, all of it raises EnvironmentProblem.
    """

    def __init__(self, bed: TestBed, head: str | None = None) -> None:
        self._bed = bed
        self._project = bed.project
        self._engine = bed.engine
        self.lookout = Lookout(bed.engine, bed.project)
        config = bed.project.config
        self.project = bed.project.plan.project
        self.host_address = self._engine.machine.gateway if config.host.ip_address == "auto" else str(config.host.ip_address)
        self.whitelist: Sequence[str] = config.nodes.head_whitelist
        self.expected: Mapping[str, Expected] = _expected(bed, head)
        self.links: list[Link] = []
        self.first_head: Head | None = None
        self.failed = False
        self.known_before: frozenset[str] = frozenset()
        """Ids of external Ray nodes that the GCS knew before the test's containers were started: they have ended."""
        self.watch = StabilityWatch(self)
        self._closed = False
        self._programs: list[subprocess.Popen[str]] = []
        self._starting = threading.Lock()
        self._joining = threading.Lock()

    def close(self) -> None:
        """Start nothing more, and end the programs that are under way: who waits for one goes on at once.

        A joiner that is just being started or removed is waited for, so that whoever removes all afterwards finds it.
        """
        with self._starting:
            self._closed = True
            for process in self._programs:
                process.kill()
        if self._joining.acquire(timeout=_JOINER_LIMIT):
            self._joining.release()

    def _require_open(self) -> None:
        if self._closed:
            raise EnvironmentProblem("the run has ended, and starts nothing more")

    def spawn(self, node: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        with self._starting:
            self._require_open()
            process = start(self._exec(node, argv))
            self._programs = [other for other in self._programs if other.returncode is None] + [process]
        return process

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        self._require_open()
        command = self._exec(node, argv)
        done = run(command, timeout=timeout, check=False)
        if done.code and (done.stdout + done.stderr).lstrip().startswith(_NOT_STARTED):
            raise CommandFailed(command, done.code, done.stdout + done.stderr)
        return done

    def _exec(self, node: str, argv: Sequence[str]) -> list[str]:
        return ["docker", "exec", "-i", self.expected[node].container, *argv]

    def remember_known(self) -> None:
        """Fill `known_before`: the GCS keeps the name of a worker that was killed alive for 15 to 65 s."""
        outside = {node.name for node in self.expected.values() if not node.inside}
        with suppress(EnvironmentProblem):  # without a dashboard nothing is known, and joining will tell
            self.known_before = frozenset(node.node_id for node in self.dashboard().nodes() if node.name in outside)

    def seen(self, name: str) -> Seen | None:
        found = inspect(self._engine.client, self.expected[name].container)
        return Seen(**vars(found)) if found else None

    @translated()
    def strangers(self) -> Mapping[str, Seen]:
        known = {expected.container for expected in self.expected.values()}
        found = {}
        for network in {expected.network for expected in self.expected.values()}:
            for container in self._engine.client.containers.list(
                all=True, filters={"network": network}, ignore_removed=True
            ):
                if container.name not in known:
                    found[str(container.name)] = Seen(**vars(inspected(container)))
        return found

    @translated()
    def log(self, name: str) -> str:
        if name in self._bed.containers:
            return self._bed.log(name)
        try:
            return "\n".join(self._engine.logs(self._project, name))
        except EnvironmentProblem:  # there is no container
            return ""

    @translated()
    def head(self) -> Head | None:
        leader = self.lookout.leader()
        return Head(leader.name, leader.address, leader.epoch) if leader else None

    @translated()
    def lease(self) -> Mapping[str, object] | None:
        url = f"{self._engine.health_url(self._project)}/lease"
        try:
            answer = call(url, "GET", None, self.lookout.token(), _LEASE_TIMEOUT)
        except HttpFailure:
            return None
        lease = answer.get("lease")
        return lease if isinstance(lease, dict) else {}

    @translated()
    def dashboard(self) -> Dashboard:
        entries = self._engine.entries(self._project)
        if "dashboard" not in entries:
            raise EnvironmentProblem("no candidate runs, so nothing leads to the dashboard", mend="`ws up`")
        return Dashboard(entries["dashboard"], self.lookout.token())

    @translated()
    def ws(self, arguments: Sequence[str], *, timeout: float) -> Completed:
        self._require_open()
        entries = self._engine.entries(self._project)
        if "client" not in entries:
            raise EnvironmentProblem("no candidate runs, so nothing leads to Ray Client", mend="`ws up`")
        way = ["--address", entries["client"], "--token-file", str(self._project.token_path)]
        with TemporaryDirectory(prefix="ws-test-") as state:  # what a test moves does not belong into the user's history
            argv = [sys.executable, "-m", "ws", *arguments, *way]
            return run(argv, env={"WS_STATE": state}, timeout=timeout, check=False)

    def start_joiner(self, environment: Mapping[str, str]) -> None:
        with self._joining:
            self._require_open()
            self._bed.start_joiner(environment)

    def stop_joiner(self) -> None:
        with self._joining:
            if not self._closed:  # else whoever closed it removes all, or keeps it
                self._bed.stop_joiner()


def _expected(bed: TestBed, head: str | None) -> dict[str, Expected]:
    """What the configuration says of each container, health server first, with this machine's values filled in."""
    project = bed.project
    values = {**in_effect(project, bed.engine.machine), "WS_TEST_HEAD_ADDRESS": bed.head(head)}
    main, test = main_context(project), testbed_context(project)
    found = {HEALTH_NAME: _health(bed, main["health"], values)}
    for node, context in zip(project.plan.nodes, main["nodes"], strict=True):
        found[node.hostname] = _node(bed, node, context, values)
    planned = {node.hostname: node for node in project.plan.external}
    for context in test["nodes"]:
        found[context["hostname"]] = _external(bed, planned[context["hostname"]], context, values)
    found[bed.client] = _client(bed, test)
    return found


def _health(bed: TestBed, context: Mapping[str, Any], values: Mapping[str, str]) -> Expected:
    return Expected(
        name=HEALTH_NAME,
        container=f"{bed.project.plan.project}-{HEALTH_NAME}",
        role="health",
        network=str(bed.project.config.network.name),
        image=context["image"],
        environment={
            "HEALTH_PORT": str(context["port"]),
            "HEAD_WHITELIST": context["whitelist"],
            "LEASE_TTL": context["lease_ttl"],
        },
        ports={"health": context["port"]},
        published=_published(context["ports"], values),
    )


def _node(bed: TestBed, node: NodePlan, context: Mapping[str, Any], values: Mapping[str, str]) -> Expected:
    with_gpus = node.gpus and wants_gpu(bed.project, bed.engine.machine)
    entries = {"head": node.entry.head, "dashboard": node.entry.dashboard, "client": node.entry.client}
    environment = {name: resolved(value, values) for name, value in context["environment"].items()}
    return Expected(
        name=node.hostname,
        container=node.container,
        role="candidate" if node.candidate else "worker",
        network=str(bed.project.config.network.name),
        image=node.gpu_image if with_gpus else node.image,
        cpus=node.cpus,
        environment={**environment, **({"WS_NUM_GPUS": str(node.gpus)} if with_gpus else {})},
        ports={**_ports(node.block), **(entries if node.candidate else {})},
        published=_published(context["ports"], values),
        entries=entries if node.candidate else {},
        shm_size=int(resolved(context["shm_size"], values)),
    )


def _external(bed: TestBed, node: ExternalPlan, context: Mapping[str, Any], values: Mapping[str, str]) -> Expected:
    joins_later = node.hostname == bed.joiner
    return Expected(
        name=node.hostname,
        container=context["container"],
        role="joiner" if joins_later else "external",
        network=str(bed.project.config.cluster_test.network.name),
        image=bed.project.config.services.ray.image or official_image(),
        cpus=JOINER_CPUS if joins_later else bed.project.config.cluster_test.worker.cpus,
        environment={name: resolved(value, values) for name, value in context["environment"].items()},
        ports=_ports(node.block),
        published=_published(context["ports"], values),
        shm_size=int(resolved(context["shm_size"], values)),
    )


def _client(bed: TestBed, test: Mapping[str, Any]) -> Expected:
    client = test["client"]
    return Expected(
        name=bed.client,
        container=client["container"],
        role="client",
        network=str(bed.project.config.cluster_test.network.name),
        image=test["image"],
        environment={
            "WS_CLIENT_ENTRIES": client["entries"],
            "WS_CLIENT_HEALTH": client["health"],
            **AUTHENTICATION,
        },
    )


def _ports(block: PortBlock) -> dict[str, int]:
    """A block's ports by name; those of worker processes are `worker_31008`, …"""
    named = {field.name: getattr(block, field.name) for field in fields(block) if field.name != "workers"}
    first, last = block.workers or (1, 0)
    return {**named, **{f"worker_{port}": port for port in range(first, last + 1)}}


def _published(specifications: Sequence[str], values: Mapping[str, str]) -> frozenset[str]:
    """`address:port` of every port, from Compose's `address:first-last:first-last`."""
    found = set()
    for specification in specifications:
        place, _, inside = resolved(specification, values).rpartition(":")
        address = place.rpartition(":")[0]
        first, _, last = inside.partition("-")
        found |= {f"{address}:{port}" for port in range(int(first), int(last or first) + 1)}
    return frozenset(found)
