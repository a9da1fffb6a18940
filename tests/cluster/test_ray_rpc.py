"""The gRPC questions, to servers whose replies are made here byte by byte; real ones are asked in test_scan.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.strangers import SESSION, TOKEN, grpc_server
from ws.cluster.ray_rpc import fields, question
from ws.cluster.records import TokenNeed
from ws.node.secret import Secret

CLUSTER = bytes(range(28))
ALIVE, DEAD = b"\x01" * 28, b"\x02" * 28
OK = b"\x0a\x00"


def text(number: int, value: bytes) -> bytes:
    """A protobuf field of up to 127 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


def kept(request: bytes) -> bytes:
    values = {
        b"session_name": SESSION.encode(),
        b"CLUSTER_METADATA": b'{"ray_version": "2.40.0", "python_version": "3.9.1"}',
        b"dashboard": b"127.0.0.1:8270",
    }
    return OK + text(2, values[request[2 : 2 + request[1]]])


def gcs_methods() -> dict[str, Callable[[bytes], bytes]]:
    """A GCS that takes no filter, as those before Ray 2.10."""
    nodes = text(2, text(1, ALIVE)) + text(2, text(1, DEAD) + b"\x38\x01")
    return {
        "/ray.rpc.NodeInfoGcsService/GetClusterId": lambda _: OK + text(2, CLUSTER),
        "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo": lambda _: OK + nodes,
        "/ray.rpc.InternalKVGcsService/InternalKVGet": kept,
    }


def test_a_gcs_tells_its_cluster_and_its_living_nodes() -> None:
    with grpc_server(gcs_methods()) as endpoint:
        found = question(str(endpoint), "", (), 5.0)
    assert (found.service, found.token, found.cluster_id) == ("gcs", TokenNeed.not_needed, CLUSTER.hex())
    assert (found.session, found.ray_version, found.python_version) == (SESSION, "2.40.0", "3.9.1")
    assert (found.nodes, found.node_ids, found.dashboard) == (1, {ALIVE.hex()}, "127.0.0.1:8270")


def test_a_gcs_that_wants_a_token_is_known_without_it() -> None:
    with grpc_server(gcs_methods(), TOKEN) as endpoint:
        without = question(str(endpoint), "", (), 5.0)
        wrong = question(str(endpoint), "wrong", (), 5.0)
        right = question(str(endpoint), Secret(TOKEN), (), 5.0)
        own = question(str(endpoint), "wrong", [Secret(TOKEN)], 5.0)
    assert (without.service, without.token, without.cluster_id) == ("gcs", TokenNeed.needed, None)
    assert (wrong.service, wrong.token, wrong.cluster_id) == ("gcs", TokenNeed.refused, None)
    assert (right.token, right.cluster_id) == (TokenNeed.needed, CLUSTER.hex())
    assert (own.token, own.cluster_id) == (TokenNeed.refused, CLUSTER.hex())


def test_a_ray_client_tells_the_nodes_of_its_cluster() -> None:
    key = b"DASHBOARD_AGENT_ADDR_NODE_ID_PREFIX:" + ALIVE.hex().encode()
    with grpc_server({"/ray.rpc.RayletDriver/KVList": lambda _: text(1, b"webui:url") + text(1, key)}) as endpoint:
        found = question(str(endpoint), "", (), 5.0)
    assert (found.service, found.token, found.node_ids) == ("client", TokenNeed.not_needed, {ALIVE.hex()})


def test_another_grpc_server_is_neither() -> None:
    with grpc_server({}) as endpoint:
        assert question(str(endpoint), "", (), 5.0).service == ""


def test_a_gcs_that_hangs_costs_no_more_than_the_time() -> None:
    over = threading.Event()

    def hang(_: bytes) -> bytes:
        over.wait()
        return OK

    with grpc_server({"/ray.rpc.NodeInfoGcsService/GetClusterId": hang}) as endpoint:
        began = time.monotonic()
        assert question(str(endpoint), "", (), 0.2).service == ""
        assert time.monotonic() - began < 10
        over.set()


def test_metadata_that_is_no_json_is_left_out() -> None:
    methods = {**gcs_methods(), "/ray.rpc.InternalKVGcsService/InternalKVGet": lambda _: OK + text(2, b"{broken")}
    with grpc_server(methods) as endpoint:
        found = question(str(endpoint), "", (), 5.0)
    assert (found.cluster_id, found.ray_version) == (CLUSTER.hex(), None)


@given(st.binary())
def test_no_bytes_are_too_strange(message: bytes) -> None:
    list(fields(message))


@given(st.lists(st.tuples(st.integers(1, 15), st.binary(max_size=127))))
def test_fields_are_read_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    assert list(fields(b"".join(text(number, value) for number, value in written))) == written
