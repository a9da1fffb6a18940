"""Why a Ray Client does not get in, on a site that is made up: each fault alone, and the true cause first."""

from __future__ import annotations

import json

import pytest

from tests.verify.fake_site import HOST, FakeSite
from ws.errors import CommandFailed
from ws.verify import diagnose_again
from ws.verify.causes import TITLES
from ws.verify.diagnose_client import client_name, diagnose_client
from ws.verify.programs import Event
from ws.verify.verdict import Cause

CLIENT = "test-ray-client"


@pytest.fixture(autouse=True)
def second_look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose_again, "PATIENCE", 0.0)


def healthy() -> FakeSite:
    site = FakeSite()
    for host, port in (("ray-cpu", 10001), ("ray-gpu", 10002)):
        site.port(host, port, speaks="client", token="right")
    versions(site, "2.60.0", "3.11.7")
    site.logs[CLIENT] = ""
    return site


def versions(site: FakeSite, ray: str, python: str, node: str = "*") -> None:
    site.answer("ray.__version__", json.dumps({"ray": ray, "python": python}), node=node)


def first(site: FakeSite, events: tuple[Event, ...] = (), address: str = "") -> Cause:
    causes = diagnose_client(site, events, address)
    assert all(cause.key in TITLES and cause.what and cause.remedy for cause in causes)
    return causes[0]


def test_where_all_is_well_it_tells_what_the_client_said() -> None:
    said = {"event": "check", "check": "init", "ok": False, "detail": "ConnectionError: the server hung up"}
    cause = first(healthy(), (said,))
    assert cause.key == "ray-error"
    assert "the server hung up" in cause.what


def test_the_log_speaks_where_the_program_did_not() -> None:
    site = healthy()
    site.logs[CLIENT] = "→ testing ray-cpu\n✗ something odd\n"
    assert "something odd" in first(site).what


def test_a_site_without_a_client() -> None:
    site = FakeSite()
    del site.expected[CLIENT]
    with pytest.raises(KeyError):
        client_name(site)


def test_it_has_no_token() -> None:
    site = healthy()
    site.change(CLIENT, environment={})
    assert first(site).key == "token-missing"


@pytest.mark.parametrize(("said", "key"), [("wrong", "token-wrong"), ("missing", "token-missing")])
def test_the_server_refuses_its_token(said: str, key: str) -> None:
    site = healthy()
    site.port("ray-cpu", 10001, speaks="client", token=said)
    assert first(site).key == key


def test_it_was_given_the_gcs_port_by_its_environment() -> None:
    site = healthy()
    entries = json.dumps([{"name": "ray-cpu", "gcs": 6379, "client": 6379}])
    site.change(CLIENT, environment={**site.containers[CLIENT].environment, "WS_CLIENT_ENTRIES": entries})
    cause = first(site)
    assert cause.key == "wrong-port-gcs"
    assert "ray-cpu:6379" in cause.what
    assert "ray-cpu:10001" in cause.remedy


@pytest.mark.parametrize(("speaks", "key"), [("gcs", "wrong-port-gcs"), ("dashboard", "wrong-port")])
def test_it_was_given_another_servers_port(speaks: str, key: str) -> None:
    site = healthy()
    site.port("ray-cpu", 7777, speaks=speaks)
    assert first(site, address="ray-cpu:7777").key == key


@pytest.mark.parametrize(
    ("found", "key"),
    [
        ({"outcome": "refused", "detail": "nothing listens there"}, "entry-dead"),
        ({"outcome": "timeout", "detail": "no answer within 5 s"}, "host-unreachable"),
        ({"outcome": "timeout", "ip": "192.0.2.7", "detail": "no answer within 5 s"}, "name-wrong"),
        ({"outcome": "unresolved", "ip": None, "detail": "it does not resolve"}, "name-unknown"),
    ],
)
def test_the_entry_cannot_be_reached(found: dict[str, str | None], key: str) -> None:
    site = healthy()
    site.port("ray-cpu", 10001, speaks=None, **found)
    assert first(site).key == key


def test_its_extra_hosts() -> None:
    site = healthy()
    site.change(CLIENT, extra_hosts={})
    cause = first(site)
    assert cause.key == "name-unknown"
    assert f"ray-cpu:{HOST}" in cause.remedy
    site.change(CLIENT, extra_hosts=dict.fromkeys(("ray-cpu", "ray-gpu"), "192.0.2.7"))
    assert first(site).key == "name-wrong"


def test_its_python_or_its_ray_differs() -> None:
    site = healthy()
    versions(site, "2.60.0", "3.12.1", node=CLIENT)
    cause = first(site)
    assert cause.key == "python-version"
    assert "3.12.1" in cause.what
    assert "3.11.7" in cause.what
    versions(site, "2.59.0", "3.11.2", node=CLIENT)
    assert first(site).key == "ray-version"
    versions(site, "2.60.0", "3.11.2", node=CLIENT)
    assert first(site).key == "ray-error"


def test_a_client_without_any_ray_has_a_python_still() -> None:
    site = healthy()
    site.answer("import json, platform;", json.dumps({"python": "3.13.5"}), node=CLIENT)
    site.fails("ray.__version__", CommandFailed(["python3"], 1, "No module named 'ray'"), node=CLIENT)
    assert first(site).key == "python-version"


def test_the_container_is_gone_or_paused_or_has_ended() -> None:
    site = healthy()
    site.change(CLIENT, state="paused")
    assert first(site).key == "node-paused"
    site.change(CLIENT, state="exited", exit_code=1)
    assert first(site).key == "node-exited"
    site.remove(CLIENT)
    assert first(site).key == "node-missing"


def test_the_head_was_lost() -> None:
    site = healthy()
    site.change("ray-cpu", state="exited", exit_code=137)
    assert first(site).key == "head-lost"


def test_an_entry_is_not_published() -> None:
    site = healthy()
    seen = site.containers["ray-cpu"]
    site.change("ray-cpu", published=frozenset(place for place in seen.published if not place.endswith(":10001")))
    cause = first(site)
    assert cause.key == "port-blocked"
    assert "client port 10001" in cause.what
