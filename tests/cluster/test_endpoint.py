from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws.cluster.endpoint import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:6379", "127.0.0.1", 6379),
        ("ray://ray-cpu:10001", "ray-cpu", 10001),
        ("http://[::1]:8265/", "::1", 8265),
        (" [::1]:8265\n", "::1", 8265),
    ],
)
def test_an_address_with_and_without_a_scheme(text: str, host: str, port: int) -> None:
    assert parse_endpoint(text) == Endpoint(host, port)


@pytest.mark.parametrize("text", ["", "auto", "local", "host", "host:", "host:port", "host:99999", "http://[::1", ":80"])
def test_what_is_no_address(text: str) -> None:
    assert parse_endpoint(text) is None


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_is_written_is_read_again(address: object, port: int) -> None:
    endpoint = Endpoint(str(address), port)
    assert parse_endpoint(str(endpoint)) == endpoint


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    parse_endpoint(text)
