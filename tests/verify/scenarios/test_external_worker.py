"""The scenario external-worker on a site that is made up."""

from __future__ import annotations

import pytest

from tests.verify.fake_site import FakeSite, bad, performed, ray_node
from ws.errors import EnvironmentProblem
from ws.verify import diagnose_state
from ws.verify.proof import CHECKS, WORDS
from ws.verify.scenarios import blaming, external_worker

WORKER = "test-ray-worker"
WAYS = f"the cluster and {WORKER} reach each other at every port"
JOINED = f"{WORKER} has joined under its own name"
PROVEN = [{"event": "alive", "node": WORKER}] + [
    {"event": "check", "node": WORKER, "check": check, "ok": True, "seconds": 0.5} for check in CHECKS
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for."""
    for limit in ("_START_LIMIT", "_JOIN_LIMIT", "_COUNT_LIMIT"):
        monkeypatch.setattr(external_worker, limit, 0.0)
    monkeypatch.setattr(external_worker, "_PROOF_LIMIT", 1.5)
    monkeypatch.setattr(external_worker, "_HOPELESS_LIMIT", 0.5)
    monkeypatch.setattr(diagnose_state, "_FOUND_DEAD", 0.0)


@pytest.fixture
def site() -> FakeSite:
    made = FakeSite()
    made.logs[WORKER] = f"Hostname: {WORKER}\nHEAD_ADDRESS: ray-cpu:6379\nMode: worker\n✓ Ray is up after 3.1 s\n"
    made.port("ray-cpu", 6379, speaks="gcs", token="right")
    made.says("prober", PROVEN)
    return made


def test_a_worker_that_works_passes_with_evidence_for_each(site: FakeSite) -> None:
    checks = performed(external_worker, site)
    assert bad(checks) == {}
    assert checks[f"{WORKER} becomes a worker of the address it was given"].evidence == (
        "Mode: worker, HEAD_ADDRESS: ray-cpu:6379"
    )
    assert checks[f"the cluster has grown by the 1 CPUs of {WORKER}"].evidence == (
        f"9 CPUs: 8 of the main network, 1 of {WORKER}"
    )
    assert "raylet.out" in checks[f"the logs of {WORKER} are readable through the dashboard"].evidence
    assert {f"{words} ({WORKER})" for words in WORDS.values()} <= checks.keys()
    assert all(check.evidence for check in checks.values())


def test_an_unpublished_block_is_named_before_anything_hangs(site: FakeSite) -> None:
    site.change(WORKER, published=frozenset())
    site.says("prober", PROVEN[:1])
    found = bad(performed(external_worker, site))
    assert next(iter(found)) == WAYS
    assert {keys[0] for keys in found.values()} == {"block-not-published"}


def test_what_was_not_proven_fails_with_rays_words(site: FakeSite) -> None:
    site.says(
        "prober", [*PROVEN[:4], {"event": "check", "node": WORKER, "check": "runtime_env", "ok": False, "why": "it hung"}]
    )
    checks = performed(external_worker, site)
    assert bad(checks) == {f"{WORDS['runtime_env']} ({WORKER})": ["ray-error"]}
    assert checks[f"{WORDS['runtime_env']} ({WORKER})"].evidence == "it hung"


def test_a_driver_that_could_not_work_says_nothing_of_the_node(site: FakeSite) -> None:
    site.says("prober", [{"event": "broken", "why": "SyntaxError: odd"}])
    checks = performed(external_worker, site)
    assert bad(checks) == {f"{words} ({WORKER})": ["inconclusive"] for words in WORDS.values()}
    assert "SyntaxError: odd" in checks[f"{WORDS['task']} ({WORKER})"].evidence


def test_one_that_never_joins_is_explained(site: FakeSite) -> None:
    site.board.rows = site.board.rows[:2]
    site.port("ray-cpu", 6379, speaks="gcs", token="wrong")
    found = bad(performed(external_worker, site))
    assert found == {JOINED: ["token-wrong"]}


def test_waiting_for_it_ends_early_where_it_is_vain(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_worker, "_JOIN_LIMIT", 600.0)
    monkeypatch.setattr(blaming, "_LOOK_EVERY", 0.0)
    site.board.rows = site.board.rows[:2]
    site.change(WORKER, state="exited", exit_code=1)
    assert bad(performed(external_worker, site))[JOINED] == ["node-exited"]


def test_waiting_for_it_ends_early_where_probing_tells(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_worker, "_JOIN_LIMIT", 600.0)
    monkeypatch.setattr(blaming, "_FIRST_PROBE", 0.0)
    site.board.rows = site.board.rows[:2]
    site.port("ray-cpu", 6379, speaks="gcs", token="wrong")
    assert bad(performed(external_worker, site))[JOINED] == ["token-wrong"]


def test_one_that_became_head(site: FakeSite) -> None:
    site.logs[WORKER] = "HEAD_ADDRESS: ray-cpu:6379\nMode: head\n✓ Ray is up after 3.1 s\n"
    found = bad(performed(external_worker, site))
    assert list(found) == [f"{WORKER} becomes a worker of the address it was given"]


def test_one_in_the_whitelist(site: FakeSite) -> None:
    site.whitelist = ["ray-cpu", "ray-gpu", WORKER]
    assert bad(performed(external_worker, site)) == {f"{WORKER} is not in the whitelist": ["environment-differs"]}


def test_a_twin(site: FakeSite) -> None:
    site.board.rows.append(ray_node(WORKER, node_id="feed", cpus=1))
    assert bad(performed(external_worker, site))[JOINED] == ["name-twice"]


def test_shared_memory_that_is_too_small(site: FakeSite) -> None:
    site.change(WORKER, shm_size=1 << 20)
    found = bad(performed(external_worker, site))
    assert next(iter(found)) == f"/dev/shm of {WORKER} holds its object store"
    assert {keys[0] for keys in found.values()} == {"shm-small"}


def test_cpus_that_are_not_counted(site: FakeSite) -> None:
    site.board.rows[2] = ray_node(WORKER, cpus=3)
    checks = performed(external_worker, site)
    what = f"the cluster has grown by the 1 CPUs of {WORKER}"
    assert list(bad(checks)) == [what]
    assert "3 of them" in checks[what].evidence


def test_cpus_that_lack_with_a_dead_node_of_the_main_network_are_blamed_on_that(site: FakeSite) -> None:
    site.board.rows[1] = ray_node("ray-gpu", alive=False)
    site.change("ray-gpu", state="paused")
    check = performed(external_worker, site)[f"the cluster has grown by the 1 CPUs of {WORKER}"]
    assert check.causes[0].key == "node-paused"
    assert "ray-gpu" in check.causes[0].what


def test_a_dashboard_that_does_not_answer_has_a_cause_where_there_is_one(site: FakeSite) -> None:
    site.board.problem = EnvironmentProblem("the dashboard does not answer")
    site.change("ray-cpu", state="exited", exit_code=137)
    found = bad(performed(external_worker, site))
    assert found[JOINED][0] == "head-lost"


def test_no_external_worker_at_all(site: FakeSite) -> None:
    del site.expected[WORKER]
    assert bad(performed(external_worker, site)) == {"there is an external worker": ["inconclusive"]}


def test_no_container(site: FakeSite) -> None:
    site.remove(WORKER)
    assert bad(performed(external_worker, site))[f"{WORKER} is not in the whitelist"] == ["node-missing"]
