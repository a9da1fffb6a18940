"""The compose engine: nodes are containers. The Docker SDK to look, `docker compose` to act."""

from __future__ import annotations

import compileall
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ws.engine import images
from ws.engine import machine as machines
from ws.engine.base import NodeState, Project
from ws.engine.docker_client import INSTALL, connect
from ws.engine.init import write_schema
from ws.engine.logs import new_log_folder
from ws.engine.machine import Machine
from ws.engine.preflight import check_compose
from ws.engine.render import COMPOSE_FILE, GPU_FILE, LABEL, SETTINGS_LABEL, is_ours, settings_marks, write_rendered
from ws.engine.token import ensure_token
from ws.errors import CommandFailed, EnvironmentProblem
from ws.process import Completed, Runner, run
from ws.resources import node_folder

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

_STOP_GRACE = 8  # seconds, as in the template
_AT_ONCE = 16
_STARTS_AT_ONCE = 4
_KEPT_LINES = 20_000  # of each node's log, when it is removed
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
        with ThreadPoolExecutor(max_workers=1) as pool:  # a program and a connection, which need not wait for each other
            version = pool.submit(self.compose_version)
            _ = self.client
            version.result()

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
        write_schema(project.folder)
        changed = write_rendered(project)
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
        check_compose(self.client, project, names, self.machine)

    def up(self, project: Project, names: Sequence[str]) -> None:
        fresh = self._as_wanted(project)
        stale = [name for name in ("health", *names) if name not in fresh]
        if not stale:
            return
        try:
            self._compose(project, "up", "--no-start", "--no-deps", "--quiet-pull", *stale)
        except CommandFailed as error:
            raise _not_started(error.output.strip()[-2000:]) from None
        candidates = {node.hostname for node in project.plan.candidates}
        ordered = ["health", *sorted(names, key=lambda name: name not in candidates)]
        wanted = {f"{project.plan.project}-{name}": place for place, name in enumerate(ordered)}
        stopped = [c for c in self._containers(project) if c.name in wanted and c.status != "running"]
        stopped.sort(key=lambda container: wanted[str(container.name)])
        # The first two are the health server and, most likely, the head, which all others wait for: they start before the
        # others' ports compete with theirs. Compose would go one by one along `depends_on`.
        self._start_all(stopped[:2])
        self._start_all(stopped[2:])

    def _as_wanted(self, project: Project) -> set[str]:
        """Names of what runs from the settings and the image that the config gives now: it is left alone."""
        marks = settings_marks(project)
        prefix = f"{project.plan.project}-"
        return {
            name
            for container in self._containers(project)
            if (name := str(container.name).removeprefix(prefix)) in marks
            and container.status == "running"
            and container.labels.get(SETTINGS_LABEL) == marks[name]
            # Another checkout's cluster of the same name has another token.
            and any(mount.get("Source") == str(project.token_path.resolve()) for mount in container.attrs["Mounts"])
            and self._image_id(container.attrs["Config"]["Image"]) == container.attrs["Image"]
        }

    def _image_id(self, name: str) -> str | None:
        from docker.errors import ImageNotFound

        try:
            return self.client.images.get(name).id
        except ImageNotFound:
            return None

    def _start_all(self, containers: Sequence[Container]) -> None:
        from docker.errors import DockerException

        def start(container: Container) -> str | None:
            try:
                container.start()
            except DockerException as error:
                return f"{container.name}: {error}"
            return None

        with ThreadPoolExecutor(max_workers=_STARTS_AT_ONCE) as pool:
            failures = [failure for failure in pool.map(start, containers) if failure]
        if failures:
            raise _not_started("\n".join(failures))

    def down(self, project: Project) -> list[str]:
        self._stop_all(project)
        failures = []
        # Another program's file of that name is none of our business, nor what Compose would do with it.
        if is_ours(project.folder / COMPOSE_FILE, project.plan.project):
            try:
                self._compose(project, "down", "--volumes", "--remove-orphans")
            except CommandFailed as error:
                failures.append(f"`docker compose down` failed: {error.output.strip()}")
        return [*failures, *self._remove_by_label(project)]

    def _stop_all(self, project: Project) -> None:
        """Keep all logs and stop all nodes, all at once; Compose would go one after the other, against `depends_on`.

        The health server is left to Compose: the head gives its lease back to it.
        """
        folder = new_log_folder(project.state)

        def stop(container: Container) -> None:
            with suppress(DockerException, OSError):  # gone meanwhile, or stuck: removal reports it
                if not str(container.name).endswith("-health"):
                    container.stop(timeout=_STOP_GRACE)
                (folder / f"{container.name}.log").write_bytes(container.logs(tail=_KEPT_LINES))

        from docker.errors import DockerException

        containers = self._containers(project)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            list(pool.map(stop, containers))

    def _compose(self, project: Project, *arguments: str) -> Completed:
        """Run `docker compose` on exactly this project, whatever COMPOSE_… variables the shell has."""
        files = [COMPOSE_FILE, *([GPU_FILE] if machines.wants_gpu(project, self.machine) else [])]
        named = [part for file in files for part in ("--file", file)]
        name = ["--project-name", project.plan.project]
        argv = ["docker", "compose", "--ansi=never", "--progress=plain", *name, *named, *arguments]
        return self._run(argv, cwd=project.folder)

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
        states = [node_state(container, prefix) for container in self._containers(project)]
        order = {name: place for place, name in enumerate(["health", *(node.hostname for node in project.plan.nodes)])}
        return sorted(states, key=lambda state: (order.get(state.name, len(order)), state.name))

    def _containers(self, project: Project) -> list[Container]:
        return self.client.containers.list(
            all=True, filters={"label": f"{LABEL}={project.plan.project}"}, ignore_removed=True
        )

    def logs(self, project: Project, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        stream: Any = self._container(project, name).logs(stream=True, follow=follow, tail="all" if tail is None else tail)
        rest = b""
        try:
            for piece in stream:
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")
        finally:
            if follow:
                stream.close()

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
        return self._health_url(project, self._environments(project))

    def _health_url(self, project: Project, running: Mapping[str, Mapping[str, str]]) -> str:
        port = running.get("health", {}).get("HEALTH_PORT") or project.plan.health_port
        return f"http://{self._entry_host(project)}:{port}"

    def entries(self, project: Project) -> dict[str, str]:
        running = self._environments(project)
        candidate = next((running[node.hostname] for node in project.plan.candidates if node.hostname in running), None)
        if candidate is None:
            return {"health": self._health_url(project, running)}
        host = self._entry_host(project)
        return {
            "dashboard": f"http://{host}:{candidate['RAY_DASHBOARD_PORT']}",
            "client": f"ray://{host}:{candidate['RAY_CLIENT_PORT']}",
            "gcs": f"{host}:{candidate['RAY_HEAD_PORT']}",
            "health": self._health_url(project, running),
        }

    def _environments(self, project: Project) -> dict[str, dict[str, str]]:
        """The environment of each running container, by node: what runs may have other ports than the config has now."""
        prefix = f"{project.plan.project}-"
        return {
            str(container.name).removeprefix(prefix): dict(
                entry.split("=", 1) for entry in container.attrs["Config"]["Env"] if "=" in entry
            )
            for container in self._containers(project)
            if container.status == "running"
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


def _not_started(why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        "the containers could not be started",
        why,
        "`ws doctor` looks for causes on this machine; `ws down` removes what was created",
    )


def node_state(container: Container, prefix: str) -> NodeState:
    """The container as a node, named without `prefix`."""
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
