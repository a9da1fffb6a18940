"""Looking again: how often, for how long, and what counts."""

from __future__ import annotations

import pytest

from tests.verify.fake_site import FakeSite
from ws.errors import EnvironmentProblem
from ws.verify import diagnose_again
from ws.verify.diagnose_again import again, head_now, lease_now, replaced
from ws.verify.site import Head

LED = Head("ray-cpu", "ray-cpu:6379", 3)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose_again, "PATIENCE", 0.0)


def test_a_good_first_look_is_enough() -> None:
    looks = iter([1])
    assert again(lambda: next(looks), bool) == 1


def test_a_second_look_decides() -> None:
    looks = iter([0, 1])
    assert again(lambda: next(looks), bool) == 1
    looks = iter([0, 0])
    assert again(lambda: next(looks), bool) == 0


def test_an_error_counts_at_the_second_look_alone() -> None:
    errors = [EnvironmentProblem("late")]

    def look() -> str:
        if errors:
            raise errors.pop()
        return "there"

    assert again(look, bool) == "there"
    errors = [EnvironmentProblem("gone"), EnvironmentProblem("late")]
    with pytest.raises(EnvironmentProblem, match="gone"):
        again(look, bool)


def test_it_looks_until_patience_ends() -> None:
    looks = iter([0, 0, 0, 1])
    assert again(lambda: next(looks), bool, patience=600.0) == 1


@pytest.mark.parametrize(
    ("now", "other"),
    [
        (LED, False),
        (Head("ray-cpu", "elsewhere:6379", 0), False),
        (Head("ray-cpu", "ray-cpu:6379", 4), True),
        (Head("ray-gpu", "ray-gpu:6380", 0), True),
    ],
)
def test_no_lease_is_no_other_head(now: Head, other: bool) -> None:
    assert replaced(LED, now) is other


def test_that_nobody_leads_is_believed_at_the_second_look() -> None:
    site = FakeSite()
    site.heads = [None, LED]
    assert head_now(site) == LED
    site.heads = [Head("ray-gpu", "ray-gpu:6380", 0), LED]
    assert head_now(site) == LED
    site.heads = [None, None]
    assert head_now(site) is None


def test_a_later_lease_needs_no_second_look() -> None:
    site = FakeSite()
    site.heads = [Head("ray-gpu", "ray-gpu:6380", 4), LED]
    assert head_now(site) == Head("ray-gpu", "ray-gpu:6380", 4)


def test_where_no_candidate_runs_nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose_again, "PATIENCE", 3600.0)
    site = FakeSite()
    site.heads = [None]
    for name in ("ray-cpu", "ray-gpu"):
        site.change(name, state="exited", exit_code=1)
    assert head_now(site) is None


def test_a_stopped_health_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose_again, "PATIENCE", 3600.0)
    site = FakeSite()
    site.lease_answer = None
    site.change("health", state="paused")
    assert lease_now(site) is None


def test_a_lease_with_and_without_a_holder() -> None:
    site = FakeSite()
    assert (lease_now(site, held=True) or {})["holder"] == "ray-cpu"
    site.lease_answer = {"lease": None}
    assert lease_now(site) == {}
    site.lease_answer = {}
    assert lease_now(site, held=True) == {}
    site.lease_answer = None
    assert lease_now(site) is None
