"""The scenario ray-client on a site that is made up."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.verify.fake_site import FakeSite, bad, performed
from ws.verify import outside, outside_moves, programs
from ws.verify.programs import Event
from ws.verify.scenarios import ray_client

CLIENT = "test-ray-client"
VERSIONS = {"ray": "2.60.0", "python": "3.11.7"}
REFUSED = "a client without the token is refused"
DEADLINES = {scenario.name: scenario.deadline for scenario in outside.SCENARIOS}


def checked(name: str, entry: str, ok: bool = True, **fields: Any) -> Event:
    said = {"detail": f"{name} of {entry}", "cause": None, "seconds": 0.5, "evidence": {}, **fields}
    return {"event": "check", "check": name, "entry": entry, "ok": ok, **said}


class ClientSite(FakeSite):
    """`changed[name]` changes what its client says of that check, `refused` is its answer without the token."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[str, Event] = {}
        self.asked = 0
        self.refused: Event | None = {
            "event": "refused",
            "entry": "ray-cpu",
            "ok": True,
            "how": "UNAUTHENTICATED",
            "seconds": 3.0,
        }
        self.last = ""
        self.cuts = 0  # times that `init` is cut
        self.logs[CLIENT] = ""
        self.says("client", self.client)
        self.answer("ray.__version__", json.dumps(VERSIONS))
        for host, port in (("ray-cpu", 10001), ("ray-gpu", 10002)):
            self.port(host, port, speaks="client", token="right")
        self.says("netprobe", self.netprobe(CLIENT))

    def client(self, params: Mapping[str, Any]) -> Sequence[Event]:
        if params.get("without_token"):
            return [self.refused] if self.refused else [{"event": "broken", "why": "Error: no"}]
        name = params["entries"][0]["name"]
        events: list[Event] = [{"event": "versions", "mine": VERSIONS, "cluster": VERSIONS}]
        self.asked += 1
        if self.cuts:
            self.cuts -= 1
            return [*events, checked("init", name, False, detail="ray.init: no answer within 30 s", cause="ray-error")]
        for check in ray_client._WORDS:
            events.append({**checked(check, name), **self.changed.get(check, {})})
            if check == self.last:
                break
        return events


def test_all_entries_and_the_refusal() -> None:
    checks = performed(ray_client, ClientSite())
    assert bad(checks) == {}
    assert len(checks) == 2 * (1 + len(ray_client._WORDS)) + 1
    assert checks["the client's program runs for ray-cpu"].evidence == (
        "here: Ray 2.60.0, Python 3.11.7; the cluster: Ray 2.60.0, Python 3.11.7"
    )
    assert "ray-gpu" in checks["an actor, by ray-gpu"].evidence


def test_what_comes_after_a_failure_was_not_seen() -> None:
    site = ClientSite()
    site.last = "client-port"
    site.changed["client-port"] = {"ok": False, "detail": "port 10001 refuses", "cause": "entry-dead"}
    site.port("ray-cpu", 10001, outcome="refused", detail="nothing listens there", speaks=None)
    found = bad(performed(ray_client, site))
    assert found["the Ray Client entry of ray-cpu is open, and a Ray Client server"] == ["entry-dead"]
    assert found["an actor, by ray-cpu"] == ["inconclusive"]


def test_the_clients_own_finding_counts_where_nothing_else_was_found() -> None:
    site = ClientSite()
    site.changed["ping"] = {"ok": False, "detail": "ray-cpu does not answer", "cause": "host-unreachable"}
    found = bad(performed(ray_client, site))
    assert found["ray-cpu answers ping"] == ["host-unreachable"]


def test_a_task_on_a_joiner_that_leaves_is_no_failure() -> None:
    site = ClientSite()
    site.changed["tasks"] = {"ok": False, "evidence": {"failed": ["test-ray-joiner"]}}
    assert bad(performed(ray_client, site)) == {}
    site.changed["tasks"] = {"ok": False, "evidence": {"failed": ["test-ray-joiner", "ray-gpu"]}}
    assert "a task on every node, by ray-cpu" in bad(performed(ray_client, site))


