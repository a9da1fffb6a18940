"""Real electors over real HTTP on this machine; leases are short, and every wait has an event to wait for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ws.node.elector import Elector, ElectorSettings, Elsewhere, Reachable, leader_of
from ws.node.gate import Gate, gate_routes
from ws.node.health import lease_routes
from ws.node.http_client import call
from ws.node.http_service import HttpService
from ws.node.lease_store import JournalledBook
from ws.node.messages import HEAD, UNDECIDED, WORKER, View
from ws.node.secret import Secret

TTL = 2.0
TOKEN = "cluster-token"
LONG = 60.0
"""A bound for a machine that is busy; nothing here takes a tenth of it."""


@dataclass(frozen=True)
class Place:
    name: str
    agent_url: str


class Health:
    """A health server in this process that can stop and come back on the same port, with what it kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._service: HttpService | None = None
        self._port = 0
        self.start()

    def start(self) -> None:
        book = JournalledBook(self._folder, lambda line: None)
        self._service = HttpService({**lease_routes(book), **gate_routes(Gate(1))}, "127.0.0.1", self._port, TOKEN)
        self._port = self._service.port
        self._service.start()

    def stop(self) -> None:
        if self._service:
            self._service.stop()
            self._service = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"


class Node:
    """A candidate: its elector, and the port on which the others ask it."""

    def __init__(
        self, name: str, service: HttpService, routes: dict, places: list[Reachable], health_url: str, token: str
    ) -> None:
        self.name, self.service = name, service
        self.lines: list[str] = []
        settings = ElectorSettings(
            me=name,
            instance=f"{name}/{time.monotonic_ns()}",
            candidates=places,
            address=f"{name}:6379",
            ttl=TTL,
            health_url=health_url,
            token=Secret(token),
            patience=0.5,
            max_retries=2,
            retry_interval=0.2,
        )
        self.elector = Elector(settings, self.lines.append)
        routes.update(self.elector.app_routes())

    def start(self) -> None:
        self.elector.start()

    def wait(self, wanted: Callable[[View], bool]) -> View:
        deadline = time.monotonic() + LONG
        view = self.elector.view
        while not wanted(view):
            assert time.monotonic() < deadline, (self.name, view, self.lines)
            view = self.elector.wait_change(view, deadline - time.monotonic())
        return view

    def close(self) -> None:
        self.elector.stop()
        self.service.stop()


Cluster = Callable[..., list[Node]]


@pytest.fixture
def health(tmp_path: Path) -> Iterator[Health]:
    health = Health(tmp_path / "state")
    yield health
    health.stop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as stack:

        def build(health_url: str, names: str = "abc", token: str = TOKEN, elsewhere: str = "") -> list[Node]:
            apps: dict[str, dict] = {name: {} for name in names}
            services = {name: HttpService(apps[name], "127.0.0.1", 0, TOKEN) for name in names}
            known = [Place(name, f"http://127.0.0.1:{services[name].port}") for name in names]
            places = [*(Elsewhere(name) for name in elsewhere), *known]
            nodes = [Node(name, services[name], apps[name], places, health_url, token) for name in names]
            for node in nodes:
                node.service.start()
                stack.callback(node.close)
            return nodes

        yield build


