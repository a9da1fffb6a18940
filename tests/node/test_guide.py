"""Which part a node plays: by an address, by the election, by whoever leads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.node.stage import soon
from tests.ports import free_port
from ws.node.elector import Elector, ElectorSettings
from ws.node.guide import Assignment, ElectedGuide, FixedGuide, FollowingGuide, wait_for_assignment
from ws.node.health import lease_routes
from ws.node.http_service import HttpService
from ws.node.lease import LeaseBook
from ws.node.settings import Candidate, Settings, read_settings

HEAD, WORKER = "head", "worker"
TOKEN = "token"


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def book() -> LeaseBook:
    return LeaseBook()


@pytest.fixture
def health(book: LeaseBook) -> Iterator[str]:
    service = HttpService(lease_routes(book, lambda line, mark: None), "127.0.0.1", 0, TOKEN)
    service.start()
    yield f"http://127.0.0.1:{service.port}"
    service.stop()


def follower(**variables: str) -> Settings:
    return read_settings({"WS_NODE_NAME": "ray-extra", **variables})


@pytest.mark.parametrize(
    ("running", "now", "anew"),
    [
        (Assignment(HEAD, "a:1", "a", 3), Assignment(HEAD, "a:1", "a", 3), False),
        (Assignment(HEAD, "a:1", "a", 3), Assignment(HEAD, "a:1", "a", 5), True),
        (Assignment(HEAD, "a:1", "a", 0), Assignment(HEAD, "a:1", "a", 1), False),
        (Assignment(HEAD, "a:1", "a", 3), Assignment(WORKER, "b:1", "b", 4), True),
        (Assignment(WORKER, "b:1", "b", 4), Assignment(HEAD, "a:1", "a", 5), True),
        (Assignment(WORKER, "b:1", "b", 4), Assignment(WORKER, "c:1", "c", 5), True),
        (Assignment(WORKER, "b:1", "b", 4), Assignment(WORKER, "b:1", "b", 6), True),
        (Assignment(WORKER, "b:1", "b", 0), Assignment(WORKER, "b:1", "b", 1), False),
        (Assignment(WORKER, "b:1"), Assignment(WORKER, "b:1"), False),
    ],
)
def test_when_ray_must_be_started_anew(running: Assignment, now: Assignment, anew: bool) -> None:
    assert now.replaces(running) == anew


def test_an_address_that_was_given_holds_for_good(stopping: threading.Event) -> None:
    guide = FixedGuide("ray-cpu:6379")
    guide.lost()
    assert wait_for_assignment(guide, 0, stopping) == Assignment(WORKER, "ray-cpu:6379")
    guide.stop()
    assert guide.why_none() == ""


def test_a_candidate_alone_is_elected(health: str, book: LeaseBook, stopping: threading.Event) -> None:
    me = Candidate("ray-cpu", "127.0.0.1", 6379, 8265, 10001, free_port())
    elector = Elector(ElectorSettings("ray-cpu", "one", [me], me.head_address, 3, health, token=TOKEN), lambda line: None)
    guide = ElectedGuide(elector)
    with ExitStack() as ends:
        ends.callback(guide.stop)
        assert guide.current() is None
        assert guide.why_none() == "it has just started"
        elector.start()
        assert wait_for_assignment(guide, 30, stopping) == Assignment(HEAD, "127.0.0.1:6379", "ray-cpu", 1)
        guide.lost()
        soon("a second epoch", lambda: guide.current() == Assignment(HEAD, "127.0.0.1:6379", "ray-cpu", 2))
    assert book.current is None
    assert guide.current() is None


def test_a_follower_goes_where_the_lease_goes(health: str, book: LeaseBook, stopping: threading.Event) -> None:
    guide = FollowingGuide(follower(HEALTH_URL=health), TOKEN)
    with ExitStack() as ends:
        ends.callback(guide.stop)
        assert wait_for_assignment(guide, 0.1, stopping) is None
        assert "health server: nobody holds the lease" in guide.why_none()
        book.acquire("ray-cpu", "one", "ray-cpu:6379", 600)
        assert wait_for_assignment(guide, 30, stopping) == Assignment(WORKER, "ray-cpu:6379", "ray-cpu", 1)
        book.release("ray-cpu", "one", 1, "it ends")
        book.acquire("ray-gpu", "two", "ray-gpu:6380", 600)
        soon("the new leader", lambda: guide.current() == Assignment(WORKER, "ray-gpu:6380", "ray-gpu", 2))


def test_a_follower_stays_when_nobody_can_tell_the_leader(stopping: threading.Event) -> None:
    book = LeaseBook()
    service = HttpService(lease_routes(book, lambda line, mark: None), "127.0.0.1", 0, TOKEN)
    service.start()
    book.acquire("ray-cpu", "one", "ray-cpu:6379", 600)
    guide = FollowingGuide(follower(HEALTH_URL=f"http://127.0.0.1:{service.port}"), TOKEN)
    with ExitStack() as ends:
        ends.callback(guide.stop)
        assert wait_for_assignment(guide, 30, stopping)
        service.stop()
        soon("it to have asked in vain", lambda: "refuses the connection" in guide.why_none())
        assert guide.current() == Assignment(WORKER, "ray-cpu:6379", "ray-cpu", 1)
        guide.lost()
        assert guide.current() is None


def test_a_follower_with_nobody_to_ask_says_what_to_set(stopping: threading.Event) -> None:
    guide = FollowingGuide(follower(), TOKEN)
    assert wait_for_assignment(guide, 0.1, stopping) is None
    guide.stop()
    assert "no health server and no candidates are given" in guide.why_none()
    assert "set HEAD_ADDRESS" in guide.why_none()


def test_the_wait_for_an_assignment_ends_when_it_is_asked_to(stopping: threading.Event) -> None:
    guide = FollowingGuide(follower(), TOKEN)
    threading.Timer(0.1, stopping.set).start()
    assert wait_for_assignment(guide, 3600, stopping) is None
    guide.stop()