def test_the_entries_of_the_clients_own_environment_are_tried() -> None:
    site = ClientSite()
    entries = json.dumps([{"name": "ray-cpu", "gcs": 6379, "client": 6379}])
    site.change(CLIENT, environment={**site.containers[CLIENT].environment, "WS_CLIENT_ENTRIES": entries})
    site.last = "client-port"
    site.changed["client-port"] = {"ok": False, "detail": "the GCS answers there", "cause": "wrong-port-gcs"}
    found = bad(performed(ray_client, site))
    assert found["the Ray Client entry of ray-cpu is open, and a Ray Client server"] == ["wrong-port-gcs"]
    assert not any("ray-gpu" in what for what in found)


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ({"ok": False, "how": "a client without a token was let in"}, ["token-off"]),
        ({"ok": None, "how": "no answer"}, ["inconclusive"]),
        (None, ["inconclusive"]),
    ],
)
def test_a_client_without_a_token(refused: Event | None, expected: list[str]) -> None:
    site = ClientSite()
    site.refused = refused and {"event": "refused", "entry": "ray-cpu", "seconds": 1.0, **refused}
    assert bad(performed(ray_client, site)) == {REFUSED: expected}


def test_a_cluster_that_asks_for_no_token() -> None:
    site = ClientSite()
    for name in ("ray-cpu", "ray-gpu"):
        site.expect(name, environment={})
        site.change(name, environment={})
    assert bad(performed(ray_client, site)) == {REFUSED: ["token-off"]}


def test_connecting_that_was_too_slow_once_is_tried_again() -> None:
    site = ClientSite()
    site.cuts = 1
    assert bad(performed(ray_client, site)) == {}
    assert site.asked == 3


def test_connecting_that_is_too_slow_without_a_cause_is_inconclusive() -> None:
    site = ClientSite()
    site.cuts = 99
    checks = performed(ray_client, site)
    assert set(map(tuple, bad(checks).values())) == {("inconclusive",)}
    assert "no answer within 30 s" in checks['ray.init("ray://…") by ray-cpu'].evidence
    assert site.asked == 4


def test_connecting_that_is_too_slow_with_a_cause_fails_and_is_not_tried_again() -> None:
    site = ClientSite()
    site.cuts = 99
    site.change("ray-cpu", state="paused")
    assert bad(performed(ray_client, site))['ray.init("ray://…") by ray-cpu'] == ["node-paused"]
    assert site.asked == 2


def test_a_step_that_goes_wrong_fails_in_rays_words() -> None:
    site = ClientSite()
    site.changed["actor"] = {"ok": False, "detail": "RuntimeError: odd", "cause": "ray-error"}
    assert bad(performed(ray_client, site))["an actor, by ray-cpu"] == ["ray-error"]
    site.changed["actor"] = {"ok": False, "detail": "actor: no answer within 20 s", "cause": "ray-error"}
    assert bad(performed(ray_client, site))["an actor, by ray-cpu"] == ["inconclusive"]


def test_a_task_that_hangs_has_the_cause_of_its_node() -> None:
    site = ClientSite()
    site.changed["tasks"] = {"ok": False, "detail": "no answer in time", "evidence": {"failed": ["ray-gpu"]}}
    site.change("ray-gpu", state="paused")
    assert bad(performed(ray_client, site))["a task on every node, by ray-cpu"] == ["node-paused"]


@pytest.mark.parametrize(
    ("limit", "deadline", "program"),
    [
        (ray_client._LIMIT, ray_client.SCENARIO.deadline, "client"),
        (outside_moves._TRANSFER_LIMIT, DEADLINES["transfer"], "transfer"),
    ],
)
def test_the_limit_is_above_those_of_the_programs_steps(limit: float, deadline: float, program: str) -> None:
    text = (programs.FOLDER / f"{program}.py").read_text(encoding="utf-8")
    limits = next(
        ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LIMITS"
    )
    limits.pop("refused", None)
    assert sum(limits.values()) < limit
    assert deadline > 2 * limit


def test_a_program_that_breaks() -> None:
    site = ClientSite()
    site.says("client", [{"event": "broken", "why": "ImportError: no ray"}])
    site.change(CLIENT, state="paused")
    checks = performed(ray_client, site)
    assert bad(checks)["the client's program runs for ray-cpu"] == ["node-paused"]
    assert checks["the client's program runs for ray-cpu"].evidence == "ImportError: no ray"


def test_no_client() -> None:
    site = ClientSite()
    del site.expected[CLIENT]
    assert bad(performed(ray_client, site)) == {"there is a client outside": ["inconclusive"]}
