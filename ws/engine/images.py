"""Images: pulled where a registry answers, built here where none does."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ws.engine.base import Project
from ws.engine.machine import Machine, wants_gpu
from ws.errors import CommandFailed, EnvironmentProblem
from ws.process import Runner, run
from ws.resources import find

if TYPE_CHECKING:
    import docker

BASE_IMAGE = "cslr-exp-platform/base:bookworm"
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


def build(project: Project, client: docker.DockerClient, on_build: Callable[[str], None], runner: Runner = run) -> list[str]:
    """Build the project's images from `images/` under the names that the config gives; returns those names.

    The base is Docker Hub's Python image, or, where that can't be pulled, the base that `tools/prepare-machine` makes.
    """
    ray_images = dict.fromkeys(node.image for node in project.plan.nodes)
    base = [] if missing(client, [BASE_IMAGE]) else ["--build-arg", f"BASE_IMAGE={BASE_IMAGE}"]
    ray_version = ["--build-arg", f"RAY_VERSION={importlib.metadata.version('ray')}"]
    jobs = [(image, "images/ray", ray_version) for image in ray_images]
    if missing(client, [project.config.services.health.image]):
        jobs.append((project.config.services.health.image, "images/health", []))
    for image, folder, arguments in jobs:
        on_build(image)
        _docker_build(image, find(project.folder, folder), [*base, *arguments], runner)
    return [image for image, _, _ in jobs]


def _docker_build(image: str, folder: Path, arguments: Sequence[str], runner: Runner) -> None:
    # Behind a proxy with its own authority, pip in the build needs this host's bundle; as a secret it stays outside.
    secret = ["--secret", f"id=ca,src={_CA_BUNDLE}"] if _CA_BUNDLE.exists() else []
    argv = ["docker", "build", "--quiet", "--network", "host", "--tag", image, *secret, *arguments, str(folder)]
    try:
        runner(argv, env={"DOCKER_BUILDKIT": "1"})
    except CommandFailed as error:
        raise EnvironmentProblem(
            f"building {image} failed",
            error.output.strip()[-2000:],
            f"look at {folder}/Dockerfile and requirements.txt; on a Debian machine that no registry of images reaches, "
            "`tools/prepare-machine` makes the base image first",
        ) from None
