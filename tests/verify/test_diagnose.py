"""From symptom to cause, on a site that is made up: each fault alone, and the true cause first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.verify.fake_site import HOST, Event, FakeSite, ray_node
from ws.errors import EnvironmentProblem
from ws.verify import diagnose_again, diagnose_state
from ws.verify.causes import TITLES
from ws.verify.diagnose import certain, diagnose, suspect
from ws.verify.diagnose_case import spans
from ws.verify.site import Head
from ws.verify.verdict import Cause

WORKER = "test-ray-worker"
MISMATCH = """✗ `ray start` ended with exit code 1
  ray | RuntimeError: Version mismatch: The cluster was started with:
  ray |     Ray: 2.60.0
  ray |     Python: 3.11.7
  ray | This process on node test-ray-worker was started with:
  ray |     Ray: 2.59.0
  ray |     Python: 3.12.1
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is found twice is not given the time to be found dead."""
    monkeypatch.setattr(diagnose_state, "_FOUND_DEAD", 0.0)
    monkeypatch.setattr(diagnose_again, "PATIENCE", 0.0)


def first(site: FakeSite, name: str = WORKER, symptom: str = "") -> Cause:
    causes = diagnose(site, name, symptom)
    assert all(cause.key in TITLES and cause.what and cause.remedy for cause in causes)
    return causes[0]


def environment(site: FakeSite, name: str = WORKER, **values: str | None) -> None:
    """Change variables of a container; None takes one away."""
    merged = {**site.containers[name].environment, **values}
    site.change(name, environment={key: value for key, value in merged.items() if value is not None})


@pytest.mark.parametrize("name", [WORKER, "ray-cpu", "ray-gpu"])
def test_nothing_is_suspect_where_all_is_well(name: str) -> None:
    site = FakeSite()
    assert suspect(site, name) == []
    unexplained = first(site, name, "a task on it failed")
    assert unexplained.key == "ray-error"
    assert "a task on it failed" in unexplained.what


def test_a_name_that_nobody_expects_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        diagnose(FakeSite(), "nobody")


# The way from the cluster to the node


def unpublish(site: FakeSite, *ports: int, name: str = WORKER) -> None:
    seen = site.containers[name]
    gone = {place for place in seen.published if int(place.rpartition(":")[2]) in ports}
    site.change(name, published=seen.published - gone)


def test_no_port_of_the_block_is_published() -> None:
    site = FakeSite()
    site.change(WORKER, published=frozenset())
    cause = first(site)
    assert cause.key == "block-not-published"
    assert "31048-31057" in cause.what
    assert f"{HOST}:31048-31057:31048-31057" in cause.remedy
    assert "template/cluster-test.compose.yaml.jinja2" in cause.remedy


@pytest.mark.parametrize(
    ("port", "role", "follows"),
    [
        (31048, "node_manager", "dead"),
        (31049, "object_manager", "objects"),
        (31050, "runtime_env_agent", "runtime_env"),
        (31056, "worker", "actors"),
    ],
)
def test_one_port_is_not_published(port: int, role: str, follows: str) -> None:
    site = FakeSite()
    unpublish(site, port)
    cause = first(site)
    assert cause.key == "port-blocked"
    assert f"{role} port {port}" in cause.what
    assert follows in cause.what
    assert f"{HOST}:{port}:{port}" in cause.remedy


def test_a_block_on_another_address_is_not_published_either_unless_it_is_all_of_them() -> None:
    site = FakeSite()
    places = site.containers[WORKER].published
    site.change(WORKER, published=frozenset(place.replace(HOST, "127.0.0.1") for place in places))
    cause = first(site)
    assert cause.key == "block-not-published"
    assert "127.0.0.1" in cause.what
    site.change(WORKER, published=frozenset(place.replace(HOST, "0.0.0.0") for place in places))
    assert suspect(site, WORKER) == []


def test_an_inside_nodes_object_manager_is_not_published_for_those_outside() -> None:
    site = FakeSite()
    unpublish(site, 31001, name="ray-cpu")
    cause = first(site)
    assert cause.key == "port-blocked"
    assert "ray-cpu: its object_manager port 31001" in cause.what
    assert "network.publish_blocks" in cause.remedy


def test_it_advertises_an_address_that_the_head_cannot_reach() -> None:
    site = FakeSite()
    environment(site, WS_NODE_ADDRESS="172.30.0.5")
    site.port("172.30.0.5", 31048, outcome="timeout", detail="no answer within 2 s", speaks=None)
    cause = first(site)
    assert cause.key == "advertised-address"
    assert "172.30.0.5" in cause.what
    assert "WS_NODE_ADDRESS" in cause.remedy


def test_what_the_gcs_was_told_counts_more_than_the_environment() -> None:
    site = FakeSite()
    site.board.rows[2] = replace(site.board.rows[2], address="10.0.0.7")
    site.port("10.0.0.7", 31048, outcome="unreachable", detail="No route to host", speaks=None)
    cause = first(site)
    assert cause.key == "advertised-address"
    assert "10.0.0.7" in cause.what


def test_another_address_that_the_head_does_reach_is_no_fault() -> None:
    site = FakeSite()
    environment(site, WS_NODE_ADDRESS="worker.example")
    assert suspect(site, WORKER) == []


@pytest.mark.parametrize(("holder", "name"), [(WORKER, "ray-cpu"), ("ray-cpu", WORKER), ("ray-gpu", WORKER)])
def test_extra_hosts_lack_a_name(holder: str, name: str) -> None:
    site = FakeSite()
    hosts = dict(site.containers[holder].extra_hosts)
    del hosts[name]
    site.change(holder, extra_hosts=hosts)
    cause = first(site)
    assert cause.key == "name-unknown"
    assert holder in cause.what
    assert f"{name}:{HOST}" in cause.remedy


@pytest.mark.parametrize(("holder", "name"), [(WORKER, "ray-cpu"), ("ray-cpu", WORKER)])
def test_extra_hosts_have_a_wrong_address(holder: str, name: str) -> None:
    site = FakeSite()
    site.change(holder, extra_hosts={**site.containers[holder].extra_hosts, name: "192.0.2.7"})
    cause = first(site)
    assert cause.key == "name-wrong"
    assert "192.0.2.7" in cause.what
    assert HOST in cause.what


def test_dockers_own_word_for_the_host_is_right() -> None:
    site = FakeSite()
    site.change(WORKER, extra_hosts=dict.fromkeys(site.containers[WORKER].extra_hosts, "host-gateway"))
    assert suspect(site, WORKER) == []


def test_a_name_is_lost_in_a_running_container() -> None:
    site = FakeSite()
    for port in site.expected[WORKER].ports.values():
        site.port(WORKER, port, node="ray-cpu", ip=None, outcome="unresolved", detail="it does not resolve", speaks=None)
    cause = first(site)
    assert cause.key == "name-unknown"
    assert "does not resolve on ray-cpu" in cause.what


def test_a_firewall_shuts_one_port_that_is_published() -> None:
    site = FakeSite()
    site.port(WORKER, 31049, node="ray-cpu", outcome="timeout", detail="no answer within 2 s", speaks=None)
    cause = first(site)
    assert cause.key == "port-blocked"
    assert "object_manager port 31049" in cause.what
    assert "iptables" in cause.remedy


def test_a_proxy_that_accepts_for_a_port_that_is_shut_behind_it() -> None:
    site = FakeSite()
    site.port(WORKER, 31050, node="ray-gpu", speaks="unknown", detail="it accepts, and says nothing within 2 s")
    cause = first(site)
    assert cause.key == "port-blocked"
    assert "runtime_env_agent port 31050" in cause.what


def test_a_port_that_is_shut_even_on_the_node_itself() -> None:
    site = FakeSite()
    site.port(WORKER, 31050, outcome="timeout", detail="no answer within 2 s", speaks=None)
    cause = first(site)
    assert cause.key == "port-blocked"
    assert "own runtime_env_agent port 31050" in cause.what


def test_worker_processes_that_come_and_go_are_no_fault() -> None:
    site = FakeSite()
    for node in ("ray-cpu", "ray-gpu"):
        site.port(WORKER, 31056, node=node, outcome="refused", detail="nothing listens there", speaks=None)
    assert suspect(site, WORKER) == []


def test_nothing_of_it_can_be_reached() -> None:
    site = FakeSite()
    for port in site.expected[WORKER].ports.values():
        site.port(WORKER, port, node="ray-cpu", outcome="timeout", detail="no answer within 2 s", speaks=None)
    assert first(site).key == "host-unreachable"


# Who may join


def test_it_has_no_token() -> None:
    site = FakeSite()
    environment(site, RAY_AUTH_MODE=None, RAY_AUTH_TOKEN_PATH=None)
    cause = first(site)
    assert cause.key == "token-missing"
    assert "RAY_AUTH_MODE" in cause.what


@pytest.mark.parametrize("words", ["can't be read (No such file or directory)", "is empty"])
def test_the_token_file_is_missing_or_empty(words: str) -> None:
    site = FakeSite()
    site.logs[WORKER] = f"✗ RAY_AUTH_TOKEN_PATH=/run/secrets/ray_token {words}\n"
    site.change(WORKER, state="exited", exit_code=2)
    assert first(site).key == "token-missing"


def test_the_head_refuses_its_token_says_its_log() -> None:
    site = FakeSite()
    site.logs[WORKER] = "✗ the head refuses this node's token: give every node the token file that the head has\n"
    assert first(site).key == "token-wrong"


def test_a_refusal_that_is_over_is_no_cause() -> None:
    site = FakeSite()
    site.logs[WORKER] = "✗ the head refuses this node's token\n✓ Ray is up after 3.1 s\n"
    assert suspect(site, WORKER) == []


@pytest.mark.parametrize(("said", "key"), [("wrong", "token-wrong"), ("missing", "token-missing")])
def test_the_entry_refuses_its_token(said: str, key: str) -> None:
    site = FakeSite()
    site.port("ray-cpu", 6379, speaks="gcs", token=said)
    cause = first(site)
    assert cause.key == key
    assert WORKER in cause.what


def test_rays_own_words_on_versions() -> None:
    site = FakeSite()
    site.logs[WORKER] = MISMATCH
    found = certain(site, WORKER)
    assert [cause.key for cause in found[:2]] == ["ray-version", "python-version"]
    assert "Ray 2.59.0" in found[0].what
    assert "Ray 2.60.0" in found[0].what


def test_versions_that_the_agents_say_of_a_node_that_has_not_joined() -> None:
    site = FakeSite()
    site.board.rows = site.board.rows[:2]
    site.logs[WORKER] = "→ Ray 2.59.0, Python 3.11.9, advertised as test-ray-worker\n"
    assert first(site).key == "ray-version"


def test_the_whole_banner_may_differ_in_pythons_patch_release() -> None:
    site = FakeSite()
    site.board.rows = site.board.rows[:2]
    site.logs[WORKER] = "→ Ray 2.60.0, Python 3.11.9, advertised as test-ray-worker\n"
    assert suspect(site, WORKER) == []


# Addresses


def test_head_address_is_the_ray_client_port() -> None:
    site = FakeSite()
    environment(site, HEAD_ADDRESS="ray-cpu:10001")
    cause = first(site)
    assert cause.key == "wrong-port-client"
    assert "ray-cpu:10001" in cause.what
    assert "ray-cpu:6379" in cause.remedy


@pytest.mark.parametrize(("speaks", "key"), [("client", "wrong-port-client"), ("dashboard", "wrong-port")])
def test_something_else_answers_at_head_address(speaks: str, key: str) -> None:
    site = FakeSite()
    environment(site, HEAD_ADDRESS="ray-cpu:7777")
    site.port("ray-cpu", 7777, speaks=speaks)
    assert first(site).key == key


@pytest.mark.parametrize(
    ("found", "key"),
    [
        ({"outcome": "refused", "detail": "nothing listens there"}, "entry-dead"),
        ({"outcome": "timeout", "detail": "no answer within 5 s"}, "host-unreachable"),
        ({"outcome": "unresolved", "ip": None, "detail": "it does not resolve"}, "name-unknown"),
        ({"outcome": "timeout", "ip": "192.0.2.7", "detail": "no answer within 5 s"}, "name-wrong"),
    ],
)
def test_nobody_answers_at_head_address(found: dict[str, str | None], key: str) -> None:
    site = FakeSite()
    site.port("ray-cpu", 6379, speaks=None, **found)
    assert first(site).key == key


@pytest.mark.parametrize(
    ("obstacle", "key"),
    [
        ("the name 'ray-x' does not resolve here; give this container …", "name-unknown"),
        ("ray-cpu:6399 (172.17.0.1) refuses the connection: nothing listens there", "entry-dead"),
        ("ray-cpu:6379 (192.0.2.7) does not answer: packets vanish", "host-unreachable"),
    ],
)
def test_it_has_given_up_and_said_why(obstacle: str, key: str) -> None:
    site = FakeSite()
    site.logs[WORKER] = f"✗ no head within 120 s (WAIT_FOR_HEAD): {obstacle}\n"
    site.change(WORKER, state="exited", exit_code=4)
    assert first(site).key == key


# What the nodes are


@pytest.mark.parametrize("name", [WORKER, "ray-gpu"])
def test_it_is_paused(name: str) -> None:
    site = FakeSite()
    site.change(name, state="paused")
    cause = first(site, name)
    assert cause.key == "node-paused"
    assert "docker unpause" in cause.remedy


def test_there_is_no_container() -> None:
    site = FakeSite()
    site.remove(WORKER)
    assert first(site).key == "node-missing"


def test_it_ended_out_of_memory() -> None:
    site = FakeSite()
    site.change(WORKER, state="exited", exit_code=137, detail="out of memory")
    cause = first(site)
    assert cause.key == "node-exited"
    assert "137" in cause.what
    assert "out of memory" in cause.what


def killed(site: FakeSite) -> None:
    site.change("ray-cpu", state="exited", exit_code=137, published=frozenset())


def replaced(site: FakeSite) -> None:
    site.heads = [Head("ray-gpu", "ray-gpu:6380", 4)]


def killed_and_replaced(site: FakeSite) -> None:
    killed(site)
    replaced(site)


def restarted(site: FakeSite) -> None:
    site.heads = [Head("ray-cpu", "ray-cpu:6379", 4)]


@pytest.mark.parametrize("fault", [killed, replaced, killed_and_replaced, restarted])
def test_the_head_was_lost(fault: Callable[[FakeSite], None]) -> None:
    site = FakeSite()
    fault(site)
    cause = first(site)
    assert cause.key == "head-lost"
    assert "ray-cpu" in cause.what


def test_a_head_that_dies_while_its_ports_are_looked_at_is_the_cause_not_its_ports() -> None:
    site = FakeSite()
    site.port("ray-cpu", 6379, outcome="refused", speaks=None, detail="nothing listens there")
    assert first(site).key == "entry-dead"
    probe = site.netprobe("test-ray-worker")

    def dies(params: Mapping[str, Any]) -> Sequence[Event]:
        site.change("ray-cpu", state="exited", exit_code=137)
        return probe(params)

    site.says("netprobe", dies)
    assert first(site).key == "head-lost"


def test_the_head_is_paused() -> None:
    site = FakeSite()
    site.change("ray-cpu", state="paused")
    cause = first(site)
    assert cause.key == "node-paused"
    assert "ray-cpu" in cause.what


def test_nobody_leads() -> None:
    site = FakeSite()
    site.heads, site.first_head, site.lease_answer = [None], None, {}
    assert first(site).key == "no-leader"


def test_the_health_server_is_down() -> None:
    site = FakeSite()
    site.lease_answer = None
    site.change("health", state="exited", exit_code=0)
    cause = first(site, "ray-gpu")
    assert cause.key == "health-down"
    assert "made-up-health" in cause.what
    assert suspect(site, WORKER) == []  # which joins by HEAD_ADDRESS, and so does without


def test_a_second_container_has_its_hostname() -> None:
    site = FakeSite()
    site.others["made-up-twin"] = replace(site.containers[WORKER], published=frozenset())
    cause = first(site)
    assert cause.key == "name-twice"
    assert "made-up-twin" in cause.what


def test_its_hostname_is_another_nodes() -> None:
    site = FakeSite()
    site.change(WORKER, hostname="ray-gpu")
    assert first(site).key == "name-twice"


def test_the_gcs_knows_two_of_its_name() -> None:
    site = FakeSite()
    site.board.rows.append(ray_node(WORKER, node_id="feedfeed"))
    cause = first(site)
    assert cause.key == "name-twice"
    assert "feedfeed" in cause.what


@pytest.mark.parametrize("fault", [{"hostname": "ray-elsewhere"}, {"environment": {"HEAD_WHITELIST": "ray-cpu"}}])
def test_whitelist_and_hostname_differ(fault: dict[str, object]) -> None:
    site = FakeSite()
    if "environment" in fault:
        environment(site, "ray-gpu", HEAD_WHITELIST="ray-cpu")
    else:
        site.change("ray-gpu", **fault)
    assert first(site, "ray-gpu").key == "not-in-whitelist"


def test_an_external_node_in_the_whitelist() -> None:
    site = FakeSite()
    environment(site, HEAD_WHITELIST=f"ray-cpu,{WORKER}")
    cause = first(site)
    assert cause.key == "environment-differs"
    assert "nodes.head_whitelist" in cause.remedy


def test_an_external_node_with_another_hostname_or_other_ports() -> None:
    site = FakeSite()
    site.change(WORKER, hostname="somebody")
    assert first(site).key == "environment-differs"
    site = FakeSite()
    environment(site, WS_NODE_PORTS="node_manager=1")
    cause = first(site)
    assert cause.key == "environment-differs"
    assert "WS_NODE_PORTS" in cause.what


def test_shared_memory_does_not_hold_the_object_store() -> None:
    site = FakeSite()
    site.change(WORKER, shm_size=64 << 20)
    cause = first(site)
    assert cause.key == "shm-small"
    assert "64 MiB" in cause.what
    assert "shm_size: 1330m" in cause.remedy


def test_the_machine_is_too_slow() -> None:
    site = FakeSite()
    site.logs[WORKER] = "✗ Ray did not start within 120 s\n"
    assert first(site).key == "overloaded"


def test_it_was_marked_dead_and_nothing_tells_why() -> None:
    site = FakeSite()
    site.board.rows[2] = ray_node(WORKER, alive=False)
    assert first(site, symptom="it vanished").key == "node-dead"


def test_without_a_dashboard_there_is_still_a_diagnosis() -> None:
    site = FakeSite()
    site.board.problem = EnvironmentProblem("the dashboard does not answer")
    unpublish(site, 31049)
    assert first(site).key == "port-blocked"


def test_ports_in_words() -> None:
    assert spans([5, 1, 2, 3, 9]) == "1-3, 5, 9"


def test_a_joiner_that_is_not_there_is_no_cause_but_the_head_that_was_lost_is() -> None:
    site = FakeSite()
    assert certain(site, "test-ray-joiner") == []
    site.change("ray-cpu", state="exited", exit_code=137)
    assert [cause.key for cause in certain(site, "test-ray-joiner")] == ["head-lost"]
