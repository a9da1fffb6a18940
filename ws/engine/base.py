"""What every engine offers: nodes brought up, looked at and taken down, in the same words.

An engine acts on one project folder. It remembers nothing: what is up is found by labels or marks on the real thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ws.config.models import Config
from ws.config.plan import ClusterPlan


@dataclass(frozen=True)
class Project:
    """A project folder with its configuration and the plan that follows from it."""

    folder: Path
    config: Config
    plan: ClusterPlan

    @property
    def state(self) -> Path:
        """Where things that belong to this machine lie: the token, logs, records."""
        return self.folder / ".ws"

    @property
    def token_path(self) -> Path:
        return self.state / "token"


@dataclass(frozen=True)
class NodeState:
    """One node, or the health server, as the engine sees it.

    `state` is one of created, running, paused, restarting, exited; `exit_code` is that of the last end, None where it
    never ended; `restarts` counts how often the engine started it anew; `started_at` is seconds since the epoch.
    """

    name: str
    state: str
    exit_code: int | None = None
    restarts: int = 0
    started_at: float | None = None
    detail: str = ""

    @property
    def ended_badly(self) -> bool:
        """Whether it has ended by itself, with an error, and is not running now."""
        return self.state in ("exited", "restarting") and self.exit_code not in (None, 0)


class Engine(Protocol):
    """A place where nodes run. Names are hostnames of the plan, and `health` for the health server."""

    name: str
    agent_program: str
    """Path of the agent's `__main__.py`, as the nodes see it."""

    def available(self) -> str | None:
        """None where this engine can run here, else why not."""

    def prepare(self, project: Project) -> list[str]:
        """Write what the nodes need into the project folder, the token first; returns the names of changed files."""

    def warnings(self, project: Project) -> list[str]:
        """What a user should know about this machine before the nodes start on it."""

    def check(self, project: Project, names: Sequence[str]) -> None:
        """Raise an EnvironmentProblem for what would make `up` fail: ports taken, subnets that clash."""

    def missing_images(self, project: Project, names: Sequence[str]) -> list[str]:
        """Images to be pulled before `up`."""

    def pull(self, image: str) -> None:
        """Fetch one image; raises EnvironmentProblem that says which ways are left."""

    def up(self, project: Project, names: Sequence[str]) -> None:
        """Start the health server and these nodes; what runs already stays. Returns once all are started."""

    def down(self, project: Project) -> list[str]:
        """Stop and remove everything of the project; returns what could not be removed, in words."""

    def nodes(self, project: Project) -> list[NodeState]:
        """Everything of the project that exists, health server first."""

    def logs(self, project: Project, name: str, *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Lines of one node's log."""

    def exec_command(self, project: Project, name: str, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        """The command line that runs `argv` on that node, with its stdin and stdout."""

    def exec_environment(self, project: Project, name: str) -> dict[str, str]:
        """Variables that the command line of `exec_command` needs on top of this process's own."""

    def health_url(self, project: Project) -> str:
        """Where this machine reaches the health server."""

    def entries(self, project: Project) -> dict[str, str]:
        """The addresses that lead in, by kind: dashboard, client, gcs, health.

        Those of the first candidate that runs, since every candidate leads to the head; without one, health alone.
        """
