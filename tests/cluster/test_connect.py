"""Which cluster is taken, and that none is started unasked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.cluster.strangers import dashboard_answers, http
from tests.cluster.test_dashboard_look import answers, node
from tests.engine.fake_engine import answering
from tests.ports import free_port
from ws.cluster.address import Route
from ws.cluster.connect import Connector, TowardsDashboard, Wish
from ws.cluster.dashboard import TokenRefused
from ws.cluster.endpoint import Endpoint
from ws.cluster.helper import HelperSource
from ws.cluster.look import DashboardSource, Identity, Look, Source
from ws.cluster.nodes import SeenNode
from ws.cluster.protocol import Speaks
from ws.cluster.records import ClusterRecord, Kind
from ws.errors import EnvironmentProblem, UsageError


def record(kind: Kind, address: str, *, alive: bool = True) -> ClusterRecord:
    return ClusterRecord(id=address, addresses={kind: [address]}, alive=alive)


class Asked:
    """A connector with what it noted, and discovery that finds what it is told."""

    def __init__(self, wish: Wish, *found: ClusterRecord) -> None:
        self.notes: list[str] = []
        self.found = found
        self.looked = 0
        self.connector = Connector(wish, self.notes.append, self.find)

    def find(self) -> Sequence[ClusterRecord]:
        self.looked += 1
        return self.found


def nowhere() -> str:
    return f"127.0.0.1:{free_port()}"


def test_a_given_address_is_taken_and_nothing_else_is_looked_for() -> None:
    with http(dashboard_answers()) as at:
        asked = Asked(Wish(str(at)))
        source = asked.connector()
        source.close()
    assert isinstance(source, DashboardSource)
    assert (asked.notes, asked.looked) == ([], 0)


def test_what_is_no_address_is_wrong_use_before_anything_is_tried() -> None:
    with pytest.raises(UsageError):
        Connector(Wish("no address"))


def test_without_an_address_the_best_living_one_is_taken_and_the_choice_is_told_once() -> None:
    with http(dashboard_answers()) as at:
        best = record(Kind.dashboard, str(at))
        asked = Asked(Wish(), record(Kind.dashboard, nowhere(), alive=False), best, record(Kind.gcs, nowhere()))
        asked.connector().close()
        asked.connector().close()
    assert asked.notes == [f"connecting to http://{at}, the most reliable of 2 (--address chooses another)"]
    assert asked.looked == 1  # once it led to a cluster, only to that one


def test_a_cluster_that_does_not_let_us_in_gives_way_to_the_next() -> None:
    with http(dashboard_answers(auth="token"), "secret") as guarded, http(dashboard_answers()) as at:
        records = [record(Kind.dashboard, str(guarded)), record(Kind.dashboard, str(at))]
        asked = Asked(Wish(), *records)
        source = asked.connector()
        source.close()
        assert source.where == f"http://{at}"
        with pytest.raises(TokenRefused, match="wants a token"):
            Asked(Wish(), records[0]).connector()


def test_who_named_the_address_is_told_where_it_was_not_the_user_just_now() -> None:
    with http(dashboard_answers()) as at:
        asked = Asked(Wish(str(at), origin="RAY_ADDRESS"))
        asked.connector().close()
    assert asked.notes == [f"{at} is the address that RAY_ADDRESS names"]


def test_where_there_is_no_cluster_none_is_started() -> None:
    with pytest.raises(EnvironmentProblem, match="no Ray cluster can be found"):
        Asked(Wish()).connector()
    with pytest.raises(EnvironmentProblem, match="no Ray cluster answers"):
        Asked(Wish(nowhere(), allow_local_start=True), record(Kind.gcs, nowhere())).connector()


def test_one_is_started_only_where_that_was_allowed() -> None:
    asked = Asked(Wish(allow_local_start=True))
    source = asked.connector()
    source.close()
    assert isinstance(source, HelperSource)
    assert source.where == "local"
    assert "ends with this connection" in asked.notes[0]
    asked.found = (record(Kind.gcs, nowhere()),)  # found by now, and no more ours than before
    again = asked.connector()
    again.close()
    assert isinstance(again, HelperSource)


def test_another_cluster_of_this_machine_is_taken_only_where_that_was_allowed() -> None:
    address = nowhere()
    with http(dashboard_answers()) as at:
        here = record(Kind.dashboard, str(at))
        with pytest.raises(EnvironmentProblem, match="no Ray cluster answers"):
            Asked(Wish(address), here).connector()
        asked = Asked(Wish(address, allow_local_fallback=True), here)
        source = asked.connector()
        source.close()
    assert source.where == f"http://{at}"
    assert asked.notes == [f"{address} leads nowhere; connecting to http://{at}"]


def test_a_fallback_starts_none_and_gives_the_first_error_where_there_is_none() -> None:
    with pytest.raises(EnvironmentProblem, match="no Ray cluster answers"):
        Asked(Wish(nowhere(), allow_local_fallback=True)).connector()


def test_a_cluster_that_refuses_us_is_no_reason_to_take_another() -> None:
    with http(dashboard_answers(auth="token"), "secret") as guarded, http(dashboard_answers()) as here:
        asked = Asked(Wish(str(guarded), token="other", allow_local_fallback=True), record(Kind.dashboard, str(here)))
        with pytest.raises(TokenRefused):
            asked.connector()
    assert asked.looked == 0


def test_a_token_goes_to_no_cluster_that_asks_for_none() -> None:
    given: list[str] = []
    with http(dashboard_answers(), given=given) as at:
        source = Asked(Wish(str(at), token="secret")).connector()
        with pytest.raises(EnvironmentProblem):  # its answers are no real dashboard's
            source.look()
        source.close()
    assert given == []


def test_once_connected_no_other_cluster_is_taken() -> None:
    with http(dashboard_answers()) as other:
        with http(dashboard_answers()) as at:
            asked = Asked(Wish(str(at), allow_local_fallback=True), record(Kind.dashboard, str(other)))
            asked.connector().close()
        with pytest.raises(EnvironmentProblem, match="no Ray cluster answers"):
            asked.connector()


class Eyes:
    """A source that is no dashboard."""

    where = "eyes"

    def __init__(self, dashboard: str | None, node_id: str) -> None:
        self._look = Look(Identity("s"), (SeenNode(node_id, "n", "10.0.0.1", True, True, {}),), None, dashboard)
        self.closed = False

    def look(self) -> Look:
        return self._look

    def close(self) -> None:
        self.closed = True


def test_a_helper_gives_way_to_the_dashboard_of_the_same_cluster() -> None:
    with answering(answers(node("head", head=True))) as url:
        eyes = Eyes(url.removeprefix("http://"), "head")
        source: Source = TowardsDashboard(eyes, "127.0.0.1", "")
        assert source.look().actors  # only the dashboard told of them
        assert (eyes.closed, source.where) == (True, url)
        source.close()


@pytest.mark.parametrize("case", ["another cluster's", "nobody", "untold"])
def test_a_helper_stays_where_the_dashboard_is_not_its_clusters(case: str) -> None:
    with answering(answers(node("stranger", head=True))) as url:
        told = {"another cluster's": url.removeprefix("http://"), "nobody": nowhere(), "untold": None}[case]
        eyes = Eyes(told, "head")
        source = TowardsDashboard(eyes, "127.0.0.1", "")
        assert [each.node_id for each in source.look().nodes] == ["head"]
        assert not eyes.closed
        source.close()


def test_on_its_way_to_the_dashboard_a_token_goes_to_nobody_who_does_not_ask_for_it() -> None:
    given: list[str] = []
    with http({"/": "hello"}, given=given) as web, http(dashboard_answers(), given=given) as other:
        for at in (web, other):
            source = TowardsDashboard(Eyes(str(at), "head"), "127.0.0.1", "secret")
            assert source.look().nodes
            source.close()
    assert given == []


def test_a_gcs_whose_dashboard_is_not_known_is_looked_at_by_a_helper_on_its_way_to_the_dashboard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = Endpoint("127.0.0.1", free_port())
    monkeypatch.setattr("ws.cluster.connect.resolve", lambda *_, **__: Route(at, Speaks.gcs))
    asked = Asked(Wish(str(at)))
    source = asked.connector()
    source.close()
    assert isinstance(source, TowardsDashboard)
    assert source.where == f"gcs {at}"
    assert asked.notes == [f"the dashboard of the cluster at {at} is not known: a helper process looks instead"]
