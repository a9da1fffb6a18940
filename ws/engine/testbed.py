"""The containers of the cluster test, which know the cluster through this host alone: started, looked at, removed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ws.config.plan import official_image
from ws.engine import images
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.machine import in_effect
from ws.engine.preflight import PROJECT_LABEL, overlaps, taken_ports
from ws.engine.render import GATEWAY, TEST_FILE, TEST_LABEL, address_of, default_entry, testbed_containers
from ws.engine.testbed_docker import foreign_errors, translated
from ws.errors import EnvironmentProblem
from ws.process import Runner, run

if TYPE_CHECKING:
    from docker.models.containers import Container

T = TypeVar("T")
HEAD_VARIABLE = "WS_TEST_HEAD_ADDRESS"
_STOP_GRACE = 8  # seconds, as in the template
_AT_ONCE = 4
_CONFLICT = 409


@dataclass(frozen=True)
class Obstacle:
    """What keeps the test's containers from starting, and its mend. `kind`: subnet-clash or port-taken."""

    kind: str
    what: str
    mend: str


class TestBed:
    """The containers of one project's cluster test. Names are hostnames.

    Where the Docker daemon refuses, is slow or gone, all of it raises EnvironmentProblem.
    """

    __test__ = False  # not a test, in pytest's eyes

    def __init__(self, engine: ComposeEngine, project: Project, runner: Runner = run) -> None:
        self.engine = engine
        self.project = project
        self.compose_project = f"{project.plan.project}-test"
        self.containers = testbed_containers(project)
        self.client, self.worker, self.joiner = self.containers
        self._run = runner

    # Before the start

    def require_enabled(self) -> None:
        """Raise EnvironmentProblem where the configuration has the cluster test switched off."""
        if not self.project.config.cluster_test.enabled:
            raise EnvironmentProblem(
                "cluster_test.enabled is false, so the cluster does not expect the test's workers",
                mend="set it to true in config.yaml, then `ws up`",
            )

    @translated()
    def obstacles(self) -> list[Obstacle]:
        """What of this machine is in the way: networks that overlap, and ports of the workers' blocks that are taken."""
        subnet = str(self.project.config.cluster_test.network.subnet)
        client = self.engine.client
        clashes = overlaps(client, subnet, "cluster_test.network.subnet", self.compose_project)
        others = [c for c in client.api.containers() if (c["Labels"] or {}).get(PROJECT_LABEL) != self.compose_project]
        taken = taken_ports(others, self._published())
        return [Obstacle("subnet-clash", *found) for found in clashes] + [Obstacle("port-taken", *found) for found in taken]

    def _published(self) -> Iterator[tuple[str, int, str, str]]:
        """The ports of the workers' blocks, as `ws.engine.preflight.published_ports` gives the cluster's."""
        target = str(self.project.config.network.publish_blocks)
        if target == "none":
            return
        address = address_of(self.project.config, target)
        address = self.engine.machine.gateway if address == GATEWAY else address
        for node in self.project.plan.external:
            if node.hostname in self.containers:
                for port in range(node.block.first, node.block.last + 1):
                    yield address, port, f"the port block of {node.hostname}", "network.port_base"

    @translated()
    def missing_image(self) -> str | None:
        """The image to be pulled first, or None."""
        wanted = self.project.config.services.ray.image or official_image()
        return next(iter(images.missing(self.engine.client, [wanted])), None)

    # Acting

    def up(self, head: str | None = None) -> None:
        """Start the client and the worker, which joins the entry `head`. Raises CommandFailed in Compose's own words."""
        self._compose("up", "--detach", "--no-deps", self.client, self.worker, head=head)

    @translated()
    def down(self) -> list[str]:
        """Remove the test's containers and their network, nothing of the cluster; returns what could not be removed."""
        failures = _remove(self._containers())
        networks = self.engine.client.networks.list(filters={"label": f"{TEST_LABEL}={self.project.plan.project}"})
        return failures + _each(networks, lambda network: network.remove())

    def start_joiner(self, environment: Mapping[str, str]) -> None:
        """Start the joiner with these variables on top of its own; one that is there is removed before."""
        self.stop_joiner()
        values = {name: value.replace("$", "$$") for name, value in environment.items()}
        added = json.dumps({"services": {self.joiner: {"environment": values}}})
        self._compose("--profile", "joiner", "up", "--detach", "--no-deps", self.joiner, override=added)

    @translated()
    def stop_joiner(self) -> None:
        """Remove the joiner, if there is one; raises EnvironmentProblem where Docker can't."""
        there = [container for container in self._containers() if container.name == self.containers[self.joiner]]
        failures = _remove(there)
        if failures:
            raise EnvironmentProblem("the joiner can't be removed", "\n".join(failures))

    def _compose(self, *arguments: str, head: str | None = None, override: str | None = None) -> None:
        """Run `docker compose` on the test alone; `override`: a Compose file on top of it, as text."""
        files = ["--file", TEST_FILE, *(["--file", "-"] if override else [])]
        named = ["--project-name", self.compose_project, "--project-directory", ".", *files]
        argv = ["docker", "compose", "--ansi=never", "--progress=plain", *named, *arguments]
        # The shell's COMPOSE_PROFILES would start the joiner, too.
        environment = {"COMPOSE_PROFILES": "", HEAD_VARIABLE: self.head(head)}
        self._run(argv, cwd=self.project.folder, env=environment, stdin=override)

    def head(self, chosen: str | None = None) -> str:
        """The entry that the worker joins by: the chosen one, else `.env`'s or the shell's, else the first candidate's."""
        set_by_hand = in_effect(self.project, self.engine.machine).get(HEAD_VARIABLE)
        return chosen or set_by_hand or default_entry(self.project.config, self.project.plan)

    # Looking

    @translated()
    def present(self) -> list[str]:
        """Names of the test's containers that are there, in whatever state."""
        hostnames = {container: hostname for hostname, container in self.containers.items()}
        return sorted(hostnames.get(str(container.name), str(container.name)) for container in self._containers())

    def _containers(self) -> list[Container]:
        return self.engine.client.containers.list(
            all=True, filters={"label": f"{TEST_LABEL}={self.project.plan.project}"}, ignore_removed=True
        )

    @translated()
    def log(self, name: str, tail: int | None = None) -> str:
        """The log of one of the test's containers, empty where there is none."""
        from docker.errors import NotFound

        with suppress(NotFound):
            container = self.engine.client.containers.get(self.containers[name])
            text: bytes = container.logs(tail="all" if tail is None else tail)
            return text.decode(errors="replace")
        return ""


def _remove(containers: Sequence[Container]) -> list[str]:
    """Stop them all at once, so that workers take leave of the cluster, and remove them; returns failures."""

    def end(container: Container) -> None:
        with suppress(*foreign_errors()):  # paused, or stuck: removal ends it
            container.stop(timeout=_STOP_GRACE)
        try:
            container.remove(force=True, v=True)
        except APIError as error:
            if error.status_code != _CONFLICT:
                raise
            container.wait(condition="removed", timeout=_STOP_GRACE)  # somebody else is removing it

    from docker.errors import APIError

    return _each(containers, end)


def _each(things: Iterable[T], act: Callable[[T], None]) -> list[str]:
    """Do it to all of them at once; returns what went wrong, in Docker's words. What is gone already is well."""
    from docker.errors import NotFound

    def tried(thing: T) -> str | None:
        try:
            act(thing)
        except NotFound:
            return None
        except foreign_errors() as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return [failure for failure in pool.map(tried, things) if failure]
