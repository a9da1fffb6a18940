from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ws.node import http_service
from ws.node.health import lease_routes
from ws.node.http_client import HttpFailure, call
from ws.node.http_service import HttpService
from ws.node.lease import LeaseBook
from ws.node.secret import Secret

PROGRAM = Path(__file__).parents[2] / "ws" / "node" / "__main__.py"
TOKEN = "right-token"
A = {"candidate": "a", "instance": "a/1", "address": "a:6379", "ttl": 30}
B = {"candidate": "b", "instance": "b/1", "address": "b:6379", "ttl": 30}


@pytest.fixture
def service() -> Iterator[HttpService]:
    service = HttpService(lease_routes(LeaseBook()), "127.0.0.1", 0, TOKEN)
    service.start()
    yield service
    service.stop()


def url(service: HttpService, path: str = "/lease") -> str:
    return f"http://127.0.0.1:{service.port}{path}"


def ask(service: HttpService, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return call(url(service, path), "GET" if body is None else "POST", body, TOKEN, 5)


def exchange(service: HttpService, raw: bytes) -> bytes:
    """Send bytes as they are, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(raw)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def request(first: str, *headers: str, body: bytes = b"", token: str = TOKEN) -> bytes:
    lines = [f"{first} HTTP/1.1", "Host: x", *headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(path: str, body: bytes) -> bytes:
    return request(f"POST {path}", f"Content-Length: {len(body)}", body=body)


def status_and_error(answer: bytes) -> tuple[int, str]:
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(content)["error"]


def test_a_probe_needs_no_token(service: HttpService) -> None:
    answer = exchange(service, request("GET /", token=""))
    assert answer.startswith(b"HTTP/1.0 200 ") and b"text/plain" in answer and answer.endswith(b"\r\n\r\nOK\n")
    assert exchange(service, request("HEAD /", token="")).endswith(b"\r\n\r\n")


def test_the_life_of_a_lease(service: HttpService) -> None:
    granted = ask(service, "/lease/acquire", A)
    assert granted["ok"] and granted["lease"]["epoch"] == 1
    refused = ask(service, "/lease/acquire", B)
    assert not refused["ok"] and refused["lease"]["holder"] == "a" and "a holds it" in refused["reason"]
    assert ask(service, "/lease/renew", {**A, "epoch": 1})["ok"]
    look = ask(service, "/lease")
    assert set(look["lease"]) == {
        *("holder", "instance", "address", "epoch", "granted_at", "held_for", "expires_in", "ttl"),
    }
    assert 0 < look["lease"]["expires_in"] <= 30 and look["now"] >= look["lease"]["granted_at"]
    assert ask(service, "/lease/release", {**A, "epoch": 1, "why": "its node stops"})["ok"]
    look = ask(service, "/lease")
    assert look["lease"] is None and look["released"]
    assert [(change["what"], change["why"]) for change in look["history"]] == [
        ("granted", "nobody held it"),
        ("released", "its node stops"),
    ]


@pytest.mark.parametrize(
    ("raw", "status", "says"),
    [
        (request("GET /lease", token=""), 401, "a token is needed"),
        (request("GET /lease", token="wrong"), 401, "not the one"),
        (request("GET /lease", "Authorization: Basic abc", token=""), 401, "not the one"),
        (request("GET /nowhere"), 404, "/nowhere"),
        (request("GET /lease/acquire"), 405, "takes POST, not GET"),
        (post("/lease", b"{}"), 405, "takes GET, not POST"),
        (request("BREW /lease"), 501, "BREW"),
        (request("POST /lease/acquire"), 411, "Content-Length"),
        (request("POST /lease/acquire", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 411, "Content-Length"),
        (request("POST /lease/acquire", "Content-Length: ten"), 400, "'ten' is not a number"),
        (request("POST /lease/acquire", "Content-Length: -1"), 400, "'-1' is not a number"),
        (request("POST /lease/acquire", "Content-Length: 999999999999999999999"), 400, "is not a number"),
        (post("/lease/acquire", b"x" * 16385), 413, "16384"),
        (post("/lease/acquire", b"x" * 1_000_000), 413, "16384"),
        (post("/lease/acquire", b"{"), 400, "not JSON"),
        (post("/lease/acquire", b"\xff"), 400, "not JSON"),
        (post("/lease/acquire", b"[" * 16000), 400, "not JSON"),
        (post("/lease/acquire", b"[]"), 400, "JSON object"),
        (post("/lease/acquire", b""), 400, "'candidate' is missing"),
        (post("/lease/acquire", b'{"candidate": 5}'), 400, "'candidate' must be a text"),
        (post("/lease/acquire", json.dumps({**A, "candidate": ""}).encode()), 400, "'candidate' must be a text"),
        (post("/lease/acquire", json.dumps({**A, "ttl": 0}).encode()), 400, "'ttl' must be above 0"),
        (post("/lease/acquire", json.dumps({**A, "ttl": "10"}).encode()), 400, "'ttl' must be a number"),
        (post("/lease/acquire", json.dumps({**A, "ttl": float("nan")}).encode()), 400, "'ttl' must be above 0"),
        (post("/lease/acquire", json.dumps({**A, "seen_epoch": -1}).encode()), 400, "'seen_epoch' must be a whole"),
        (post("/lease/acquire", json.dumps({**A, "young": 1}).encode()), 400, "'young' must be true or false"),
        (post("/lease/renew", json.dumps({**A, "epoch": True}).encode()), 400, "'epoch' must be a whole"),
        (post("/lease/release", json.dumps(A).encode()), 400, "'epoch' is missing"),
        (b"GARBAGE\r\n\r\n", 400, "Bad request syntax"),
        (b"GET / HTTP/9.9.9\r\n\r\n", 400, "Bad request version"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", 431, "Line too long"),
        (request("GET /lease", "X-Large: " + "y" * 20000), 431, "Line too long"),
        (request("GET /lease", *(f"X-{n}: y" for n in range(5000))), 431, "Too many headers"),
    ],
)
def test_a_bad_request_is_told_why(service: HttpService, raw: bytes, status: int, says: str) -> None:
    answer = exchange(service, raw)
    content = answer.partition(b"\r\n\r\n")[2] or answer
    error = json.loads(content)["error"]
    assert says in error
    if answer.startswith(b"HTTP/"):
        assert status_and_error(answer)[0] == status
    assert ask(service, "/lease")["lease"] is None


def test_a_head_that_is_too_long_leaves_no_thread_behind(service: HttpService) -> None:
    before = threading.active_count()
    for _ in range(20):
        exchange(service, b"\x00\xff" * 20000)
    assert call(url(service), token=TOKEN)["lease"] is None
    assert threading.active_count() <= before + 2


def test_300_silent_connections_hold_nobody_up(service: HttpService) -> None:
    idle = [socket.create_connection(("127.0.0.1", service.port), timeout=10) for _ in range(300)]
    try:
        began = time.monotonic()
        assert exchange(service, request("GET /", token="")).endswith(b"OK\n")
        assert ask(service, "/lease/acquire", A)["ok"]
        assert time.monotonic() - began < http_service.DEADLINE, "answered before the silent ones ran out of time"
        assert idle[0].recv(1) == b"", "the oldest made room"
    finally:
        for connection in idle:
            connection.close()


def test_a_client_that_drips_is_cut_off_at_the_deadline(service: HttpService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_service, "DEADLINE", 0.5)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        began = time.monotonic()
        connection.sendall(b"POST /lease/acquire HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        answer = b""
        connection.settimeout(0.05)
        while b"error" not in answer and time.monotonic() - began < 10:
            try:
                connection.sendall(b"x")
                answer += connection.recv(1000)
            except TimeoutError:
                continue
    assert b" 408 " in answer and b"stopped coming" in answer


def test_a_client_that_sends_nothing_is_cut_off(service: HttpService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_service, "DEADLINE", 0.3)
    assert exchange(service, b"") == b""
    assert exchange(service, b"GET / HT") != b"HTTP/1.0 200 OK"


def test_without_a_token_everything_is_open() -> None:
    service = HttpService({("GET", "/x"): lambda body: (200, {"y": 1})}, "127.0.0.1", 0, "")
    service.start()
    try:
        assert call(url(service, "/x?z=1")) == {"y": 1}
    finally:
        service.stop()


def test_a_port_that_is_taken_is_said_at_once(service: HttpService) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        HttpService({}, "127.0.0.1", service.port)


# Who may ask, and for how long


@pytest.fixture
def strict() -> Iterator[HttpService]:
    """A server that knows its whitelist and its lease time."""
    service = HttpService(lease_routes(LeaseBook(), whitelist=["a", "c"], ttl=12), "127.0.0.1", 0, Secret(TOKEN))
    service.start()
    yield service
    service.stop()


def test_only_candidates_of_the_whitelist_are_served(strict: HttpService) -> None:
    for path in ("acquire", "renew", "release"):
        with pytest.raises(HttpFailure, match=r"403: b is not in the health server's whitelist \(a, c\)") as failure:
            ask(strict, f"/lease/{path}", {**B, "epoch": 1})
        assert failure.value.is_refusal
    assert ask(strict, "/lease/acquire", A)["ok"]
    assert ask(strict, "/lease")["lease"]["holder"] == "a"


def test_the_servers_lease_time_wins(strict: HttpService) -> None:
    lease = ask(strict, "/lease/acquire", {**A, "ttl": 3600})["lease"]
    assert lease["ttl"] == 12 and lease["expires_in"] <= 12


def test_a_server_without_a_lease_time_gives_a_minute_at_most(service: HttpService) -> None:
    assert ask(service, "/lease/acquire", {**A, "ttl": 3600})["lease"]["ttl"] == 60
    assert ask(service, "/lease/renew", {**A, "ttl": 3600, "epoch": 1})["lease"]["expires_in"] <= 60


def test_a_lease_that_is_taken_over_lasts_as_long_as_the_server_says(strict: HttpService) -> None:
    assert ask(strict, "/lease/renew", {**A, "ttl": 3600, "epoch": 7})["lease"]["ttl"] == 12


# The client


def test_failures_have_a_kind(service: HttpService, silent_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    cases = {
        "refused": f"http://127.0.0.1:{free}/",
        "resolve": "http://no-such-host.invalid:80/",
        "timeout": f"http://127.0.0.1:{silent_port}/",
        "status": url(service, "/nowhere"),
        "garbage": url(service, "/"),
    }
    for kind, address in cases.items():
        with pytest.raises(HttpFailure) as failure:
            call(address, token=TOKEN, timeout=0.5 if kind == "timeout" else 5)
        assert (failure.value.kind, failure.value.status) == (kind, 404 if kind == "status" else None), address


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_drips_gains_no_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not stop.wait(0.05):
                    connection.send(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(HttpFailure, match=r"did not answer within 0\.4 s"):
            call(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.4)
        assert time.monotonic() - began < 4
        stop.set()
        thread.join()


# The real process


class Server:
    """A health server as a process of its own, on a free port."""

    def __init__(self, state: Path, token: Path | None = None, port: int = 0, **more: str) -> None:
        environ = {**os.environ, "HEALTH_HOST": "127.0.0.1", "HEALTH_PORT": str(port), "WS_STATE_DIR": str(state)}
        for name in ("RAY_AUTH_TOKEN_PATH", "HEAD_WHITELIST", "LEASE_TTL"):
            environ.pop(name, None)
        environ.update(more)
        if token:
            environ["RAY_AUTH_TOKEN_PATH"] = str(token)
        command = [sys.executable, str(PROGRAM), "health"]
        self.process = subprocess.Popen(
            command, env=environ, cwd=state.anchor, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        self.output, self.url = "", ""
        for line in self.process.stdout:
            self.output += line
            found = re.search(r"health server on (127\.0\.0\.1:\d+)", line)
            if found:
                self.url = f"http://{found.group(1)}"
                break

    def end(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=10)
        return self.process.returncode, self.output + rest


def test_a_killed_server_comes_back_with_its_lease(tmp_path: Path) -> None:
    server = Server(tmp_path)
    granted = call(f"{server.url}/lease/acquire", "POST", A)
    assert granted["ok"]
    server.end(signal.SIGKILL)

    server = Server(tmp_path)
    assert "→ lease kept: a, epoch 1 (the health server has restarted" in server.output
    look = call(f"{server.url}/lease")
    assert (look["lease"]["holder"], look["lease"]["epoch"]) == ("a", 1)
    assert not call(f"{server.url}/lease/acquire", "POST", B)["ok"]
    assert call(f"{server.url}/lease/renew", "POST", {**A, "epoch": 1})["ok"]
    assert call(f"{server.url}/lease/release", "POST", {**A, "epoch": 1})["ok"]
    server.end(signal.SIGKILL)

    server = Server(tmp_path)
    granted = call(f"{server.url}/lease/acquire", "POST", B)
    assert granted["ok"] and granted["lease"]["epoch"] == 2
    code, output = server.end(signal.SIGTERM)
    assert code == 0
    assert "✓ lease granted: b, epoch 2 (nobody held it)" in output


def test_sigterm_ends_it_within_a_second_and_probes_leave_no_line(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    server = Server(tmp_path, token)
    for _ in range(3):
        with pytest.raises(HttpFailure, match="does not answer with a JSON object"):
            call(server.url)
    assert call(f"{server.url}/lease", token="secret")["lease"] is None
    idle = socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    began = time.monotonic()
    code, output = server.end(signal.SIGTERM)
    assert code == 0 and time.monotonic() - began < 1.5
    assert len(output.splitlines()) == 2 and "secret" not in output
    idle.close()


def test_the_process_is_told_its_whitelist_and_its_lease_time(tmp_path: Path) -> None:
    server = Server(tmp_path, HEAD_WHITELIST=" a, c,", LEASE_TTL="7.5")
    assert call(f"{server.url}/lease/acquire", "POST", A)["lease"]["ttl"] == 7.5
    with pytest.raises(HttpFailure, match="403: b is not in"):
        call(f"{server.url}/lease/acquire", "POST", B)
    assert server.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize("ttl", ["soon", "nan", "-1"])
def test_a_lease_time_that_is_none_is_said_at_once(tmp_path: Path, ttl: str) -> None:
    server = Server(tmp_path, LEASE_TTL=ttl)
    assert server.process.wait(10) == 2
    assert "✗" in server.output and "LEASE_TTL" in server.output
    server.end(signal.SIGTERM)


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_a_token_file_without_a_token_is_no_open_door(tmp_path: Path, content: str | None) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content)
    server = Server(tmp_path, token)
    assert server.process.wait(10) == 1
    assert "✗" in server.output and str(token) in server.output
    server.end(signal.SIGTERM)


def test_a_state_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = Server(tmp_path / "file" / "state")
    assert server.process.wait(10) == 1
    assert "✗ the health server cannot start" in server.output
    server.end(signal.SIGTERM)


def test_a_wrong_call_is_told_how(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(PROGRAM), "what"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "agent|health" in done.stderr
