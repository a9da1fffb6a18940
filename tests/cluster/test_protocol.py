"""What speaks, told apart; against real Ray in test_scan.py."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from tests.cluster.strangers import SESSION, TOKEN, dashboard_answers, dripping, grpc_server, http, saying, silence, tcp
from tests.ports import free_port
from ws.cluster.endpoint import Endpoint
from ws.cluster.protocol import Sighting, Speaks, identify, look
from ws.cluster.records import TokenNeed
from ws.node.health import lease_routes
from ws.node.http_service import HttpService
from ws.node.lease import LeaseBook
from ws.node.secret import Secret


def seen(endpoint: Endpoint, token: str = "", others: tuple[Secret, ...] = ()) -> Sighting:
    return asyncio.run(look(endpoint, token, others, 5.0))


def test_a_dashboard_without_a_token() -> None:
    with http(dashboard_answers()) as endpoint:
        found = seen(endpoint)
    assert (found.speaks, found.token, found.healthy) == (Speaks.dashboard, TokenNeed.not_needed, True)
    assert (found.session, found.ray_version, found.python_version) == (SESSION, "2.60.0", "3.11.7")
    assert (found.nodes, found.node_ids) == (2, {"ab" * 28})


def test_a_dashboard_with_a_token() -> None:
    with http(dashboard_answers(auth="token"), TOKEN) as endpoint:
        without, wrong, right = seen(endpoint), seen(endpoint, "wrong"), seen(endpoint, TOKEN)
        own = seen(endpoint, "wrong", (Secret(TOKEN),))
    assert (without.speaks, without.token, without.session) == (Speaks.dashboard, TokenNeed.needed, None)
    assert (wrong.speaks, wrong.token, wrong.session) == (Speaks.dashboard, TokenNeed.refused, None)
    assert (right.token, right.session) == (TokenNeed.needed, SESSION)
    assert (own.token, own.session) == (TokenNeed.refused, SESSION)


def test_a_token_goes_to_nobody_who_does_not_ask_as_a_dashboard() -> None:
    """A web server with a password of its own answers 401 as well, and would log whatever it is sent."""
    with http({"/api/authentication_mode": 401}, "its own") as endpoint:
        assert seen(endpoint, TOKEN).speaks is Speaks.http


def test_a_dashboard_that_has_lost_its_gcs_is_not_healthy() -> None:
    with http({**dashboard_answers(), "/api/gcs_healthz": 503}) as endpoint:
        found = seen(endpoint)
    assert (found.speaks, found.healthy, found.session) == (Speaks.dashboard, False, SESSION)


def test_an_old_dashboard_without_a_state_api() -> None:
    answers = {path: answer for path, answer in dashboard_answers(ray="2.0.0").items() if "/v0/" not in path}
    with http(answers) as endpoint:
        found = seen(endpoint)
    assert (found.speaks, found.ray_version, found.nodes, found.python_version) == (Speaks.dashboard, "2.0.0", None, None)


def test_a_dashboard_that_says_odd_things_breaks_nothing() -> None:
    odd = {"ray_version": ["2"], "session_name": {"a": 1}}
    with http({**dashboard_answers(), "/api/version": odd, "/api/v0/cluster_metadata": "[" * 100_000}) as endpoint:
        found = seen(endpoint)
    assert (found.speaks, found.session, found.ray_version, found.python_version) == (Speaks.dashboard, None, None, None)
    with http({**dashboard_answers("\x1b[2J")}) as endpoint:  # would clear the screen of who reads it
        assert seen(endpoint).session is None


@pytest.mark.parametrize("answer", ["<html></html>", [], {"version": "1.0"}, 500, "[" * 100_000])
def test_a_web_server_is_no_dashboard(answer: object) -> None:
    with http({"/api/version": answer, "/": "OK"}) as endpoint:
        assert seen(endpoint).speaks is Speaks.http


@pytest.mark.parametrize("token", ["", TOKEN])
def test_the_health_server_is_told_from_other_web_servers(token: str) -> None:
    service = HttpService(lease_routes(LeaseBook()), "127.0.0.1", 0, token)
    service.start()
    try:
        assert identify("127.0.0.1", service.port, timeout=5.0) is Speaks.health
    finally:
        service.stop()


def test_what_is_no_ray() -> None:
    with tcp(silence) as silent, tcp(dripping) as drips, tcp(saying(b"SSH-2.0\r\n")) as ssh, grpc_server({}) as grpc:
        assert identify(*silent, timeout=0.3) is Speaks.silent
        assert identify(*drips, timeout=0.3) is Speaks.http
        assert identify(*ssh, timeout=5.0) is Speaks.unknown
        assert identify(*grpc, timeout=5.0) is Speaks.unknown
    assert identify("127.0.0.1", free_port(), timeout=5.0) is Speaks.closed


def test_one_that_answers_the_first_question_alone_costs_no_more_than_the_time() -> None:
    """Its version, and silence for all that follows."""
    words = b'HTTP/1.1 200 OK\r\n\r\n{"ray_version": "2.60.0", "session_name": "s"}'
    asked: list[bytes] = []

    def speak(connection, over):
        asked.append(connection.recv(65536))
        if len(asked) == 1:
            connection.sendall(words)
        else:
            over.wait()

    with tcp(speak) as endpoint:
        began = time.monotonic()
        found = asyncio.run(look(endpoint, timeout=0.5))
        assert time.monotonic() - began < 4
    assert (found.speaks, found.healthy) == (Speaks.dashboard, False)


def test_neither_ray_nor_grpc_is_imported_where_nothing_speaks_grpc() -> None:
    program = (
        "import sys; from ws.cluster.discover import discover; from ws.cluster.protocol import identify\n"
        f"identify('127.0.0.1', {free_port()})\n"
        "print([name for name in ('ray', 'grpc', 'docker', 'requests', 'aiohttp') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
