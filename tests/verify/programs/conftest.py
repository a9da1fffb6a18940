"""One real Ray head of this machine, and a worker, for the programs that need them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.stage import soon
from tests.plain_ray import plain_ray_environ
from tests.verify.programs.local import ADDRESS, BASE, DASHBOARD, HEAD, NAME, WORKER, WORKER_ADDRESS
from ws.node.ray_process import RayProcess, head_command, worker_command
from ws.node.settings import Settings, read_settings

BLOCK = ("node_manager", "object_manager", "runtime_env_agent", "dashboard_agent_grpc", "dashboard_agent_listen")


@pytest.fixture(scope="session")
def environ() -> Iterator[dict[str, str]]:
    """What Ray and a driver are told. A short folder: the path of a socket in it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ws-") as folder:
        token = Path(folder) / "token"
        token.write_text("0123456789abcdef" * 4, encoding="utf-8")
        yield plain_ray_environ(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token), WS_TEMP_DIR=f"{folder}/ray")


def settings(environ: dict[str, str], name: str, address: str, first: int) -> Settings:
    ports = {kind: first + place for place, kind in enumerate(BLOCK)}
    return read_settings(
        {
            "WS_NODE_NAME": name,
            "WS_NODE_ADDRESS": address,
            "WS_NODE_PORTS": ",".join(f"{kind}={port}" for kind, port in ports.items()),
            "WS_DASHBOARD_HOST": "127.0.0.1",
            "WS_TEMP_DIR": environ["WS_TEMP_DIR"],
            "WS_OBJECT_STORE_MEMORY": str(100 * 1024**2),
            "RAY_HEAD_PORT": str(BASE),
            "RAY_DASHBOARD_PORT": str(DASHBOARD[1]),
            "RAY_CLIENT_PORT": str(BASE + 2),
        }
    )


@contextmanager
def started(command: list[str], environ: dict[str, str]) -> Iterator[RayProcess]:
    """A node that is up; ended by the processes that it started. Ray gives up a start that takes 30 s: tried three times."""
    mark = f"test of programs: {command[-1]}"
    attempts = [RayProcess(command, mark, environ)]
    try:

        def up() -> bool:
            if attempts[-1].ended():
                assert len(attempts) < 3, "\n".join(attempts[-1].tail())
                attempts[-1].stop()
                attempts.append(RayProcess(command, mark, environ))
            return attempts[-1].started.is_set()

        soon("Ray", up, timeout=180)
        yield attempts[-1]
    finally:
        attempts[-1].stop()


@pytest.fixture(scope="session")
def head(environ: dict[str, str]) -> Iterator[str]:
    """The address of a head that is up."""
    with started(head_command(settings(environ, NAME, ADDRESS, BASE + 10)), environ):
        yield HEAD


@pytest.fixture(scope="module")
def worker(head: str, environ: dict[str, str]) -> Iterator[RayProcess]:
    """A second node, up until a test ends it."""
    with started(worker_command(settings(environ, WORKER, WORKER_ADDRESS, BASE + 20), head), environ) as ray:
        yield ray
