"""From what a user wrote to what answers there, over real servers of every kind."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.cluster.strangers import TOKEN, dashboard_answers, dripping, grpc_server, http, saying, silence, tcp
from tests.cluster.test_ray_rpc import OK, gcs_methods
from tests.ports import free_port
from ws.cluster import address
from ws.cluster.address import Target, parse, resolve
from ws.cluster.dashboard import NoDashboard, TokenRefused
from ws.cluster.endpoint import Endpoint
from ws.cluster.protocol import Speaks
from ws.errors import EnvironmentProblem, UsageError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:6379", Target("", "127.0.0.1", 6379)),
        (" ray-cpu ", Target("", "ray-cpu", None)),
        ("ray://ray-cpu:10001", Target("ray", "ray-cpu", 10001)),
        ("RAY://h:1/", Target("ray", "h", 1)),
        ("http://h:8265/", Target("http", "h", 8265)),
        ("[::1]:6379", Target("", "::1", 6379)),
    ],
)
def test_addresses_that_are_understood(text: str, target: Target) -> None:
    assert parse(text) == target
    assert parse(str(target)) == target


@pytest.mark.parametrize(
    "text",
    ["", "a b", "h:0", "h:65536", "h:x", "ftp://h:1", "::1", "http://h:1/path", "u:p@h:1", "h:1:2", "x" * 400, "ray://"],
)
def test_what_is_no_address_is_wrong_use_with_what_would_be_right(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert "127.0.0.1:6379" in str(caught.value.mend)
    assert "u:p" not in str(caught.value)


def test_without_a_port_the_likeliest_are_tried_first() -> None:
    assert parse("h").ports == (6379, 8265, 8266, 8267, 8268, 8269, 10001)
    assert parse("ray://h").ports[0] == 10001
    assert parse("http://h").ports == (8265, 8266, 8267, 8268, 8269)
    assert parse("h:1").ports == (1,)


def test_a_dashboard_is_taken_as_such_and_what_was_mixed_up_is_noted() -> None:
    with http(dashboard_answers()) as at:
        route = resolve(parse(str(at)))
        corrected = resolve(parse(f"ray://{at}"))
    assert (route.speaks, route.dashboard, route.notes) == (Speaks.dashboard, f"http://{at}", ())
    assert (route.versions.ray, route.versions.python) == ("2.60.0", "3.11.7")
    assert corrected.notes == (f"{at} is a dashboard, not Ray Client: taken as http://{at}",)


def test_another_ray_version_is_no_obstacle_to_watching_by_the_dashboard() -> None:
    with http(dashboard_answers(ray="2.9.3")) as at:
        assert resolve(parse(str(at))).versions.ray == "2.9.3"


def test_without_a_port_the_one_that_answers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with http(dashboard_answers()) as at:
        monkeypatch.setattr(address, "DASHBOARD_PORTS", (free_port(), at.port))
        monkeypatch.setattr(address, "GCS_PORT", free_port())
        assert resolve(parse("127.0.0.1")).at == at


@pytest.mark.parametrize(("given", "what"), [("", "wants a token"), ("wrong", "refuses this token")])
def test_a_missing_and_a_wrong_token_are_told_apart(given: str, what: str) -> None:
    with http(dashboard_answers(auth="token"), TOKEN) as at, pytest.raises(TokenRefused, match=what) as caught:
        resolve(parse(str(at)), given)
    assert "--token-file" in str(caught.value.mend)


def test_the_right_token_leads_in() -> None:
    with http(dashboard_answers(auth="token"), TOKEN) as at:
        assert resolve(parse(str(at)), TOKEN).dashboard == f"http://{at}"


def test_a_dashboard_that_has_lost_its_gcs_is_no_cluster() -> None:
    answers = {**dashboard_answers(), "/api/gcs_healthz": 503}
    with http(answers) as at, pytest.raises(EnvironmentProblem, match="has lost its GCS"):
        resolve(parse(str(at)))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("closed", "nothing listens there"),
        ("silent", "accepts connections there, and says nothing"),
        ("drips", ""),
        ("ssh", "no part of a Ray cluster"),
        ("http", "no Ray dashboard"),
    ],
)
def test_what_is_no_cluster_is_said_to_be_what_it_is(kind: str, why: str) -> None:
    with ExitStack() as ends:
        servers = {
            "silent": lambda: tcp(silence),
            "drips": lambda: tcp(dripping),
            "ssh": lambda: tcp(saying(b"SSH-2.0-OpenSSH_9.2\r\n")),
            "http": lambda: http({"/": "hello"}),
        }
        at = f"127.0.0.1:{free_port()}" if kind == "closed" else str(ends.enter_context(servers[kind]()))
        with pytest.raises(EnvironmentProblem, match="no Ray cluster answers at") as caught:
            resolve(parse(at), timeout=0.5)
    assert why in str(caught.value.why)
    assert isinstance(caught.value, NoDashboard) == (kind in {"http", "drips"})


def test_what_answers_beside_it_is_named_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with http(dashboard_answers()) as at:
        monkeypatch.setattr(address, "GCS_PORT", free_port())
        monkeypatch.setattr(address, "CLIENT_PORT", free_port())
        monkeypatch.setattr(address, "DASHBOARD_PORTS", (at.port,))
        with pytest.raises(EnvironmentProblem) as caught:
            resolve(parse(f"127.0.0.1:{free_port()}"))
    assert caught.value.mend == f"a dashboard answers at {at}: --address {at}"


def test_a_host_without_any_cluster_is_told_with_the_ports_that_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [free_port() for _ in range(3)]
    monkeypatch.setattr(address, "GCS_PORT", ports[0])
    monkeypatch.setattr(address, "DASHBOARD_PORTS", (ports[1],))
    monkeypatch.setattr(address, "CLIENT_PORT", ports[2])
    with pytest.raises(EnvironmentProblem, match=f"ports {ports[0]}, {ports[1]}, {ports[2]}"):
        resolve(parse("127.0.0.1"))


def test_a_name_that_is_no_hosts_is_told_as_that() -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        resolve(parse("no-such-host.invalid:6379"))
    assert str(caught.value.why).startswith("no-such-host.invalid: ")


def test_the_gcs_of_a_dashboard_is_known_only_where_it_is_of_the_same_cluster() -> None:
    other = {**gcs_methods(), "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo": lambda _: OK}
    other["/ray.rpc.InternalKVGcsService/InternalKVGet"] = lambda _: OK
    with http(dashboard_answers()) as at, grpc_server(gcs_methods()) as gcs, grpc_server(other) as stranger:
        assert resolve(parse(str(at)), gcs=gcs).gcs == gcs
        assert resolve(parse(str(at)), gcs=stranger).gcs is None
        assert resolve(parse(str(at)), gcs=Endpoint("127.0.0.1", free_port())).gcs is None
