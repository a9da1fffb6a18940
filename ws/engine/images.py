"""Images: pulled where a registry answers, built here where none does."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ws.engine.base import Project
from ws.engine.machine import Machine, wants_gpu
from ws.errors import CommandFailed, EnvironmentProblem
from ws.process import Runner, run
from ws.resources import checkout_tool, find

if TYPE_CHECKING:
    import docker

BASE_IMAGE = "cslr-exp-platform/base:bookworm"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def images(project: Project, names: Sequence[str], machine: Machine) -> list[str]:
    """The images that the health server and these nodes need on this machine."""
    nodes = [project.plan.node(name) for name in names]
    gpu = wants_gpu(project, machine)
    wanted = [project.config.services.health.image, *(n.gpu_image if gpu and n.gpus else n.image for n in nodes)]
    return list(dict.fromkeys(wanted))


def missing(client: docker.DockerClient, wanted: Sequence[str]) -> list[str]:
    """Those of the images that this engine does not have."""
    from docker.errors import ImageNotFound

    absent = []
    for image in wanted:
        try:
            client.images.get(image)
        except ImageNotFound:
            absent.append(image)
    return absent


def pull(image: str, runner: Runner = run) -> None:
    """Pull an image; raises EnvironmentProblem that says which ways are left."""
    try:
        runner(["docker", "pull", "--quiet", image])
    except CommandFailed as error:
        raise EnvironmentProblem(
            f"the image {image} is not on this machine and can't be pulled",
            error.output.strip()[-500:],
            "`ws image build` builds it here; or name one that you have: services.ray.image in config.yaml "
            "(WS_SERVICES__RAY__IMAGE=…); or `ws up --engine local` needs none",
        ) from None


def build(
    project: Project,
    client: docker.DockerClient,
    machine: Machine,
    on_build: Callable[[str], None],
    runner: Runner = run,
    python: str = PYTHON,
) -> list[str]:
    """Build from `images/` what all nodes need on this machine, under the names that the config gives; returns those.

    The nodes' images have this Ray and Python `python` (3.11), as Ray Client refuses others. They rest on the base that
    `tools/prepare-machine` has made, where it has that Python, else on Docker Hub's. The health server's image is built
    only where it is missing: any Python will do.
    """
    local, local_python = _local_base(client, runner)
    health, *ray_images = images(project, [node.hostname for node in project.plan.nodes], machine)
    base = BASE_IMAGE if local_python == python else f"python:{python}-slim-bookworm"
    arguments = {"BASE_IMAGE": base, "RAY_VERSION": importlib.metadata.version("ray")}
    jobs = [(image, "images/ray", arguments) for image in ray_images]
    if missing(client, [health]):
        jobs.append((health, "images/health", {"BASE_IMAGE": BASE_IMAGE} if local else {}))
    mend = _mend(local, local_python, python)
    for image, folder, given in jobs:
        on_build(image)
        _docker_build(image, find(project.folder, folder), given, mend, runner)
    return [image for image, _, _ in jobs]


def _local_base(client: docker.DockerClient, runner: Runner) -> tuple[bool, str | None]:
    """Whether the base that `tools/prepare-machine` makes is here, and its Python, such as 3.11."""
    if missing(client, [BASE_IMAGE]):
        return False, None
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = runner(["docker", "run", "--rm", "--network=none", BASE_IMAGE, "python3", "-c", script], check=False)
    return True, done.stdout.strip() or None


def _mend(local: bool, local_python: str | None, python: str) -> str:
    """What is left where the base can't be pulled."""
    if local and local_python != python:
        return (
            f"the base image of this machine, {BASE_IMAGE}, has Python {local_python or 'none'}, and Ray Client here needs "
            f"{python}: without a registry, run ws with Python {local_python}"
        )
    script = checkout_tool("prepare-machine")
    return (
        f"on a Debian machine that no registry of images reaches, `{script} images` makes the base first" if script else ""
    )


def _docker_build(image: str, folder: Path, given: Mapping[str, str], mend: str, runner: Runner) -> None:
    # Behind a proxy with its own authority, pip in the build needs this host's bundle; as a secret it stays outside.
    secret = ["--secret", f"id=ca,src={_CA_BUNDLE}"] if _CA_BUNDLE.exists() else []
    arguments = [part for name, value in given.items() for part in ("--build-arg", f"{name}={value}")]
    argv = ["docker", "build", "--quiet", "--network", "host", "--tag", image, *secret, *arguments, str(folder)]
    try:
        runner(argv, env={"DOCKER_BUILDKIT": "1"})
    except CommandFailed as error:
        raise EnvironmentProblem(
            f"building {image} failed",
            error.output.strip()[-2000:],
            "; ".join(filter(None, [f"look at {folder}/Dockerfile and requirements.txt", mend])),
        ) from None
