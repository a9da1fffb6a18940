"""The compose engine: nodes are containers. The Docker SDK to look, `docker compose` to act."""

from __future__ import annotations

import compileall
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ws.engine import images
from ws.engine import machine as machines
from ws.engine.base import NodeState, Project
from ws.engine.docker_client import INSTALL, connect
from ws.engine.machine import Machine
from ws.engine.preflight import check_compose
from ws.engine.render import outdated, render
from ws.engine.token import ensure_token
from ws.errors import CommandFailed, EnvironmentProblem
from ws.process import Completed, Runner, run
from ws.resources import node_folder

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

LABEL = "org.cslr-exp-platform.project"
_STOP_GRACE = 8  # seconds, as in the template
_AT_ONCE = 16
MINIMUM_COMPOSE = (2, 20)


class ComposeEngine:
    """Runs nodes as containers of the Docker Engine that DOCKER_HOST or the default socket leads to."""

    name = "compose"
    agent_program = "/opt/ws/node/__main__.py"

    def __init__(self, runner: Runner = run, timeout: int = 60) -> None:
        """`timeout`: seconds for each answer of the daemon."""
        self._run = runner
        self._timeout = timeout

    @cached_property
    def client(self) -> docker.DockerClient:
        """A connected client; raises EnvironmentProblem where there is no engine, saying why."""
        return connect(self._timeout)

    def available(self) -> str | None:
        try:
            self.require()
        except EnvironmentProblem as problem:
            return f"{problem.what}{f' ({problem.why})' if problem.why else ''}"
        return None

    def require(self) -> None:
        """Raise EnvironmentProblem, with its mend, where this engine can't run here."""
        _ = self.client
        self.compose_version()

    def compose_version(self) -> str:
        """The version of Compose; raises EnvironmentProblem where it is missing or too old."""
        done = self._run(["docker", "compose", "version", "--short"], check=False)
        version = done.stdout.strip()
        numbers = re.findall(r"\d+", version)[:2]
        if done.code != 0 or not numbers:
            raise EnvironmentProblem("Docker Compose v2 is missing", done.stderr.strip() or None, f"install it: {INSTALL}")
        if tuple(map(int, numbers)) < MINIMUM_COMPOSE:
            wanted = ".".join(map(str, MINIMUM_COMPOSE))
            raise EnvironmentProblem(
                f"Docker Compose {version} is too old", f"{wanted} is needed", f"install a newer one: {INSTALL}"
            )
        return version

    @cached_property
    def machine(self) -> Machine:
        info = self.client.info()
        bridge = self.client.networks.get("bridge").attrs["IPAM"]["Config"] or [{}]
        return Machine(
            cores=int(info["NCPU"]),
            memory=int(info["MemTotal"]),
            gateway=bridge[0].get("Gateway") or "172.17.0.1",
            gpu="nvidia" in info.get("Runtimes", {}),
        )

    # Acting

    def prepare(self, project: Project) -> list[str]:
        """Write the token, the rendered files and `.env`; returns the files that changed."""
        # Containers mount the agent read-only: compiled here once, it need not be compiled at every start there.
        compileall.compile_dir(node_folder(), quiet=2)
        ensure_token(project.token_path)
        changed = outdated(project)
        for name, text in render(project).items():
            if name in changed:
                (project.folder / name).write_text(text, encoding="utf-8")
        if machines.write(project.folder / ".env", machines.environment(project, self.machine)):
            changed.append(".env")
        return changed

    def warnings(self, project: Project) -> list[str]:
        return machines.warnings(project, self.machine)

    def missing_images(self, project: Project, names: Sequence[str]) -> list[str]:
        return images.missing(self.client, images.images(project, names, self.machine))

    def pull(self, image: str) -> None:
        images.pull(image, self._run)

    def check(self, project: Project, names: Sequence[str]) -> None:
        self.compose_version()
        check_compose(self.client, project, names, self.machine)

    def up(self, project: Project, names: Sequence[str]) -> None:
        self._compose(project, "up", "--detach", "--no-deps", "--quiet-pull", "health", *names)

    def down(self, project: Project) -> list[str]:
        self._stop_all(project)
        if (project.folder / "compose.yaml").exists():
            try:
                self._compose(project, "down", "--volumes", "--remove-orphans")
            except CommandFailed as error:
                return [f"`docker compose down` failed: {error.output.strip()}", *self._remove_by_label(project)]
        return self._remove_by_label(project)

    def _stop_all(self, project: Project) -> None:
        """Stop all nodes at once; Compose would wait for one after the other, against `depends_on`.

        The health server is left to Compose: the head gives its lease back to it.
        """
        from docker.errors import DockerException

        def stop(container: Container) -> None:
            with suppress(DockerException):  # gone meanwhile, or stuck: removal reports it
                container.stop(timeout=_STOP_GRACE)

        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            health = f"{project.plan.project}-health"
            list(pool.map(stop, (container for container in self._containers(project) if container.name != health)))

    def _compose(self, project: Project, *arguments: str) -> Completed:
        return self._run(["docker", "compose", "--ansi=never", "--progress=plain", *arguments], cwd=project.folder)

    def _remove_by_label(self, project: Project) -> list[str]:
        """Remove what `compose down` did not know: leftovers of an earlier config or of an interrupted run."""
        from docker.errors import DockerException

        failures = []
        labelled: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={project.plan.project}"}
        removals: list[Callable[[], None]] = [
            *(partial(container.remove, force=True, v=True) for container in self._containers(project)),
            *(network.remove for network in self.client.networks.list(filters=labelled)),
            *(volume.remove for volume in self.client.volumes.list(filters=labelled)),
        ]
        for remove in removals:
            try:
                remove()
            except DockerException as error:
                failures.append(str(error))
        return failures

    # Looking

    def nodes(self, project: Project) -> list[NodeState]:
        prefix = f"{project.plan.project}-"
        states = [_state(container, prefix) for container in self._containers(project)]
        order = {name: place for place, name in enumerate(["health", *(node.hostname for node in project.plan.nodes)])}
        return sorted(states, key=lambda state: (order.get(state.name, len(order)), state.name))

    def _containers(self, project: Project) -> list[Container]:
        return self.client.containers.list(
            all=True, filters={"label": f"{LABEL}={project.plan.project}"}, ignore_removed=True
        )

    def logs(self, project: Project, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        stream: Any = self._container(project, name).logs(stream=True, follow=follow, tail="all" if tail is None else tail)
        rest = b""
        for piece in stream:
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def _container(self, project: Project, name: str) -> Container:
        from docker.errors import NotFound

        try:
            return self.client.containers.get(f"{project.plan.project}-{name}")
        except NotFound:
            raise EnvironmentProblem(f"there is no container for {name!r}", mend="ws ps shows what there is") from None

    def exec_command(self, project: Project, name: str, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        return ["docker", "exec", "-it" if tty else "-i", f"{project.plan.project}-{name}", *argv]

    def exec_environment(self, project: Project, name: str) -> dict[str, str]:
        return {}

    def health_url(self, project: Project) -> str:
        return f"http://{self._entry_host(project)}:{project.plan.health_port}"

    def entries(self, project: Project) -> dict[str, str]:
        running = {state.name for state in self.nodes(project) if state.state == "running"}
        ports = next((node.entry for node in project.plan.candidates if node.hostname in running), None)
        if ports is None:
            return {"health": self.health_url(project)}
        host = self._entry_host(project)
        return {
            "dashboard": f"http://{host}:{ports.dashboard}",
            "client": f"ray://{host}:{ports.client}",
            "gcs": f"{host}:{ports.head}",
            "health": self.health_url(project),
        }

    def _entry_host(self, project: Project) -> str:
        if not project.config.network.publish_entries:
            return project.plan.health_address  # nothing is published; on Linux the bridge itself leads in
        place = project.config.network.publish_entries[0]
        if place == "loopback":
            return "127.0.0.1"
        if place == "gateway":
            return self.machine.gateway if project.config.host.ip_address == "auto" else str(project.config.host.ip_address)
        return str(place)


def _state(container: Container, prefix: str) -> NodeState:
    state = container.attrs["State"]
    ended = state["Status"] not in ("running", "paused", "created")
    return NodeState(
        name=str(container.name).removeprefix(prefix),
        state="exited" if state["Status"] == "dead" else state["Status"],
        exit_code=state["ExitCode"] if ended else None,
        restarts=container.attrs.get("RestartCount", 0),
        started_at=_timestamp(state["StartedAt"]),
        detail=state.get("Error") or ("out of memory" if state.get("OOMKilled") else ""),
    )


def _timestamp(text: str) -> float | None:
    """Docker's RFC 3339 time with nanoseconds as seconds since the epoch; None for its zero time."""
    if text.startswith("0001"):
        return None
    return datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00")).timestamp()
