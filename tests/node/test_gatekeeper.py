"""A node at the gate, with real gates behind real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.node.stage import soon
from tests.ports import free_port
from ws.node.gate import Gate, gate_routes
from ws.node.gatekeeper import GateClient
from ws.node.http_service import HttpService

TOKEN = "token"


class Keeper:
    """A gate and where it is asked."""

    def __init__(self, slots: int = 1, token: str = TOKEN) -> None:
        self._gate = Gate(slots)
        self._service = HttpService(gate_routes(self._gate), "127.0.0.1", 0, token)
        self._service.start()
        self.stop = self._service.stop
        self.url = f"http://127.0.0.1:{self._service.port}"

    @property
    def starting(self) -> list[str]:
        return list(self._gate.look()["starting"])

    @property
    def waiting(self) -> list[str]:
        return list(self._gate.look()["waiting"])


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with ExitStack() as ends:
        made = Keeper()
        ends.callback(made.stop)
        yield made


def client(name: str, stopping: threading.Event | None = None) -> GateClient:
    return GateClient(name, f"instance of {name}", TOKEN, stopping or threading.Event())


def in_passage(gate: GateClient, urls: list[str], entered: threading.Event) -> threading.Thread:
    """Goes through in a thread of its own, and says so."""

    def go() -> None:
        with gate.passage(urls, priority=False):
            entered.set()

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_a_place_is_held_for_the_start_and_given_back(keeper: Keeper) -> None:
    with client("one").passage([keeper.url], priority=False):
        assert keeper.starting == ["one"]
    assert keeper.starting == []


def test_a_place_is_given_back_when_the_start_fails(keeper: Keeper) -> None:
    with pytest.raises(ZeroDivisionError), client("one").passage([keeper.url], priority=False):
        raise ZeroDivisionError
    assert keeper.starting == []


def test_a_place_may_be_given_back_early(keeper: Keeper) -> None:
    gate = client("one")
    with gate.passage([keeper.url], priority=False):
        gate.leave()
        assert keeper.starting == []
    gate.leave()


def test_who_finds_the_gate_full_waits_and_says_so_once(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    first, entered = client("one"), threading.Event()
    with first.passage([keeper.url], priority=False):
        thread = in_passage(client("two"), [keeper.url], entered)
        soon("the second to wait", lambda: keeper.waiting == ["two"])
        assert not entered.is_set()
    assert entered.wait(30)
    thread.join()
    assert keeper.starting == []
    assert capsys.readouterr().out.count("waiting at the gate: 1 nodes start before this one") == 1


def test_a_head_does_not_wait(keeper: Keeper) -> None:
    with client("one").passage([keeper.url], priority=False), client("head").passage([keeper.url], priority=True):
        assert (keeper.starting, keeper.waiting) == (["one"], [])


def test_the_next_keeper_is_asked_where_one_does_not_answer(keeper: Keeper) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with client("one").passage([nobody, keeper.url], priority=False):
        assert keeper.starting == ["one"]
    assert keeper.starting == []


@pytest.mark.parametrize("urls", [[], ["http://127.0.0.1:1"]])
def test_where_nobody_keeps_a_gate_the_start_goes_ahead(urls: list[str]) -> None:
    passed = False
    with client("one").passage(urls, priority=False):
        passed = True
    assert passed


def test_a_keeper_that_refuses_the_token_holds_nobody_up() -> None:
    with ExitStack() as ends:
        keeper = Keeper(token="another")
        ends.callback(keeper.stop)
        with client("one").passage([keeper.url], priority=False):
            assert keeper.starting == []


def test_a_keeper_that_goes_away_holds_nobody_up() -> None:
    keeper, entered = Keeper(), threading.Event()
    with client("one").passage([keeper.url], priority=False):
        thread = in_passage(client("two"), [keeper.url], entered)
        soon("the second to wait", lambda: keeper.waiting == ["two"])
        keeper.stop()
        assert entered.wait(30)
        thread.join()


def test_who_is_asked_to_stop_leaves_the_queue(keeper: Keeper) -> None:
    stopping, entered = threading.Event(), threading.Event()
    with client("one").passage([keeper.url], priority=False):
        thread = in_passage(client("two", stopping), [keeper.url], entered)
        soon("the second to wait", lambda: keeper.waiting == ["two"])
        stopping.set()
        thread.join(30)
        assert entered.is_set()  # its caller looks whether it is to stop
        assert (keeper.starting, keeper.waiting) == (["one"], [])
