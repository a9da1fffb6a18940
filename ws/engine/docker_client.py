"""The way to Docker Engine, and in words why there is none.

It is the way that `docker compose` takes, too (DOCKER_HOST, then Docker's current context): what looks and what acts
must not be two engines.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ws.errors import EnvironmentProblem
from ws.resources import checkout_tool

if TYPE_CHECKING:
    import docker

MINIMUM_API = "1.41"
"""Docker Engine 20.10."""
DEFAULT_HOST = "unix:///var/run/docker.sock"
OR_LOCAL = "; or `ws up --engine local`"
_PREPARE = checkout_tool("prepare-machine")
INSTALL = f"{f'{_PREPARE} engine (Debian), or ' if _PREPARE else ''}https://docs.docker.com/engine/install{OR_LOCAL}"


class NotInstalled(EnvironmentProblem):
    """There is no Docker Engine on this machine at all."""


def connect(timeout: int = 60) -> docker.DockerClient:
    """A connected client, with `timeout` seconds for each request.

    Raises:
        EnvironmentProblem: Docker is missing, not running, not permitted to this user, or too old.
    """
    import docker
    import requests
    from docker.errors import DockerException
    from docker.utils import version_lt

    host = endpoint()
    try:
        _knock(host, timeout)
        # A version that is given saves the question in the constructor, which leaves its socket open where it fails.
        with closing(docker.from_env(version=MINIMUM_API, timeout=timeout)) as asking:
            version = asking.version(api_version=False)
        number = version["ApiVersion"]
    except (OSError, DockerException, requests.RequestException, KeyError, TypeError) as error:
        raise no_engine(host, error) from None
    if version_lt(number, MINIMUM_API):
        raise _too_old(version.get("Version", ""), number)
    return docker.from_env(version=number, timeout=timeout)


def endpoint() -> str:
    """The address of the engine: DOCKER_HOST, else that of Docker's current context."""
    from docker import ContextAPI

    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT") or None)
    return (context.Host if context else None) or DEFAULT_HOST


def _knock(host: str, timeout: int) -> None:
    """Connect to a Unix socket, for the system's own error: the SDK's has it in its text alone."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knocking:
            knocking.settimeout(timeout)
            knocking.connect(host.removeprefix("unix://"))


def no_engine(host: str, error: Exception) -> EnvironmentProblem:
    """The problem behind an error at the engine's address."""
    place = re.sub(r"//[^/@]*@", "//***@", host)
    if isinstance(error, PermissionError):
        return EnvironmentProblem(
            "this user may not talk to the Docker daemon",
            f"{place} is closed to it",
            f'sudo usermod -aG docker "$USER", then log in again{OR_LOCAL}',
        )
    if host != DEFAULT_HOST:
        chosen, undo = ("DOCKER_HOST", "unset DOCKER_HOST")
        if not os.environ.get("DOCKER_HOST"):
            chosen, undo = ("Docker's current context", "docker context use default")
        return EnvironmentProblem(
            f"no Docker daemon answers at {place}",
            f"{chosen} leads there",
            f"start it there, or `{undo}`{OR_LOCAL}",
        )
    if isinstance(error, FileNotFoundError) and not _installed():
        return NotInstalled("Docker Engine is not installed", mend=f"install it: {INSTALL}")
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return EnvironmentProblem(
            "the Docker daemon is not running",
            f"nothing listens on {place}",
            f"{_start_command()}{OR_LOCAL}",
        )
    return EnvironmentProblem("the Docker daemon does not answer", str(error), f"{_start_command()}{OR_LOCAL}")


def _installed() -> bool:
    return any(shutil.which(program) for program in ("dockerd", "docker"))


def _start_command() -> str:
    with_systemd = Path("/run/systemd/system").exists()
    if with_systemd:
        return "sudo systemctl restart docker"
    return f"start it: {_PREPARE} engine" if _PREPARE else "start it: sudo service docker start, or sudo dockerd"


def _too_old(version: str, api: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"Docker Engine {version} is too old",
        f"it speaks API {api}, and {MINIMUM_API} (Docker Engine 20.10) is needed",
        f"install a newer one: {INSTALL}",
    )
