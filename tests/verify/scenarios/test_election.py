"""Self-election on a site that is made up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.verify.fake_site import ACTIVE, FakeSite, as_expected, bad, performed, ray_node
from ws.errors import EnvironmentProblem
from ws.verify.scenarios import election, joined
from ws.verify.site import Head


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for."""
    monkeypatch.setattr(election, "_PATIENCE", 0.0)
    monkeypatch.setattr(joined, "_JOIN_PATIENCE", 0.0)
    monkeypatch.setattr(joined, "_REPORT_PATIENCE", 0.0)


def view(mode: str = "worker", leader: str | None = "ray-cpu", epoch: int | None = 3, address: str = "ray-cpu:6379") -> str:
    return json.dumps({"name": "ray-gpu", "state": "up", "mode": mode, "address": address, "leader": leader, "epoch": epoch})


def test_a_healthy_cluster_passes_with_evidence_for_each() -> None:
    checks = performed(election, FakeSite())
    assert bad(checks) == {}
    assert checks["the lease has one holder, a candidate"].evidence == "ray-cpu, epoch 3, at ray-cpu:6379"
    assert checks["ray-gpu says in its log what it is"].evidence == "Mode: worker"
    assert (
        checks["`ray status` counts the same nodes"].evidence
        == "the 3 nodes that the GCS has alive: ray-cpu, ray-gpu, test-ray-worker"
    )
    assert all(check.evidence for check in checks.values())


@pytest.mark.parametrize(
    ("change", "key"),
    [({"state": "exited", "exit_code": 1}, "health-down"), ({"state": "paused"}, "health-down"), ({}, "health-down")],
)
def test_a_health_server_that_does_not_answer(change: dict[str, object], key: str) -> None:
    site = FakeSite()
    site.lease_answer = None
    site.change("health", **change)
    found = bad(performed(election, site))
    assert found == {"the lease has one holder, a candidate": [key]}


def test_nobody_leads_and_the_missing_candidate_is_named() -> None:
    site = FakeSite()
    site.lease_answer = {"lease": None}
    site.heads = [None]
    site.first_head = None
    site.remove("ray-cpu")
    checks = performed(election, site)
    cause = checks["the lease has one holder, a candidate"].causes[0]
    assert cause.key == "no-leader"
    assert "there is no container made-up-ray-cpu" in cause.what
    assert checks["ray-cpu says in its log what it is"].causes[0].key == "node-missing"


def test_a_holder_outside_the_whitelist() -> None:
    site = FakeSite()
    site.whitelist = ["ray-gpu"]
    assert bad(performed(election, site))["the lease has one holder, a candidate"] == ["not-in-whitelist"]


def test_two_heads_by_log_and_by_agent() -> None:
    site = FakeSite()
    site.logs["ray-gpu"] = site.logs["ray-gpu"].replace("Mode: worker", "Mode: head")
    site.answer("__main__.py look", view("head", "ray-gpu", 2, "ray-gpu:6380"), node="ray-gpu")
    found = bad(performed(election, site))
    assert found["ray-gpu says in its log what it is"] == ["two-heads"]
    assert found["ray-gpu takes the holder of the lease for the leader"] == ["two-heads"]


def test_only_the_last_mode_in_a_log_counts() -> None:
    site = FakeSite()
    site.logs["ray-gpu"] = "Mode: head\n" + site.logs["ray-gpu"]
    assert bad(performed(election, site)) == {}


def test_a_candidate_that_finds_itself_not_in_the_whitelist() -> None:
    site = FakeSite()
    site.logs["ray-gpu"] = "Hostname: ray-gqu\n→ not in the whitelist (ray-cpu): a worker\nMode: worker\n"
    check = performed(election, site)["ray-gpu says in its log what it is"]
    assert [cause.key for cause in check.causes] == ["not-in-whitelist"]
    assert "hostname ray-gqu" in check.causes[0].what


def test_a_candidate_of_another_epoch() -> None:
    site = FakeSite()
    site.answer("__main__.py look", view(epoch=2), node="ray-gpu")
    check = performed(election, site)["ray-gpu takes the holder of the lease for the leader"]
    assert check.evidence == "worker of ray-cpu, epoch 2"
    assert "by the lease ray-cpu leads (epoch 3)" in check.causes[0].what


