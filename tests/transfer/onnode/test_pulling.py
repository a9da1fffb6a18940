"""Puller against real servers, through a wire with real faults."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest

from tests.transfer.onnode.memory import SECRET, TID, Source, Target
from tests.transfer.onnode.proxy import Proxy
from ws.transfer.onnode import pulling
from ws.transfer.onnode.choice import Choice
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.pulling import Puller
from ws.transfer.onnode.serving import Server, dial_and_serve

ORIGIN = "origin"


class Net:
    """Servers, proxies and threads of one test."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def serve(self, store: Any, secret: bytes = SECRET, **more: Any) -> Server:
        server = Server("127.0.0.1")
        self._stack.callback(server.close)
        server.register(TID, secret, store, **more)
        return server

    def peer(self, name: str, store: Any, **more: Any) -> dict[str, Any]:
        return peer_at(name, ["127.0.0.1", self.serve(store, **more).port])

    def behind_proxy(self, name: str, store: Any, **more: Any) -> tuple[dict[str, Any], Proxy]:
        proxy = Proxy(("127.0.0.1", self.serve(store, **more).port))
        self._stack.callback(proxy.close)
        return peer_at(name, proxy.address), proxy

    def start(self, task: Callable[..., Any], *args: Any, **kwargs: Any) -> Running:
        running = Running(task, args, kwargs)
        self._stack.callback(running.join)
        return running


