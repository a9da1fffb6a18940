"""First words with real sockets."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.cluster.strangers import dripping, http, saying, silence, tcp
from tests.ports import free_port
from ws.cluster.endpoint import Endpoint
from ws.cluster.wire import Answer, Tongue, ask

SETTINGS = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x04\x00\x40\x00\x00"


def asked(endpoint: Endpoint, timeout: float = 5.0) -> Answer:
    return asyncio.run(ask(endpoint, "/", timeout=timeout))


def test_a_port_that_nobody_listens_on_is_closed() -> None:
    assert asked(Endpoint("127.0.0.1", free_port())).tongue is Tongue.closed


def test_a_name_that_does_not_resolve_is_closed() -> None:
    assert asked(Endpoint("no-such-host.invalid", 80)).tongue is Tongue.closed


def test_an_http_answer_is_read_to_its_length() -> None:
    with http({"/": {"a": 1}}) as endpoint:
        answer = asked(endpoint)
    assert (answer.tongue, answer.status, answer.json(), answer.peer) == (Tongue.http, 200, {"a": 1}, "127.0.0.1")


def test_an_http_answer_without_a_length_is_read_to_its_end() -> None:
    with tcp(saying(b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}')) as endpoint:
        assert asked(endpoint).json() == {"a": 1}


@pytest.mark.parametrize("body", [b"no JSON", b"[1]", b"\xff"])
def test_a_body_that_is_no_json_object_says_nothing(body: bytes) -> None:
    with tcp(saying(b"HTTP/1.0 200 OK\r\n\r\n" + body)) as endpoint:
        assert asked(endpoint).json() == {}


@pytest.mark.parametrize(
    ("words", "tongue"),
    [
        (SETTINGS, Tongue.http2),
        (b"-ERR wrong number of arguments\r\n", Tongue.other),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Tongue.other),
        (b"\x15\x03\x01\x00\x02\x02\x46", Tongue.other),
        (b"HT", Tongue.other),
        (b"", Tongue.closed),
    ],
)
def test_a_protocol_is_told_by_its_first_bytes(words: bytes, tongue: Tongue) -> None:
    with tcp(saying(words)) as endpoint:
        assert asked(endpoint).tongue is tongue


def test_one_that_accepts_and_never_answers_is_silent_when_the_time_is_up() -> None:
    with tcp(silence) as endpoint:
        began = time.monotonic()
        assert asked(endpoint, timeout=0.2).tongue is Tongue.silent
        assert time.monotonic() - began < 3


def test_one_that_drips_gains_no_time() -> None:
    with tcp(dripping) as endpoint:
        began = time.monotonic()
        answer = asked(endpoint, timeout=0.3)
    assert (answer.tongue, answer.status) == (Tongue.http, 200)
    assert time.monotonic() - began < 3
