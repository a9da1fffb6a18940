"""How ports look: real sockets of this machine that do all that a port can do, and Ray's own servers."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.node.stage import soon
from tests.ports import free_port
from tests.verify.programs.local import ADDRESS, BASE, CLIENT, DASHBOARD, Event, events, server, silent

HOST = "127.0.0.1"


def probe(*ports: int, identify: bool = True, environ: dict[str, str] | None = None, host: str = HOST) -> list[Event]:
    params = {"targets": [[host, port] for port in ports], "timeout": 2.0, "identify": identify}
    *found, last = events("netprobe", params, environ)
    assert last == {"event": "done"}
    return sorted(found, key=lambda event: ports.index(event["port"]))


def answering(text: bytes) -> Any:
    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)

    return answer


@contextmanager
def full() -> Iterator[int]:
    """A port whose packets get no answer, as behind a firewall that drops them: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(listener.getsockname())
            waiting.append(connection)
        time.sleep(0.1)
        yield int(listener.getsockname()[1])
        for connection in waiting:
            connection.close()


def test_outcomes() -> None:
    with server(silent) as open_port, server(lambda connection: connection.close()) as proxy, full() as dropping:
        found = probe(open_port, closed := free_port(), proxy, dropping, identify=False)
    assert [event["outcome"] for event in found] == ["open", "refused", "refused", "timeout"]
    assert [event["ip"] for event in found] == [HOST] * 4
    assert {event["speaks"] for event in found} == {None}
    assert found[1]["port"] == closed
    assert "closes at once" in found[2]["detail"]
    assert found[0]["seconds"] < 1.0 <= found[3]["seconds"]


def test_a_name_that_does_not_resolve() -> None:
    (event,) = probe(1, host="no-such-host.invalid")
    assert (event["outcome"], event["ip"]) == ("unresolved", None)


@pytest.mark.parametrize(
    ("answer", "speaks"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK\n", "health"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>hello</html>", "http"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\nno token, no bread", "http"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"version": "4", "ray_version": "2.9.9"}', "dashboard"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"ray_version"', "http"),
        (b"HTTP/1.1 \r\n\r\n", "http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unknown"),
        (bytes(range(256)) * 200, "unknown"),
        (b"", "unknown"),
    ],
)
def test_what_is_no_ray_is_told_apart(answer: bytes, speaks: str) -> None:
    with server(answering(answer)) as port:
        (event,) = probe(port)
    assert (event["outcome"], event["speaks"]) == ("open", speaks)
    assert event["versions"] == ({"ray": "2.9.9", "python": None} if speaks == "dashboard" else None)


def test_a_server_that_never_answers_costs_no_more_than_its_time() -> None:
    began = time.monotonic()
    with server(silent) as mute, server(lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n")) as half:
        found = probe(mute, half)
    assert [event["speaks"] for event in found] == ["unknown", "http"]
    assert found[0]["silent"] is True
    assert time.monotonic() - began < 60


def test_the_health_server(tmp_path: Path) -> None:
    port = free_port()
    environ = {"HEALTH_PORT": str(port), "WS_STATE_DIR": str(tmp_path), "PATH": "/usr/bin"}
    node = Path(__file__).parents[3] / "ws" / "node" / "__main__.py"
    with subprocess.Popen([sys.executable, str(node), "health"], env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            soon("the health server", lambda: probe(port)[0]["speaks"] == "health")
        finally:
            process.terminate()


@pytest.mark.slow
class TestRay:
    def test_each_server_and_our_token(self, head: str, environ: dict[str, str]) -> None:
        gcs, client, raylet, manager = probe(BASE, CLIENT[1], BASE + 10, BASE + 11, environ=environ, host=ADDRESS)
        assert [event["speaks"] for event in (gcs, client, raylet, manager)] == ["gcs", "client", "grpc", "grpc"]
        assert (gcs["token"], client["token"]) == ("right", "right")
        assert gcs["versions"] == {"ray": "2.60.0", "python": ".".join(map(str, sys.version_info[:3]))}
        soon("the dashboard", lambda: probe(DASHBOARD[1], environ=environ)[0]["speaks"] == "dashboard", timeout=60)
        (dashboard,) = probe(DASHBOARD[1], environ=environ)
        assert (dashboard["token"], dashboard["versions"]) == ("right", {"ray": "2.60.0", "python": None})

    @pytest.mark.parametrize(
        ("told", "judged"), [({"RAY_AUTH_TOKEN": "another"}, "wrong"), ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "missing")]
    )
    def test_they_are_known_without_the_right_token_too(
        self, head: str, environ: dict[str, str], told: dict[str, str], judged: str
    ) -> None:
        found = probe(BASE, CLIENT[1], environ={**environ, "HOME": "/nowhere", **told}, host=ADDRESS)
        assert [(event["speaks"], event["token"], event["versions"]) for event in found] == [
            ("gcs", judged, None),
            ("client", judged, None),
        ]

    def test_without_grpcio_a_server_of_ray_is_grpc(self, head: str, environ: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "grpc.py").write_text("raise ImportError('not here')")
        (event,) = probe(BASE, environ={**environ, "PYTHONPATH": str(tmp_path)}, host=ADDRESS)
        assert event["speaks"] == "grpc"
