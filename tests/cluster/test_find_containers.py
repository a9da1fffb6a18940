"""Docker's two answers, from a daemon that is none; real containers are found in tests/cli/test_discover.py."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ws.cluster.endpoint import Endpoint
from ws.cluster.find_containers import LABEL, find_by_containers
from ws.errors import EnvironmentProblem
from ws.node.secret import Secret


def container(token: Path, *, ports: dict[str, Any] | None = None, environ: tuple[str, ...] = ()) -> dict[str, Any]:
    own = ("RAY_HEAD_PORT=6379", "RAY_DASHBOARD_PORT=8265", "RAY_CLIENT_PORT=10001", "RAY_AUTH_TOKEN_PATH=/run/token")
    return {
        "Config": {"Env": [*own, *environ]},
        "NetworkSettings": {"Ports": ports or {}},
        "Mounts": [{"Source": str(token), "Destination": "/run/token"}],
    }


def published(*places: tuple[str, int]) -> list[dict[str, str]]:
    return [{"HostIp": host, "HostPort": str(port)} for host, port in places]


@contextmanager
def docker(path: Path, answers: dict[str, Any], status: int = 200) -> Iterator[dict[str, str]]:
    """A daemon with these containers (id → inspection); yields the environment that leads to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/containers/json":
                assert json.loads(parse_qs(parts.query)["filters"][0])["label"] == [LABEL]
                answer: Any = [{"Id": name, "Labels": {LABEL: name.partition("-")[0]}} for name in answers]
            else:
                answer = answers[parts.path.split("/")[2]]
            body = json.dumps(answer).encode()
            self.send_response(status if answer is not None else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

        def log_message(self, *_: Any) -> None:
            """Nothing: what pytest prints is about tests."""

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield {"DOCKER_HOST": f"unix://{path}"}
        finally:
            server.shutdown()
            thread.join()


def test_each_project_is_one_hint_with_all_its_entries(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("its-own\n")
    ports = {
        "6379/tcp": published(("127.0.0.1", 6379), ("172.17.0.1", 6379)),
        "8265/tcp": published(("0.0.0.0", 9265)),
        "31000/tcp": published(("172.17.0.1", 31000)),
        "10001/tcp": None,
    }
    containers = {
        "a-cpu": container(token, ports=ports),
        "a-gpu": container(token),
        "a-health": {"Config": {"Env": ["HEALTH_PORT=8080"]}, "NetworkSettings": {}},
        "b-cpu": container(tmp_path / "gone", ports={"6379/tcp": published(("127.0.0.1", 6380))}),
    }
    with docker(tmp_path / "s", containers) as environ:
        one, other = find_by_containers(environ)
    assert one.endpoints == (Endpoint("127.0.0.1", 6379), Endpoint("172.17.0.1", 6379), Endpoint("127.0.0.1", 9265))
    assert (one.token, one.runs, one.claims, one.place) == (Secret("its-own"), True, True, "2 containers of project a")
    assert (other.endpoints, other.token) == ((Endpoint("127.0.0.1", 6380),), None)


def test_a_container_that_ends_between_the_questions(tmp_path: Path) -> None:
    with docker(tmp_path / "s", {"a-cpu": None}) as environ:
        assert find_by_containers(environ) == []


def test_no_docker_is_no_problem(tmp_path: Path) -> None:
    assert find_by_containers({"DOCKER_HOST": f"unix://{tmp_path}/none"}) == []
    assert find_by_containers({"DOCKER_HOST": "tcp://192.0.2.1:2375"}) == []


def test_a_daemon_that_refuses_is_a_problem(tmp_path: Path) -> None:
    with docker(tmp_path / "s", {"a-cpu": {}}, 500) as environ, pytest.raises(EnvironmentProblem, match="answers 500"):
        find_by_containers(environ)


def test_a_daemon_that_never_answers_is_a_problem(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(EnvironmentProblem, match="can't be asked"):
            find_by_containers({"DOCKER_HOST": f"unix://{tmp_path}/s"}, timeout=0.1)
