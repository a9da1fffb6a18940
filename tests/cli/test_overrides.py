"""Flags of `ws up` against the config that they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ws.cli.overrides import Flags
from ws.config.load import load
from ws.config.models import Config
from ws.config.plan import ClusterPlan, plan
from ws.errors import ConfigError, UsageError

LOCAL_ENGINE = Path(__file__).parents[2] / "examples" / "local-engine.yaml"


def changed(
    flags: Flags, file: Path | None = None, environ: dict[str, str] | None = None
) -> tuple[Config, ClusterPlan, list[str]]:
    """The configuration with these flags, its plan, and what was told."""
    told: list[str] = []
    changes = flags.changes(load(file, environ or {}).config, told.append)
    config = load(file, environ or {}, changes.overrides, changes.nodes).config
    return config, plan(config), told


def written(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def hostnames(cluster: ClusterPlan) -> list[str]:
    return [node.hostname for node in cluster.nodes]


def test_no_flag_changes_nothing() -> None:
    config, _, told = changed(Flags())
    assert (config, told) == (Config(), [])


def test_ports_are_those_of_the_default_configs_first_candidate() -> None:
    _, cluster, told = changed(Flags(head_port=7000, dashboard_port=7001))
    assert hostnames(cluster) == ["ray-cpu", "ray-gpu"]
    assert (cluster.nodes[0].entry.head, cluster.nodes[0].entry.dashboard, cluster.nodes[1].entry.head) == (7000, 7001, 6380)
    assert told == []


def test_ports_are_those_of_the_first_candidate_whatever_its_key() -> None:
    _, cluster, _ = changed(Flags(head_port=7000), LOCAL_ENGINE)
    assert hostnames(cluster) == ["ray-head", "ray-worker", "ray-worker-2", "ray-worker-3"]
    assert cluster.node("ray-head").entry.head == 7000


def test_the_whitelist_says_who_is_first() -> None:
    _, cluster, _ = changed(Flags(head_port=7000), environ={"WS_NODES__HEAD_WHITELIST": "[ray-gpu, ray-cpu]"})
    assert (cluster.node("ray-cpu").entry.head, cluster.node("ray-gpu").entry.head) == (6379, 7000)


def test_ports_of_a_replica_can_not_be_set_so_the_next_candidate_gets_them(tmp_path: Path) -> None:
    file = written(tmp_path, "services: {ray: {a: {}, b: {replicas: 2}}}\nnodes: {head_whitelist: [ray-b-2, ray-a]}\n")
    _, cluster, _ = changed(Flags(head_port=7000), file)
    assert cluster.node("ray-a").entry.head == 7000


@pytest.mark.parametrize("count", [0, 1, 3])
def test_workers_replace_all_nodes_but_the_first_candidate(count: int) -> None:
    for file, head in ((None, "ray-cpu"), (LOCAL_ENGINE, "ray-head")):
        _, cluster, _ = changed(Flags(workers=count), file)
        workers = ["ray-worker", *(f"ray-worker-{number}" for number in range(2, count + 1))][:count]
        assert hostnames(cluster) == [head, *workers]
        assert [node.hostname for node in cluster.candidates] == [head]


def test_workers_are_like_the_candidate_but_without_gpus(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "services: {ray: {gpu: {replicas: 4, cpus: 3, memory: 2g, gpus: 2, shm_size: 1g, env: {A: b}}, other: {}}}\n"
        "nodes: {head_whitelist: [ray-gpu, ray-other]}\n",
    )
    _, cluster, _ = changed(Flags(workers=2), file, {"WS_SERVICES__RAY__GPU__CPUS": "5"})
    head, *workers = cluster.nodes
    assert (head.cpus, head.memory, head.gpus, head.shm_size, head.env) == (5, 2 * 2**30, 2, 2**30, {"A": "b"})
    assert head.entry.head == 6380
    assert [(node.cpus, node.memory, node.gpus) for node in workers] == [(5, 2 * 2**30, 0)] * 2


def test_a_candidate_that_is_called_worker_stays_one(tmp_path: Path) -> None:
    file = written(tmp_path, "services: {ray: {worker: {}}}\nnodes: {head_whitelist: [ray-worker]}\n")
    _, cluster, _ = changed(Flags(workers=2), file)
    assert hostnames(cluster) == ["ray-worker", "ray-follower", "ray-follower-2"]
    assert [node.candidate for node in cluster.nodes] == [True, False, False]


@pytest.mark.parametrize(
    ("flags", "client"),
    [
        (Flags(head_port=10001), 10003),  # 10002 is that of ray-gpu
        (Flags(workers=3, head_port=10001), 10002),
        (Flags(workers=3, dashboard_port=10001, head_port=10002), 10003),
    ],
)
def test_ray_client_makes_room_and_says_so(flags: Flags, client: int) -> None:
    _, cluster, told = changed(flags)
    assert cluster.nodes[0].entry.client == client
    assert told == [f"Ray Client moves to port {client}: 10001 is what another flag asks for"]


def test_ray_client_makes_room_where_the_config_has_put_it(tmp_path: Path) -> None:
    file = written(
        tmp_path, "services: {ray: {head: {client_port: 9000}}, health: {port: 9001}}\nnodes: {head_whitelist: [ray-head]}\n"
    )
    _, cluster, _ = changed(Flags(head_port=9000), file)
    assert (cluster.nodes[0].entry.head, cluster.nodes[0].entry.client) == (9000, 9002)


def test_two_flags_for_one_port_are_refused() -> None:
    with pytest.raises(ConfigError, match="port 10001 is used twice"):
        changed(Flags(head_port=10001, client_port=10001))


@pytest.mark.parametrize("flags", [Flags(workers=2), Flags(head_port=7000)])
def test_where_no_node_may_be_the_head_there_is_none_to_change(flags: Flags) -> None:
    elsewhere = {"WS_NODES__HEAD_ADDRESS": "far:6379", "WS_NODES__HEAD_WHITELIST": "[far]"}
    with pytest.raises(UsageError, match="no node here may be the head"):
        changed(flags, environ=elsewhere)