class Running:
    """A call in a thread."""

    def __init__(self, task: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.problem: TransferProblem | None = None
        self._call = task, args, kwargs
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        task, args, kwargs = self._call
        try:
            task(*args, **kwargs)
        except TransferProblem as problem:
            self.problem = problem

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


class Looks:
    """What the watch of a puller asks its choice from now on: `tick`, by which time counts, or `rest`."""

    def __init__(self, choice: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self._more = threading.Semaphore(0)
        for name in ("rest", "tick"):
            monkeypatch.setattr(choice, name, partial(self._note, name, getattr(choice, name)))

    def _note(self, name: str, look: Callable[..., Any], *args: Any) -> Any:
        self.seen.append(name)
        self._more.release()
        return look(*args)

    def wait(self, times: int) -> None:
        for _ in range(times):
            assert self._more.acquire(timeout=20)


def peer_at(name: str, address: list[Any]) -> dict[str, Any]:
    return {"name": name, "addresses": [address], "origin": name == ORIGIN}


def puller(target: Target, *peers: dict[str, Any], **more: Any) -> Puller:
    return Puller(target, TID, SECRET, peers, **{"stall": 0.8, "patience": 15.0, **more})


@pytest.fixture
def net() -> Iterator[Net]:
    with contextlib.ExitStack() as stack:
        yield Net(stack)


def test_everything_comes_once_with_holes(net: Net) -> None:
    source = Source(holes=(3, 4))
    target = Target(source.layout)
    getting = puller(target, net.peer(ORIGIN, source))
    getting.run()
    assert target.hashes == source.hashes
    assert target.holes == {3, 4}
    assert sorted(source.asked) == [i for i in range(12) if i not in {3, 4}]
    whole = {"done": target.total, "coming": 0, "total": target.total}
    assert getting.progress() == {**whole, "retries": 0, "source": ORIGIN}


def test_nothing_to_fetch_dials_nobody(net: Net) -> None:
    source = Source(count=2)
    target = Target(source.layout)
    target.data = dict(enumerate(source.data))
    puller(target, peer_at(ORIGIN, ["127.0.0.1", 1])).run()


@pytest.mark.parametrize("streams", [1, 4])
def test_a_chain_relays_while_it_receives(net: Net, streams: int) -> None:
    source = Source(count=30)
    origin, wire = net.behind_proxy(ORIGIN, source)
    wire.bytes_per_second = 3_000_000
    targets = [Target(source.layout) for _ in range(4)]
    before, running = origin, []
    for number, target in enumerate(targets):
        running.append(net.start(puller(target, before, streams=streams).run))
        before = net.peer(f"relay {number}", target)
    for one in running:
        one.join()
        assert one.problem is None
    assert all(target.hashes == source.hashes for target in targets)
    assert sorted(source.asked) == list(range(30))


def test_another_party_at_the_address_of_a_peer_is_not_asked(net: Net) -> None:
    source, other = Source(), Source(lies=True)
    target = Target(source.layout)
    elsewhere = peer_at("relay", ["127.0.0.1", net.serve(other, name="elsewhere").port])
    puller(target, elsewhere, peer_at(ORIGIN, ["127.0.0.1", net.serve(source, name=ORIGIN).port])).run()
    assert target.hashes == source.hashes
    assert other.asked == []


def test_bytes_are_told_as_they_come(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the whole chunk: on a slow link, or with a low limit, that takes longer than anybody's patience."""
    source = Source(count=1, size=100_000)
    told: list[str] = []
    getting = puller(Target(source.layout), net.peer(ORIGIN, source), limiter=Limiter(1_000_000))
    monkeypatch.setattr(getting._choice, "moving", lambda name, now: told.append(name))
    getting.run()
    assert getting.received == 100_000
    assert told == [ORIGIN] * 5


def test_the_limit_holds_for_all_streams_together(net: Net) -> None:
    """On a clock of its own: 1 MB/s for 1 MB; each of the two streams waits for the other's first bytes."""
    lock, slept, streams = threading.Lock(), [], set()
    both = threading.Barrier(2, timeout=20)

    def wait(seconds: float) -> None:
        stream = threading.get_ident()
        with lock:
            slept.append(seconds)
            is_first = stream not in streams
            streams.add(stream)
        if is_first:
            both.wait()

    limiter = Limiter(1_000_000, clock=lambda: 0.0, wait=wait)
    assert limiter.slice() == 20_000
    source = Source(count=10, size=100_000)
    target = Target(source.layout)
    puller(target, net.peer(ORIGIN, source), limiter=limiter).run()
    assert target.hashes == source.hashes
    assert max(slept) == pytest.approx(1.0, abs=0.01)


def test_a_dead_predecessor_is_replaced(net: Net) -> None:
    source = Source(count=40)
    relay, wire = net.behind_proxy("relay", source)
    origin_source = Source(count=40)
    target = Target(source.layout)
    wire.bytes_per_second = 4_000_000
    events: list[tuple[str, dict[str, Any]]] = []
    getting = puller(target, relay, net.peer(ORIGIN, origin_source), on_event=lambda kind, data: events.append((kind, data)))
    running = net.start(getting.run)
    wire.wait_carried(500_000)
    wire.cut()
    running.join()
    assert running.problem is None
    assert target.hashes == source.hashes
    assert 0 < len(origin_source.asked) < 40
    assert ("source", {"peer": "relay"}) in events
    assert ("source", {"peer": ORIGIN}) in events
    assert getting.progress()["retries"] > 0


def test_a_stalled_predecessor_is_replaced_and_asked_again(net: Net) -> None:
    source, other = Source(count=60), Source(count=60)
    relay, wire = net.behind_proxy("relay", source)
    origin, slow = net.behind_proxy(ORIGIN, other)
    wire.bytes_per_second = slow.bytes_per_second = 3_000_000
    target = Target(source.layout)
    running = net.start(puller(target, relay, origin, stall=0.5).run)
    wire.wait_carried(300_000)
    wire.stall()
    slow.wait_carried(300_000)
    wire.flow()
    wire.wait_carried(1_000_000)
    running.join()
    assert running.problem is None
    assert target.hashes == source.hashes


def test_one_that_only_waits_is_bypassed(net: Net) -> None:
    source = Source()
    empty, target = Target(source.layout), Target(source.layout)
    getting = puller(target, net.peer("empty", empty), net.peer(ORIGIN, source), stall=0.3)
    getting.run()
    assert target.hashes == source.hashes
    assert getting.progress()["source"] == ORIGIN


def test_one_that_waits_is_waited_for_where_nobody_else_is_left(net: Net) -> None:
    source = Source(count=3)
    late, target, waits = Target(source.layout), Target(source.layout), threading.Semaphore(0)

    def nothing_new() -> int:
        waits.release()
        return 0

    peer, wire = net.behind_proxy("late", late, pulse=nothing_new)
    running = net.start(puller(target, peer, streams=1, stall=0.3).run)
    for _ in range(5):  # one WAIT after the other, each as long as `stall`
        assert waits.acquire(timeout=10)
    for index, data in enumerate(source.data):
        late.put(index, data, source.digest(index))
    running.join()
    assert running.problem is None
    assert target.hashes == source.hashes
    assert wire.dials == 1, "it was never left"


def test_waiting_for_ever_ends(net: Net) -> None:
    layout = Source(count=3).layout
    with pytest.raises(TransferProblem) as caught:
        puller(Target(layout), net.peer("late", Target(layout)), patience=1.0).run()
    assert caught.value.code == "stalled"


def test_one_that_waits_while_it_gets_something_is_waited_for(net: Net) -> None:
    """For longer than patience: seven WAITs take more than two seconds."""
    source = Source(count=3)
    late, target, waits, beats = Target(source.layout), Target(source.layout), threading.Semaphore(0), count()

    def pulse() -> int:
        waits.release()
        return next(beats)

    running = net.start(puller(target, net.peer("late", late, pulse=pulse), streams=1, patience=1.0).run)
    for _ in range(8):
        assert waits.acquire(timeout=10)
    for index, data in enumerate(source.data):
        late.put(index, data, source.digest(index))
    running.join()
    assert running.problem is None
    assert target.hashes == source.hashes


def test_a_link_cut_and_restored(net: Net) -> None:
    source = Source(count=40)
    origin, wire = net.behind_proxy(ORIGIN, source)
    wire.bytes_per_second = 4_000_000
    target = Target(source.layout)
    getting = puller(target, origin)
    running = net.start(getting.run)
    wire.wait_carried(500_000)
    wire.cut()
    dials = wire.dials
    while wire.dials < dials + 3:
        assert not target.wait_for(39, 0.05)
    wire.mend()
    running.join()
    assert running.problem is None
    assert target.hashes == source.hashes
    assert len(source.asked) <= 40 + 8


def test_flipped_bytes_are_fetched_again(net: Net) -> None:
    source = Source(count=40)
    origin, wire = net.behind_proxy(ORIGIN, source)
    wire.flips, wire.flip_every = 5, 400_000
    target = Target(source.layout)
    getting = puller(target, origin)
    getting.run()
    assert wire.flips == 0
    assert target.hashes == source.hashes
    assert getting.progress()["retries"] >= 5


def test_a_relay_that_spoils_three_chunks_is_asked_no_more(net: Net) -> None:
    source, other = Source(count=60), Source(count=60)
    relay, wire = net.behind_proxy("relay", source)
    wire.flips, wire.flip_every = 10_000, 60_000
    origin, slow = net.behind_proxy(ORIGIN, other)
    slow.bytes_per_second = 3_000_000
    target = Target(source.layout)
    bad = []
    getting = puller(target, relay, origin, on_event=lambda kind, data: bad.append(data.get("code")))
    getting.run()
    assert target.hashes == source.hashes
    assert bad.count("bad-chunk") in {3, 4}
    assert getting.progress()["source"] == ORIGIN


def test_a_peer_with_another_secret(net: Net) -> None:
    source = Source()
    target = Target(source.layout)
    with pytest.raises(TransferProblem) as caught:
        puller(target, net.peer(ORIGIN, source, secret=b"x" * 32)).run()
    assert caught.value.code == "wrong-secret"
    assert source.asked == []
    assert target.data == {}
    puller(target, net.peer("other", source, secret=b"x" * 32), net.peer(ORIGIN, source)).run()
    assert target.hashes == source.hashes


def test_a_lying_peer_is_found_by_verify_and_left(net: Net) -> None:
    source, liar = Source(count=20), Source(count=20, lies=True)
    target = Target(source.layout)
    getting = puller(target, net.peer("liar", liar), net.peer(ORIGIN, source))
    getting.run()
    bad = target.verify(source.hashes)
    assert bad
    assert getting.reject(bad) == ["liar"]
    getting.run()
    assert target.verify(source.hashes) == []
    assert target.hashes == source.hashes


def test_the_origin_is_not_rejected(net: Net) -> None:
    source = Source(count=4)
    target = Target(source.layout)
    getting = puller(target, net.peer(ORIGIN, source))
    getting.run()
    assert getting.reject([0, 1]) == []


def test_a_source_that_changes_ends_it(net: Net) -> None:
    source = Source(count=20)
    source.breaks_at = 7
    target = Target(source.layout)
    with pytest.raises(TransferProblem) as caught:
        puller(target, net.peer(ORIGIN, source)).run()
    assert caught.value.code == "source-changed"
    assert 7 not in target.data


def test_a_broken_relay_is_replaced(net: Net) -> None:
    relay, source = Source(count=20), Source(count=20)
    relay.breaks_at = 7
    target = Target(source.layout)
    puller(target, net.peer("relay", relay), net.peer(ORIGIN, source)).run()
    assert target.hashes == source.hashes
    assert 7 in source.asked


def test_a_full_disk_ends_it(net: Net) -> None:
    source = Source()
    target = Target(source.layout, full_after=5)
    with pytest.raises(TransferProblem) as caught:
        puller(target, net.peer(ORIGIN, source)).run()
    assert caught.value.code == "no-space"


def test_nobody_there(net: Net) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TransferProblem) as caught:
        puller(Target(Source().layout), peer_at(ORIGIN, ["127.0.0.1", port]), patience=1.0).run()
    assert caught.value.code == "unreachable"
    assert f"127.0.0.1:{port}" in caught.value.why


def test_stop_wakes_up_at_once(net: Net) -> None:
    origin, wire = net.behind_proxy(ORIGIN, Source())
    wire.bytes_per_second = 200_000
    target = Target(Source().layout)
    getting = puller(target, origin, stall=30.0)
    running = net.start(getting.run)
    wire.wait_carried(100_000)
    wire.stall()
    getting.stop(TransferProblem("cancelled", "the user wants no more"))
    running.join()
    assert running.problem is not None
    assert running.problem.what == "the user wants no more"


def test_pause_and_resume(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is paused nothing is asked for, and the time does not count."""
    monkeypatch.setattr(pulling, "_BEAT", 0.02)
    source = Source(count=40)
    origin, wire = net.behind_proxy(ORIGIN, source)
    wire.bytes_per_second = 4_000_000
    target = Target(source.layout)
    getting = puller(target, origin)
    running = net.start(getting.run)
    wire.wait_carried(300_000)
    getting.pause()
    with getting._changed:
        assert getting._changed.wait_for(lambda: not getting._active, 20)
    asked, looks = len(source.asked), Looks(getting._choice, monkeypatch)
    looks.wait(5)
    assert set(looks.seen) == {"rest"}
    assert len(source.asked) == asked < 40
    getting.resume()
    running.join()
    assert running.problem is None
    assert target.hashes == source.hashes
    assert sorted(source.asked) == list(range(40))


def test_a_sender_that_nobody_can_dial(net: Net) -> None:
    source = Source(count=30)
    target = Target(source.layout)
    server = net.serve(target)
    getting = puller(target, {"name": ORIGIN, "addresses": [], "origin": True})
    server.expect_servers(TID, getting.add_served)
    running = net.start(getting.run)
    stop = threading.Event()
    wire = Proxy(("127.0.0.1", server.port))
    serving = [
        net.start(dial_and_serve, [tuple(wire.address)], TID, SECRET, source, name=ORIGIN, stop=stop) for _ in range(2)
    ]
    running.join()
    stop.set()
    for one in serving:
        one.join()
    wire.close()
    assert running.problem is None
    assert target.hashes == source.hashes


def test_a_sender_that_dials_comes_back_after_a_cut(net: Net) -> None:
    source = Source(count=60)
    target = Target(source.layout)
    server = net.serve(target)
    getting = puller(target, {"name": ORIGIN, "addresses": [], "origin": True}, limiter=Limiter(4_000_000))
    server.expect_servers(TID, getting.add_served)
    running = net.start(getting.run)
    stop = threading.Event()
    wire = Proxy(("127.0.0.1", server.port))
    serving = net.start(dial_and_serve, [tuple(wire.address)], TID, SECRET, source, name=ORIGIN, stop=stop)
    assert target.wait_for(5, 10)
    wire.cut()
    wire.mend()
    running.join()
    stop.set()
    serving.join()
    wire.close()
    assert running.problem is None
    assert target.hashes == source.hashes
    assert wire.dials > 1
