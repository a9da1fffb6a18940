from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.config.models import Config
from ws.config.plan import ClusterPlan, official_image, plan

GIB = 1024**3
MIB = 1024**2


def planned(**sections: Any) -> ClusterPlan:
    return plan(Config.model_validate(sections))


def with_nodes(ray: dict[str, Any], **sections: Any) -> ClusterPlan:
    return planned(services={"ray": ray}, **sections)


def test_the_default_cluster() -> None:
    cluster = planned()
    cpu, gpu = cluster.nodes
    assert (cpu.hostname, cpu.container, cpu.address) == ("ray-cpu", "cslr-exp-platform-ray-cpu", "172.28.0.3")
    assert (gpu.hostname, gpu.container, gpu.address) == ("ray-gpu", "cslr-exp-platform-ray-gpu", "172.28.0.4")
    assert (cluster.health_address, cluster.health_port) == ("172.28.0.2", 8080)
    assert cluster.candidates == (cpu, gpu)
    assert [node.hostname for node in cluster.external] == ["test-ray-worker", "test-ray-joiner"]


def test_blocks_follow_one_another() -> None:
    cluster = planned()
    blocks = [node.block for node in cluster.nodes] + [node.block for node in cluster.external]
    assert [(block.first, block.last) for block in blocks] == [
        (31000, 31023),
        (31024, 31047),
        (31048, 31063),
        (31064, 31079),
    ]
    assert cluster.ports == range(31000, 31080)


def test_a_block_as_the_agent_reads_it() -> None:
    assert planned().node("ray-cpu").block.as_environment() == (
        "node_manager=31000,object_manager=31001,runtime_env_agent=31002,dashboard_agent_grpc=31003,"
        "dashboard_agent_listen=31004,metrics_export=31005,transfer=31006,agent=31007,workers=31008-31023"
    )


def test_without_published_blocks_ray_picks_its_worker_ports() -> None:
    block = planned(network={"publish_blocks": "none"}).node("ray-gpu").block
    assert block.workers is None
    assert (block.first, block.last) == (31008, 31015)
    assert block.as_environment().endswith("transfer=31014,agent=31015")


@pytest.mark.parametrize(("settings", "workers"), [({"cpus": 0}, 8), ({"cpus": 8}, 32), ({"cpus": 8, "worker_ports": 3}, 3)])
def test_worker_ports_go_by_the_cpus(settings: dict[str, int], workers: int) -> None:
    block = with_nodes({"cpu": settings}).nodes[0].block
    assert block.workers == (31008, 31008 + workers - 1)


def test_replicas_have_names_and_blocks_of_their_own() -> None:
    cluster = with_nodes({"cpu": {"replicas": 3, "cpus": 1}}, nodes={"head_whitelist": ["ray-cpu", "ray-cpu-2"]})
    assert [node.hostname for node in cluster.nodes] == ["ray-cpu", "ray-cpu-2", "ray-cpu-3"]
    assert [node.index for node in cluster.nodes] == [1, 2, 3]
    assert [node.entry.head for node in cluster.nodes] == [6379, 31037, 31061]
    assert [node.entry.published for node in cluster.nodes] == [True, True, False]


def test_open_entry_ports_are_the_last_of_the_block() -> None:
    entry = with_nodes({"big": {"head_port": 7000}}, nodes={"head_whitelist": ["ray-big"]}).nodes[0].entry
    assert (entry.head, entry.dashboard, entry.client) == (7000, 31030, 31031)


def test_the_whitelist_orders_the_candidates_and_moves_no_ports() -> None:
    cluster = planned(nodes={"head_whitelist": ["ray-gpu", "elsewhere", "ray-cpu"]})
    assert [node.hostname for node in cluster.candidates] == ["ray-gpu", "ray-cpu"]
    assert [node.block for node in cluster.nodes] == [node.block for node in planned().nodes]


def test_a_node_outside_the_whitelist_has_entry_ports_that_are_not_published() -> None:
    gpu = planned(nodes={"head_whitelist": ["ray-cpu"]}).node("ray-gpu")
    assert (gpu.candidate, gpu.entry.published, gpu.entry.head) == (False, False, 6380)


