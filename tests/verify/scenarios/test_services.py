"""Services on a site that is made up, with a health server that answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.engine.fake_engine import answering
from tests.verify.fake_site import EVERYONE, FakeSite, bad, performed, ray_node
from ws.errors import EnvironmentProblem
from ws.verify.scenarios import reached, services

HEALTH: dict[str, Any] = {"/": b"OK", "/lease": 401}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_NODE_PATIENCE", 0.0)


@contextmanager
def site_with(answers: dict[str, Any]) -> Iterator[FakeSite]:
    site = FakeSite()
    with answering(answers) as url:
        site.expect("health", published=frozenset({url.removeprefix("http://"), "172.17.0.1:8080"}))
        yield site


def test_a_healthy_cluster_passes() -> None:
    with site_with(HEALTH) as site:
        checks = performed(services, site)
    assert bad(checks) == {}
    assert checks["the health server answers this machine"].evidence == "200 OK"
    assert checks["the logs of ray-gpu can be read through the dashboard"].evidence == "1 files; raylet.out: 9 bytes read"
    assert "the dashboard at ray-gpu:8266 answers the test network" in checks


def test_a_health_server_that_is_stopped() -> None:
    site = FakeSite()
    site.expect("health", published=frozenset({"127.0.0.1:1"}))
    site.change("health", state="exited", exit_code=0)
    site.lease_answer = None
    site.port("health", 8080, outcome="refused", speaks=None)
    checks = performed(services, site)
    found = bad(checks)
    assert set(map(tuple, found.values())) == {("health-down",)}
    assert len(found) == 4
    assert "docker start made-up-health" in checks["the health server answers this machine"].causes[0].remedy


def test_a_health_server_that_says_something_else() -> None:
    with site_with({"/": 500, "/lease": 401}) as site:
        checks = performed(services, site)
    assert bad(checks) == {"the health server answers this machine": ["health-down"]}


def test_a_lease_that_everyone_may_see() -> None:
    with site_with({"/": b"OK", "/lease": {"lease": None}}) as site:
        assert bad(performed(services, site)) == {"the lease is shown to holders of the token alone": ["token-off"]}


@pytest.mark.parametrize(
    ("found", "key"),
    [
        ({"outcome": "unresolved", "ip": None, "speaks": None}, "name-unknown"),
        ({"outcome": "timeout", "ip": "192.0.2.1", "speaks": None}, "name-wrong"),
        ({"outcome": "timeout", "speaks": None}, "port-blocked"),
        ({"outcome": "refused", "speaks": None}, "health-down"),
        ({"outcome": "open", "speaks": "http"}, "wrong-port"),
    ],
)
def test_health_from_the_test_network(found: dict[str, Any], key: str) -> None:
    with site_with(HEALTH) as site:
        site.port("health", 8080, node="test-ray-client", **found)
        checks = performed(services, site)
    assert bad(checks) == {"the health at health:8080 answers the test network": [key]}


def test_an_entry_that_is_not_published() -> None:
    with site_with(HEALTH) as site:
        site.change("ray-gpu", published=frozenset())
        site.port("ray-gpu", 8266, outcome="refused", speaks=None)
        assert bad(performed(services, site)) == {"the dashboard at ray-gpu:8266 answers the test network": ["entry-dead"]}


def test_a_host_that_lets_nothing_in() -> None:
    with site_with(HEALTH) as site:
        for host, port in (("health", 8080), ("ray-cpu", 8265), ("ray-gpu", 8266)):
            site.port(host, port, node="test-ray-client", outcome="timeout", speaks=None)
        found = bad(performed(services, site))
    assert list(found.values()) == [["host-unreachable"]] * 3


def test_a_name_that_docker_has_lost() -> None:
    with site_with(HEALTH) as site:
        site.port("ray-cpu", 8265, node="test-ray-client", outcome="unresolved", ip=None, speaks=None)
        check = performed(services, site)["the dashboard at ray-cpu:8265 answers the test network"]
    assert check.causes[0].remedy.endswith("`docker restart made-up-test-client`")


def test_a_dashboard_that_the_test_network_does_not_reach() -> None:
    with site_with(HEALTH) as site:
        site.port("ray-gpu", 8266, outcome="timeout", speaks=None)
        assert bad(performed(services, site)) == {"the dashboard at ray-gpu:8266 answers the test network": ["port-blocked"]}


def test_a_paused_client_is_said_and_nothing_is_asked_of_it() -> None:
    with site_with(HEALTH) as site:
        site.change("test-ray-client", state="paused")
        found = bad(performed(services, site))
        assert set(map(tuple, found.values())) == {("node-paused",)}
        assert not [node for node, _ in site.ran if node == "test-ray-client"]


def test_a_probe_that_breaks_is_inconclusive_with_its_reason() -> None:
    with site_with(HEALTH) as site:
        site.says("netprobe", [{"event": "broken", "why": "python3: not found"}], node="test-ray-client")
        checks = performed(services, site)
    assert set(map(tuple, bad(checks).values())) == {("inconclusive",)}
    assert "python3: not found" in checks["the health at health:8080 answers the test network"].evidence


def test_a_dashboard_that_is_down_with_its_head() -> None:
    with site_with(HEALTH) as site:
        site.board.problem = EnvironmentProblem("the dashboard at x does not answer", "refused")
        site.change("ray-cpu", state="exited", exit_code=137)
        checks = performed(services, site)
    keys = [cause.key for cause in checks["the dashboard answers this machine"].causes]
    assert keys == ["node-exited", "dashboard-down"]


def test_what_answers_at_the_second_look_is_no_failure() -> None:
    """A busy machine: one health answer, one dashboard, one log and one lease come late."""
    with site_with(HEALTH) as site:
        asked: set[str] = set()

        def once(name: str, usual: Any) -> Any:
            def look(*args: Any) -> Any:
                if name not in asked:
                    asked.add(name)
                    raise EnvironmentProblem(f"{name} is late")
                return usual(*args)

            return look

        for name in ("nodes", "log_files", "refuses_strangers"):
            setattr(site.board, name, once(name, getattr(site.board, name)))
        answer, leases = site.lease, [None]
        site.lease = lambda: leases.pop() if leases else answer()
        looks: list[object] = []

        def slow_once(params: Any) -> Any:
            looks.append(params)
            late = {"outcome": "timeout", "speaks": None} if len(looks) == 1 else {}
            return [event | late for event in site.netprobe("test-ray-client")(params)]

        site.says("netprobe", slow_once, node="test-ray-client")
        assert bad(performed(services, site)) == {}
    assert len(asked) == 3
    assert len(looks) == 2


def test_a_health_server_that_refuses_once() -> None:
    with site_with(HEALTH) as site:
        get, refused = reached._get, [True]

        def once(url: str) -> Any:
            if refused:
                refused.pop()
                raise EnvironmentProblem("it refuses", "nobody listens")
            return get(url)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reached, "_get", once)
            assert bad(performed(services, site)) == {}


def test_a_dashboard_without_a_token() -> None:
    with site_with(HEALTH) as site:
        site.board.guarded = False
        assert bad(performed(services, site)) == {"the dashboard's API refuses who has no token": ["token-off"]}


def test_a_node_that_is_not_shown() -> None:
    with site_with(HEALTH) as site:
        site.change("test-ray-worker", state="paused")
        site.board.rows[2] = ray_node("test-ray-worker", alive=False)
        found = bad(performed(services, site))
    assert found["the dashboard shows test-ray-worker alive"][0] == "node-paused"
    assert found["the logs of test-ray-worker can be read through the dashboard"] == ["node-paused"]


def test_logs_that_can_not_be_listed_name_the_port() -> None:
    with site_with(HEALTH) as site:
        site.board.logs[b"test-ray-worker".hex()] = {}
        check = performed(services, site)["the logs of test-ray-worker can be read through the dashboard"]
    assert [cause.key for cause in check.causes] == ["port-blocked"]
    assert "31051" in check.causes[0].remedy


def test_an_empty_log_is_no_log() -> None:
    with site_with(HEALTH) as site:
        site.board.logs[EVERYONE] = {"raylet.out": b""}
        found = bad(performed(services, site))
    assert len(found) == 3
