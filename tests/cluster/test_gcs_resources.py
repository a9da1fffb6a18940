"""What is free by the GCS itself, from replies made here byte by byte; a real GCS is asked in test_real.py."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.cluster.strangers import TOKEN, grpc_server, silence, tcp
from tests.cluster.test_dashboard_look import answers, node
from tests.cluster.test_ray_rpc import OK, text
from tests.engine.fake_engine import answering
from tests.ports import free_port
from ws.cluster.endpoint import Endpoint
from ws.cluster.gcs_resources import GcsResources, free_of
from ws.cluster.look import DashboardSource
from ws.node.secret import Secret

METHOD = "/ray.rpc.NodeResourceInfoGcsService/GetAllAvailableResources"
NODE = b"\x07" * 28


def reply(nodes: Mapping[bytes, Mapping[str, float]]) -> bytes:
    """As the GCS of Ray 2.60 writes it: a map's entry is a message with its key as 1, its value as 2."""
    rows = b""
    for node_id, resources in nodes.items():
        entries = (text(1, name.encode()) + b"\x11" + struct.pack("<d", free) for name, free in resources.items())
        rows += text(2, text(1, node_id) + b"".join(text(2, entry) for entry in entries))
    return OK + rows


def test_the_gcs_tells_what_is_free_of_each_node() -> None:
    with grpc_server({METHOD: lambda _: reply({NODE: {"CPU": 1.5, "memory": 2.0**30}, b"\x08": {}})}, TOKEN) as at:
        gcs = GcsResources(at, Secret(TOKEN))
        assert gcs.available() == {NODE.hex(): {"CPU": 1.5, "memory": 2.0**30}, "08": {}}
        gcs.close()
        assert gcs.available() == {}, "closed"
        stranger = GcsResources(at, "")
        assert stranger.available() == {}
        stranger.close()


def test_what_is_all_in_use_is_zero_and_not_unknown() -> None:
    assert free_of({"CPU": 2.0, "memory": 5.0}, {"memory": 4.0}) == {"CPU": 0.0, "memory": 4.0}


def test_one_that_does_not_answer_is_left_alone_for_a_while() -> None:
    with tcp(silence) as at:
        gcs = GcsResources(at, "", timeout=0.1)
        assert gcs.available() == {}
    with grpc_server({METHOD: lambda _: reply({NODE: {"CPU": 1.0}})}) as other:
        gcs._endpoint, gcs._channel = other, None
        assert gcs.available() == {}, "asked again at once"
        gcs._ask_at = 0.0
        assert gcs.available() == {NODE.hex(): {"CPU": 1.0}}
        gcs.close()


def test_a_look_takes_what_is_free_from_the_gcs_and_from_the_report_where_that_does_not_tell() -> None:
    rows = (node("head", head=True), node(NODE.hex()))
    with answering(answers(*rows)) as url, grpc_server({METHOD: lambda _: reply({NODE: {"CPU": 1.0}})}) as at:
        source = DashboardSource(url, "", gcs=GcsResources(at, ""))
        head, worker = source.look().nodes
        source.close()
        assert head.free == {"CPU": 2.5, "object_store_memory": 60.0, "my_own_resource": 2.0}
        assert worker.free == {"CPU": 1.0, "object_store_memory": 0.0, "my_own_resource": 0.0}
        without = DashboardSource(url, "", gcs=GcsResources(Endpoint("127.0.0.1", free_port()), ""))
        head, worker = without.look().nodes
        without.close()
        assert head.free
        assert head.free["CPU"] == 2.5
        assert worker.free is None