def test_candidates_as_the_agent_reads_them() -> None:
    candidates = json.loads(planned().candidates_json({"ray-gpu": "127.0.0.1"}))
    assert candidates == [
        {
            "name": "ray-cpu",
            "address": "ray-cpu",
            "head_port": 6379,
            "dashboard_port": 8265,
            "client_port": 10001,
            "agent_port": 31007,
        },
        {
            "name": "ray-gpu",
            "address": "127.0.0.1",
            "head_port": 6380,
            "dashboard_port": 8266,
            "client_port": 10002,
            "agent_port": 31031,
        },
    ]


def test_sizes_follow_from_memory() -> None:
    node = planned().nodes[0]
    assert (node.memory, node.shm_size, node.object_store_memory) == (8 * GIB, 2539 * MIB, 2386 * MIB)


def test_given_sizes_are_kept() -> None:
    node = with_nodes({"cpu": {"memory": "4g", "shm_size": "2g", "object_store_memory": "1000000000"}}).nodes[0]
    assert (node.memory, node.shm_size, node.object_store_memory) == (4 * GIB, 2 * GIB, 1_000_000_000)


def test_images_default_to_the_official_ones() -> None:
    node = planned().nodes[0]
    assert (node.image, node.gpu_image) == (official_image(), official_image(gpu=True))
    assert node.gpu_image == node.image + "-gpu"
    assert node.image.startswith("rayproject/ray:2.")


def test_the_closest_image_and_environment_win() -> None:
    ray = {
        "image": "shared:1",
        "gpu_image": "shared:1-gpu",
        "env": {"A": "shared", "B": "shared"},
        "cpu": {"env": {"B": "own"}},
        "gpu": {"image": "own:1"},
    }
    cpu, gpu = with_nodes(ray).nodes
    assert (cpu.image, cpu.gpu_image, gpu.image, gpu.gpu_image) == ("shared:1", "shared:1-gpu", "own:1", "own:1")
    assert cpu.env == {"A": "shared", "B": "own"}


def test_external_nodes_keep_their_blocks_whether_or_not_the_test_runs() -> None:
    network = {"external_nodes": ["lab-worker"]}
    on, off = planned(network=network), planned(network=network, cluster_test={"enabled": False})
    assert [node.hostname for node in on.external] == ["test-ray-worker", "test-ray-joiner", "lab-worker"]
    assert [node.hostname for node in off.external] == ["lab-worker"]
    assert on.external[2].block == off.external[0].block


def test_an_unknown_hostname_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        planned().node("ray-tpu")


node_keys = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).filter(lambda key: key not in ("env", "image", "volumes"))
# Below every block here, so that a port within the blocks is one that the plan gave out.
ports = st.none() | st.integers(1024, 10000)
node_settings = st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.integers(0, 64),
        "replicas": st.integers(1, 30),
        "worker_ports": st.none() | st.integers(1, 100),
        "head_port": ports,
        "client_port": ports,
    },
)


@settings(deadline=None)
@given(
    nodes=st.dictionaries(node_keys, node_settings, max_size=5),
    base=st.integers(10100, 65535),
    blocks=st.sampled_from(["gateway", "none", "loopback"]),
    external=st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=4),
)
def test_no_two_nodes_ever_share_a_port_of_their_blocks(
    nodes: dict[str, Any], base: int, blocks: str, external: list[str]
) -> None:
    network = {"port_base": base, "publish_blocks": blocks, "external_nodes": external}
    cluster = with_nodes(nodes, network=network)
    blocks_in_order = [node.block for node in cluster.nodes] + [node.block for node in cluster.external]
    entries = [port for node in cluster.nodes for port in (node.entry.head, node.entry.dashboard, node.entry.client)]
    given_out = [port for block in blocks_in_order for port in range(block.first, block.last + 1)]
    given_out += [port for port in entries if port in cluster.ports]
    assert len(given_out) == len(set(given_out))
    assert set(given_out) <= set(cluster.ports)
    assert all((block.first - base) % 8 == 0 for block in blocks_in_order)
    assert len({node.address for node in cluster.nodes} | {cluster.health_address}) == len(cluster.nodes) + 1


@given(base=st.integers(1024, 60000))
def test_the_plan_is_a_function_of_the_configuration(base: int) -> None:
    assert planned(network={"port_base": base}) == planned(network={"port_base": base})