def test_an_agent_that_agrees_at_the_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease had just changed hands."""
    monkeypatch.setattr(election, "_PATIENCE", 5.0)
    site = FakeSite()
    site.answer("__main__.py look", view(epoch=2), node="ray-gpu")
    ask = site.run

    def run(node, argv, *, timeout):
        done = ask(node, argv, timeout=timeout)
        if "look" in argv:
            site.answer("__main__.py look", view(), node="ray-gpu")
        return done

    site.run = run
    assert bad(performed(election, site)) == {}


@pytest.mark.parametrize(("address", "passes"), [("ray-gpu:6380", True), ("elsewhere:6379", False)])
def test_a_candidate_told_an_address_follows_it_where_it_is_an_entry(address: str, passes: bool) -> None:
    site = FakeSite()
    site.answer("__main__.py look", view(leader=None, epoch=None, address=address), node="ray-gpu")
    assert (bad(performed(election, site)) == {}) is passes


def test_an_agent_that_says_nothing_is_inconclusive() -> None:
    site = FakeSite()
    site.answer("__main__.py look", '{"error": "127.0.0.1:31031 refuses the connection"}', node="ray-gpu", code=1)
    check = performed(election, site)["ray-gpu takes the holder of the lease for the leader"]
    assert check.verdict == "inconclusive"
    assert "refuses the connection" in check.evidence


def test_a_paused_candidate() -> None:
    site = FakeSite()
    site.change("ray-gpu", state="paused")
    site.board.rows[1] = ray_node("ray-gpu", alive=False)
    site.answer("ray status", ACTIVE.format(*(row.node_id for row in site.board.rows)))
    found = bad(performed(election, site))
    assert found["ray-gpu takes the holder of the lease for the leader"] == ["node-paused"]
    assert found["ray-gpu has joined"][0] == "node-paused"


def test_a_node_that_is_not_at_the_gcs() -> None:
    site = FakeSite()
    del site.board.rows[1]
    assert "ray-gpu has joined" in bad(performed(election, site))


def test_two_nodes_of_one_name_name_the_stranger() -> None:
    site = FakeSite()
    site.board.rows.append(ray_node("ray-gpu", node_id="ff00"))
    site.others["intruder"] = replace(as_expected(site.expected["ray-gpu"], 20), environment={})
    check = performed(election, site)["every name stands for one node"]
    assert [cause.key for cause in check.causes] == ["name-twice"]
    assert "made-up-ray-gpu, intruder" in check.causes[0].what
    assert "docker rm -f intruder" in check.causes[0].remedy


def test_the_gcs_has_another_head() -> None:
    site = FakeSite()
    site.board.rows[:2] = [ray_node("ray-cpu"), ray_node("ray-gpu", head=True)]
    assert bad(performed(election, site))["the GCS knows exactly one head, the leader"] == ["two-heads"]


def test_a_dashboard_that_is_away_is_inconclusive_here() -> None:
    site = FakeSite()
    site.board.problem = EnvironmentProblem("the dashboard does not answer", "connection refused")
    found = performed(election, site)
    assert bad(found) == {"the GCS knows exactly one head, the leader": ["inconclusive"]}


def test_ray_status_that_lacks_a_node() -> None:
    site = FakeSite()
    site.answer("ray status", "Active:\n 1 node_abc\nPending:\n 1 node_" + site.board.rows[0].node_id)
    check = performed(election, site)["`ray status` counts the same nodes"]
    assert check.evidence == "1 nodes, and not ray-cpu, ray-gpu, test-ray-worker, and abc, not alive at the GCS"


def test_ray_status_that_has_a_node_too_many() -> None:
    site = FakeSite()
    del site.board.rows[2]
    check = performed(election, site)["`ray status` counts the same nodes"]
    assert [cause.key for cause in check.causes] == ["ray-error"]
    assert check.evidence.endswith(", not alive at the GCS")


def test_a_joiner_may_be_in_ray_status_or_not() -> None:
    site = FakeSite()
    site.board.rows.append(ray_node("test-ray-joiner"))
    assert "`ray status` counts the same nodes" not in bad(performed(election, site))
    site.board.rows[-1] = ray_node("test-ray-joiner", alive=False)
    ids = [row.node_id for row in site.board.rows]
    site.answer("ray status", "Active:\n" + "".join(f" 1 node_{node_id}\n" for node_id in ids) + "Pending:\n")
    assert "`ray status` counts the same nodes" not in bad(performed(election, site))


def test_ray_status_that_has_forgotten_at_the_second_look() -> None:
    site = FakeSite()
    ids = [row.node_id for row in site.board.rows]
    ended, ask = "ff00", site.run

    def run(node, argv, *, timeout):
        done = ask(node, argv, timeout=timeout)
        if list(argv) == ["ray", "status"]:
            site.answer("ray status", ACTIVE.format(*ids))
        return done

    site.answer("ray status", ACTIVE.format(*ids).replace("Pending", f" 1 node_{ended}\nPending"))
    site.run = run
    assert bad(performed(election, site)) == {}


def test_a_health_server_that_answers_late_once() -> None:
    """One question that times out makes neither health-down nor another head."""
    site = FakeSite()
    leader = site.heads[0]
    assert leader
    site.heads = [None, replace(leader, epoch=0), leader]
    answer, asked = site.lease, []

    def lease():
        asked.append(1)
        return None if len(asked) == 1 else answer()

    site.lease = lease
    assert bad(performed(election, site)) == {}


def test_without_a_lease_the_candidates_word_is_no_other_head() -> None:
    site = FakeSite()
    site.heads = [Head("ray-cpu", "ray-cpu:6379", 0)]
    assert bad(performed(election, site)) == {}


def test_ray_status_that_fails() -> None:
    site = FakeSite()
    site.answer("ray status", "ConnectionError: Could not find any running Ray instance.", code=1)
    check = performed(election, site)["`ray status` counts the same nodes"]
    assert [cause.key for cause in check.causes] == ["ray-error"]
    assert "Could not find any running Ray instance" in check.evidence


def test_the_head_moved_since_the_run_began() -> None:
    site = FakeSite()
    site.first_head = Head("ray-gpu", "ray-gpu:6380", 2)
    site.change("ray-gpu", state="exited", exit_code=137)
    check = performed(election, site)["the same head leads as when the run began"]
    assert sorted(cause.key for cause in check.causes) == ["head-lost", "node-exited"]
    assert check.evidence == "ray-gpu led (epoch 2), and now ray-cpu (epoch 3) does"


def test_the_head_was_killed_and_its_lease_still_lasts() -> None:
    site = FakeSite()
    site.change("ray-cpu", state="exited", exit_code=137)
    check = performed(election, site)["the same head leads as when the run began"]
    assert [cause.key for cause in check.causes] == ["node-exited", "head-lost"]
    assert check.evidence == "ray-cpu led (epoch 3), and now nobody does"
