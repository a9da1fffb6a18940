"""Isolation on a site that is made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.verify.fake_site import HOST, INNER_PORT, MAIN, TEST, FakeSite, as_expected, bad, listening, performed
from ws.errors import StillRunning
from ws.verify.scenarios import isolation

CLOSED = "ports that are not published are closed at the host"


def test_a_healthy_cluster_passes() -> None:
    checks = performed(isolation, FakeSite())
    assert bad(checks) == {}
    assert checks["ray-cpu publishes what the config says"].evidence == f"16 bindings on 127.0.0.1, {HOST}"
    assert checks["ray-cpu can't be reached past the host"].evidence.startswith("none of 11 ports; for example 172.28.0.3:")
    assert checks["the published ports of ray-cpu can be reached"].evidence.startswith(
        "10 ports open: 6379, 8265, 10001, 31000"
    )


def test_a_binding_too_many_is_named_with_the_field() -> None:
    site = FakeSite()
    site.change("ray-cpu", published=site.expected["ray-cpu"].published | {"0.0.0.0:6379"})
    checks = performed(isolation, site)
    assert bad(checks) == {
        "ray-cpu publishes what the config says": ["published-too-much"],
        "nothing is open to other machines unless the config says so": ["published-too-much"],
    }
    cause = checks["ray-cpu publishes what the config says"].causes[0]
    assert "0.0.0.0:6379" in cause.what
    assert "network.publish_entries in config.yaml" in cause.remedy


def test_all_addresses_are_fine_where_the_config_says_so() -> None:
    site = FakeSite()
    for name, node in site.expected.items():
        site.expect(name, published=frozenset(f"0.0.0.0:{place.rpartition(':')[2]}" for place in node.published))
        if name in site.containers:
            site.change(name, published=site.expected[name].published)
    assert bad(performed(isolation, site)) == {}


@pytest.mark.parametrize(("port", "key"), [(31000, "block-not-published"), (6379, "entry-dead")])
def test_a_binding_that_is_missing(port: int, key: str) -> None:
    site = FakeSite()
    site.change("ray-cpu", published=site.expected["ray-cpu"].published - {f"{HOST}:{port}"})
    site.port(HOST, port, outcome="refused", detail="nothing listens there")
    checks = performed(isolation, site)
    assert bad(checks) == {
        "ray-cpu publishes what the config says": [key],
        "the published ports of ray-cpu can be reached": [key],
    }


def test_a_container_in_both_networks() -> None:
    site = FakeSite()
    site.change("test-ray-client", addresses={TEST: "172.30.0.7", MAIN: "172.28.0.9"})
    checks = performed(isolation, site)
    assert bad(checks) == {"test-ray-client is in its own network alone": ["not-isolated"]}
    remedy = checks["test-ray-client is in its own network alone"].causes[0].remedy
    assert remedy == f"`docker network disconnect {MAIN} made-up-test-client`"


def test_strangers_are_named_and_fail_where_they_join_the_networks() -> None:
    site = FakeSite()
    site.others["visitor"] = replace(as_expected(site.expected["ray-cpu"], 20), hostname="visitor")
    what = "no container leads from one network into the other"
    check = performed(isolation, site)[what]
    assert check.verdict == "pass"
    assert check.evidence == f"not of the config: visitor (hostname visitor, running) in {MAIN}"
    site.others["visitor"] = replace(site.others["visitor"], addresses={MAIN: "172.28.0.22", TEST: "172.30.0.22"})
    assert bad(performed(isolation, site)) == {what: ["not-isolated"]}


def test_an_inner_address_that_the_test_network_reaches() -> None:
    site = FakeSite()
    site.port("172.28.0.3", 31000, outcome="open")
    check = performed(isolation, site)["ray-cpu can't be reached past the host"]
    assert [cause.key for cause in check.causes] == ["not-isolated"]
    assert "172.28.0.3:31000" in check.causes[0].what


def test_a_published_port_that_is_blocked() -> None:
    site = FakeSite()
    site.port(HOST, 31001, outcome="timeout", detail="no answer within 2 s")
    check = performed(isolation, site)["the published ports of ray-cpu can be reached"]
    assert [cause.key for cause in check.causes] == ["port-blocked"]
    assert f"{HOST}:31001: timeout (no answer within 2 s)" in check.causes[0].what


def test_a_port_whose_proxy_gets_nowhere() -> None:
    site = FakeSite()
    site.port(HOST, 31001, outcome="open", speaks="unknown", detail="it accepts, and says nothing within 2 s")
    assert bad(performed(isolation, site)) == {"the published ports of ray-cpu can be reached": ["port-blocked"]}


def test_a_port_that_answers_at_the_second_look() -> None:
    site = FakeSite()
    looks = []

    def slow_once(params):
        looks.append(params)
        slow = {"speaks": "unknown"} if len(looks) == 1 else {}
        return [event | (slow if event["port"] == 31001 else {}) for event in site.netprobe("test-ray-client")(params)]

    site.says("netprobe", slow_once, node="test-ray-client")
    assert bad(performed(isolation, site)) == {}
    assert looks[1]["targets"] == [[HOST, 31001]]


def test_a_host_that_is_shut() -> None:
    site = FakeSite()
    for port in range(32000):
        site._ports["*", HOST, port] = {"outcome": "timeout"}
    checks = performed(isolation, site)
    assert [cause.key for cause in checks["the published ports of ray-gpu can be reached"].causes] == ["host-unreachable"]


@pytest.mark.parametrize(("speaks", "verdict"), [("gcs", {CLOSED: ["not-isolated"]}), ("http", {})])
def test_an_inner_port_that_is_open_at_the_host(speaks: str, verdict: dict[str, list[str]]) -> None:
    site = FakeSite()
    inner = frozenset(place for place in site.expected["ray-gpu"].published if "6380" not in place)
    site.expect("ray-gpu", published=inner)
    site.change("ray-gpu", published=inner)
    site.port(HOST, 6380, outcome="open", speaks=speaks)
    checks = performed(isolation, site)
    assert bad(checks) == verdict
    assert f"{HOST}:6380" in checks[CLOSED].evidence
    site.port(HOST, 6380, outcome="refused")
    checks = performed(isolation, site)
    assert bad(checks) == {}
    assert checks[CLOSED].evidence == f"2 ports that nodes listen on and nobody publishes are closed: 6380, {INNER_PORT}"


def test_what_a_node_listens_on_besides_is_open_at_the_host() -> None:
    site = FakeSite()
    site.port(HOST, INNER_PORT, outcome="open", speaks="grpc")
    checks = performed(isolation, site)
    assert bad(checks) == {CLOSED: ["not-isolated"]}
    assert f"{HOST}:{INNER_PORT}" in checks[CLOSED].causes[0].what
    assert "ray-gpu listens there" in checks[CLOSED].causes[0].what


def test_where_another_program_of_the_host_has_every_port_nothing_is_proven() -> None:
    site = FakeSite()
    site.port(HOST, INNER_PORT, outcome="open", speaks="http")
    assert bad(performed(isolation, site)) == {CLOSED: ["inconclusive"]}


def test_a_port_that_docker_publishes_unasked_fails_whatever_speaks_there() -> None:
    site = FakeSite()
    site.change("ray-gpu", published=site.expected["ray-gpu"].published | {f"{HOST}:{INNER_PORT}"})
    site.port(HOST, INNER_PORT, outcome="open", speaks="http")
    assert bad(performed(isolation, site))[CLOSED] == ["not-isolated"]


def test_where_all_that_nodes_listen_on_is_published_nothing_is_proven() -> None:
    site = FakeSite()
    for name, node in site.expected.items():
        site.answer("/proc/net/tcp", listening(*node.entries.values()), node=name)
    assert bad(performed(isolation, site))[CLOSED] == ["inconclusive"]


def test_what_listens_for_the_node_itself_alone_is_not_asked_for() -> None:
    assert set(isolation._open_ports(listening(80, 443, loopback=[25]))) == {80, 443}
    table = "0: 00000000000000000000000001000000:0050 0:0 0A\n1: 0000000000000000FFFF00000100007F:0051 0:0 0A\n"
    assert set(isolation._open_ports(table + "2: 00000000000000000000000000000000:0052 0:0 0A\n3: 0:0 0:0 01\n")) == {82}


def test_nothing_runs_on_a_paused_node() -> None:
    site = FakeSite()
    site.change("ray-gpu", state="paused")
    found = bad(performed(isolation, site))
    assert set(map(tuple, found.values())) == {("node-paused",)}
    assert not [node for node, _ in site.ran if node == "ray-gpu"]


def test_without_the_client_nothing_can_be_said_from_outside() -> None:
    site = FakeSite()
    site.remove("test-ray-client")
    assert bad(performed(isolation, site))["the test network reaches the published ports alone"] == ["node-missing"]


def test_a_node_that_can_not_be_looked_at_is_inconclusive() -> None:
    site = FakeSite()
    site.fails("/proc/net/tcp", StillRunning(["docker", "exec"], -1, "still running"), node="ray-gpu")
    found = bad(performed(isolation, site))
    assert set(map(tuple, found.values())) == {("inconclusive",)}
    assert len(found) == 2
