"""Which tests can run here: those marked `docker` need Docker Engine and Compose.

Without them these tests are skipped, or fail where WS_REQUIRE_DOCKER=1 says that they must not be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest

from ws.engine.compose import ComposeEngine

if TYPE_CHECKING:
    import docker

_REQUIRED = "WS_REQUIRE_DOCKER"


@cache
def docker_obstacle() -> str | None:
    """Why there are no containers here; None where there are."""
    engine = ComposeEngine(timeout=10)
    obstacle = engine.available()
    if "client" in vars(engine):
        engine.client.close()
    return obstacle


def docker_required() -> bool:
    return os.environ.get(_REQUIRED, "") not in ("", "0")


def pytest_report_header() -> str:
    obstacle = docker_obstacle()
    if obstacle is None:
        return "docker: there; tests marked docker run"
    verb = f"fail, as {_REQUIRED} is set" if docker_required() else "are skipped"
    return f"docker: {obstacle}; tests marked docker {verb}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if docker_required() or docker_obstacle() is None:
        return
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.skip(reason=f"no containers here: {docker_obstacle()}"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") and docker_obstacle() is not None:
        pytest.fail(f"{_REQUIRED} is set, and there are no containers here: {docker_obstacle()}", pytrace=False)


@pytest.fixture
def docker_client() -> Iterator[docker.DockerClient]:
    """A client that is closed afterwards; for tests marked `docker`."""
    engine = ComposeEngine()
    yield engine.client
    engine.client.close()