def start_together(nodes: list[Node]) -> None:
    barrier = threading.Barrier(len(nodes))

    def start(node: Node) -> None:
        barrier.wait()
        node.start()

    threads = [threading.Thread(target=start, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def the_head(nodes: list[Node]) -> Node:
    """Wait until all agree that one of them leads, and return it."""
    deadline = time.monotonic() + LONG
    while True:
        views = [node.elector.view for node in nodes]
        heads = [node for node, view in zip(nodes, views, strict=True) if view.role == HEAD]
        if [head.name for head in heads] == list({view.leader for view in views}):
            return heads[0]
        assert time.monotonic() < deadline, views
        undecided = next((n for n, view in zip(nodes, views, strict=True) if view.role == UNDECIDED), nodes[0])
        undecided.elector.wait_change(undecided.elector.view, 0.05)


def others(nodes: list[Node], head: Node) -> list[Node]:
    return [node for node in nodes if node is not head]


def lease_of(health: Health) -> dict:
    return call(f"{health.url}/lease", token=TOKEN)


def test_three_candidates_find_one_head_and_tell_everyone(health: Health, cluster: Cluster) -> None:
    nodes = cluster(health.url)
    start_together(nodes)
    head = the_head(nodes)
    lease = lease_of(health)["lease"]
    assert (lease["holder"], lease["epoch"]) == (head.name, head.elector.view.epoch)
    places = [Place(node.name, f"http://127.0.0.1:{node.service.port}") for node in nodes]
    by_health = leader_of(health.url, TOKEN, places, 5)
    by_peers = leader_of("", TOKEN, places, 5)
    assert by_health == by_peers == View(WORKER, head.name, f"{head.name}:6379", lease["epoch"], True)
    assert any("this node leads" in line for line in head.lines)


def test_a_head_that_resigns_is_followed_by_another(health: Health, cluster: Cluster) -> None:
    nodes = cluster(health.url)
    start_together(nodes)
    first = the_head(nodes)
    first.elector.resign()
    assert first.elector.view.role != HEAD
    second = the_head(others(nodes, first))
    assert second.elector.view.epoch == 2
    changes = [(change["what"], change["why"]) for change in lease_of(health)["history"]]
    assert changes[1] == ("released", "its node stops")


def test_a_head_whose_ray_died_lets_another_lead(health: Health, cluster: Cluster) -> None:
    nodes = cluster(health.url)
    start_together(nodes)
    first = the_head(nodes)
    first.elector.lost()
    assert first.elector.view.role != HEAD
    first.wait(lambda view: view.role != UNDECIDED)
    assert the_head(nodes).elector.view.epoch >= 2


def test_a_head_that_vanishes_is_replaced_when_its_lease_has_run_out(health: Health, cluster: Cluster) -> None:
    nodes = cluster(health.url)
    start_together(nodes)
    first = the_head(nodes)
    first.close()
    rest = others(nodes, first)
    for node in rest:
        node.wait(lambda view: view.role != UNDECIDED and view.leader != first.name)
    assert the_head(rest).elector.view.epoch == 2


def test_an_outage_of_the_health_server_stops_nothing(health: Health, cluster: Cluster) -> None:
    nodes = cluster(health.url)
    start_together(nodes)
    head = the_head(nodes)
    before = head.elector.view
    health.stop()
    for node in nodes:
        node.wait(lambda view: not view.health_up)
    changed = head.elector.wait_change(head.elector.view, 3 * TTL)
    assert (changed.role, changed.epoch) == (HEAD, before.epoch), head.lines
    health.start()
    for node in nodes:
        node.wait(lambda view: view.health_up)
    assert the_head(nodes) is head and lease_of(health)["epoch"] == before.epoch


def test_without_a_health_server_the_first_leads(cluster: Cluster) -> None:
    nodes = cluster("")
    start_together(nodes)
    head = the_head(nodes)
    assert (head.name, head.elector.view.epoch) == ("a", 0)


def test_who_has_a_wrong_token_does_not_lead_and_says_why(health: Health, cluster: Cluster) -> None:
    node = cluster(health.url, "a", token="wrong")[0]
    node.start()
    node.wait(lambda view: view.health_up)
    view = node.elector.wait_change(node.elector.view, TTL)
    assert view.role == UNDECIDED, node.lines
    assert "the health server is up, and refuses us" in view.reason and "answers 401" in view.reason


def test_a_candidate_that_answers_401_has_not_given_its_word(health: Health, cluster: Cluster) -> None:
    node, other = cluster(health.url, "ab")
    other.service.stop()
    refusing = HttpService({}, "127.0.0.1", other.service.port, "another token")
    refusing.start()
    try:
        node.start()
        node.wait(lambda view: view.role == HEAD)
        health.stop()
        node.wait(lambda view: view.role != HEAD)
        assert "b refuses us" in node.elector.view.reason and "answers 401" in node.elector.view.reason
    finally:
        refusing.stop()


def test_the_second_does_not_lead_without_the_server_when_the_first_is_on_another_machine(cluster: Cluster) -> None:
    node = cluster("", "b", elsewhere="a")[0]
    node.start()
    assert node.elector.wait_change(node.elector.view, 1.5 * TTL).role == UNDECIDED, node.lines


def test_a_candidate_on_another_machine_delays_nobody_who_has_the_server(health: Health, cluster: Cluster) -> None:
    node = cluster(health.url, "b", elsewhere="a")[0]
    began = time.monotonic()
    node.start()
    node.wait(lambda view: view.role == HEAD)
    assert time.monotonic() - began < TTL, "not after a lease time of listening"


def test_nobody_leads_yet_and_why(cluster: Cluster, health: Health) -> None:
    nodes = cluster(health.url)
    tried: list[str] = []
    places = [Place(nodes[0].name, f"http://127.0.0.1:{nodes[0].service.port}"), Place("gone", "http://127.0.0.1:1")]
    assert leader_of(health.url, TOKEN, places, 5, tried) is None
    assert tried[0] == "health server: nobody holds the lease"
    assert tried[1].startswith("a: knows of no head") and tried[2].startswith("gone: 127.0.0.1:1 refuses")
    assert leader_of(health.url, "wrong", [], 5, tried) is None
    assert "401" in tried[-1]


def test_wait_change_returns_at_its_timeout(cluster: Cluster, health: Health) -> None:
    node = cluster(health.url, "a")[0]
    view = node.elector.view
    assert node.elector.wait_change(view, 0.05) == view


def test_two_candidates_started_at_the_same_instant_20_times(tmp_path: Path, cluster: Cluster) -> None:
    for turn in range(20):
        health = Health(tmp_path / str(turn))
        nodes = cluster(health.url, "ab")
        start_together(nodes)
        head = the_head(nodes)
        assert [node.elector.view.role for node in others(nodes, head)] == [WORKER]
        assert len([change for change in lease_of(health)["history"] if change["what"] == "granted"]) == 1
        for node in nodes:
            node.close()
        health.stop()
