"""The scenario head-override on a site that is made up."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.verify.fake_site import FakeSite, bad, performed, ray_node
from ws.verify.proof import CHECKS
from ws.verify.scenarios import head_override

WORKER, JOINER = "test-ray-worker", "test-ray-joiner"
LOG = "Hostname: {}\nHEAD_ADDRESS: {}\nMode: worker\n✓ Ray is up after 3.1 s\n"
BY_FIRST = "a worker joins by HEAD_ADDRESS=ray-cpu:6379"
BY_SECOND = "a worker joins by HEAD_ADDRESS=ray-gpu:6380"
BY_CONFIG = "a worker joins by nodes.head_address=ray-gpu:6380"


class JoiningSite(FakeSite):
    """Its joiner joins as it is told, under a new node id each time; `deaf` ones follow another address."""

    deaf = False
    joins = True

    def start_joiner(self, environment: Mapping[str, str]) -> None:
        super().start_joiner(environment)
        told = environment["HEAD_ADDRESS"] or environment["HEAD_ADDRESS_CFG"]
        self.logs[JOINER] = LOG.format(JOINER, "ray-x:1" if self.deaf else told)
        if self.joins:
            self.board.rows.append(ray_node(JOINER, node_id=f"joiner-{len(self.joiners)}", cpus=1))

    def stop_joiner(self) -> None:
        super().stop_joiner()
        self.board.rows = [
            ray_node(row.name, node_id=row.node_id, alive=False) if row.name == JOINER else row for row in self.board.rows
        ]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come is not waited for."""
    for limit in ("_START_LIMIT", "_JOIN_LIMIT", "_LEAVE_LIMIT"):
        monkeypatch.setattr(head_override, limit, 0.0)
    monkeypatch.setattr(head_override, "_PROOF_LIMIT", 1.5)


@pytest.fixture
def site() -> JoiningSite:
    made = JoiningSite()
    made.logs[WORKER] = LOG.format(WORKER, "ray-cpu:6379")
    for host, port in (("ray-cpu", 6379), ("ray-gpu", 6380)):
        made.port(host, port, speaks="gcs", token="right")
    alive = [{"event": "alive", "node": JOINER}]
    proven = [{"event": "check", "node": JOINER, "check": check, "ok": True, "seconds": 0.5} for check in CHECKS]
    made.says("prober", alive + proven)
    return made


def test_each_entry_and_each_way_of_telling_it(site: JoiningSite) -> None:
    checks = performed(head_override, site)
    assert bad(checks) == {}
    assert {BY_FIRST, BY_SECOND, BY_CONFIG} <= checks.keys()
    assert "HEAD_ADDRESS: ray-gpu:6380, Mode: worker; alive as joiner-2" in checks[BY_SECOND].evidence
    assert [dict(environment) for environment in site.joiners] == [
        {"HEAD_ADDRESS": "ray-cpu:6379", "HEAD_ADDRESS_CFG": ""},
        {"HEAD_ADDRESS": "ray-gpu:6380", "HEAD_ADDRESS_CFG": ""},
        {"HEAD_ADDRESS": "", "HEAD_ADDRESS_CFG": "ray-gpu:6380"},
    ]
    assert site.seen(JOINER) is None


def test_an_entry_that_nobody_answers(site: JoiningSite) -> None:
    site.joins = False
    site.port("ray-gpu", 6380, outcome="refused", detail="nothing listens there", speaks=None)
    found = bad(performed(head_override, site))
    assert found[BY_SECOND] == ["entry-dead"]
    assert found[BY_CONFIG] == ["entry-dead"]


def test_a_joiner_that_does_not_heed(site: JoiningSite) -> None:
    site.deaf = True
    found = bad(performed(head_override, site))
    assert found == {what: ["environment-differs"] for what in (BY_FIRST, BY_SECOND, BY_CONFIG)}


def test_one_that_joins_and_does_not_work(site: JoiningSite) -> None:
    site.says("prober", [{"event": "alive", "node": JOINER}])
    checks = performed(head_override, site)
    assert bad(checks) == {what: ["ray-error"] for what in (BY_FIRST, BY_SECOND, BY_CONFIG)}
    assert "no answer yet" in checks[BY_FIRST].evidence


def test_what_the_worker_was_told_leads_elsewhere(site: JoiningSite) -> None:
    site.port("ray-cpu", 6379, speaks="client")
    found = bad(performed(head_override, site))
    assert found[f"the address that {WORKER} was told leads to the head"][0] == "wrong-port-client"


def test_no_joiner(site: JoiningSite) -> None:
    del site.expected[JOINER]
    assert bad(performed(head_override, site)) == {"each entry in turn": ["inconclusive"]}


def test_the_joiner_is_gone_even_where_the_run_is_cut(site: JoiningSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(head_override, "proven", interrupted)
    with pytest.raises(KeyboardInterrupt):
        performed(head_override, site)
    assert site.seen(JOINER) is None
