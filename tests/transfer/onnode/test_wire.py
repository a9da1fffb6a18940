"""The greeting, and what hostile or broken parties may do to it; the channel's watch on silence."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ws.transfer.onnode import wire
from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.problems import TransferProblem

TID, SECRET = b"t" * 16, b"s" * 32


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with connected() as both:
        yield both


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


class Admitting:
    """`admit` in a thread."""

    def __init__(self, sock: socket.socket, secret: bytes | None = SECRET, timeout: float = 5.0, name: str = "") -> None:
        self.hello: wire.Hello | None = None
        self.problem: TransferProblem | None = None
        self._thread = threading.Thread(target=self._run, args=(sock, wire.Known(secret, name) if secret else None, timeout))
        self._thread.start()

    def _run(self, sock: socket.socket, known: wire.Known | None, timeout: float) -> None:
        try:
            self.hello = wire.admit(sock, lambda hello: known, timeout)
        except TransferProblem as problem:
            self.problem = problem

    def end(self) -> Admitting:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self


class Dialling:
    """`greet` in a thread; `end` gives the code of its problem."""

    def __init__(self, sock: socket.socket, wanted: str) -> None:
        self._code = ""
        self._thread = threading.Thread(target=self._run, args=(sock, wanted))
        self._thread.start()

    def _run(self, sock: socket.socket, wanted: str) -> None:
        try:
            wire.greet(sock, TID, SECRET, wire.PULLS, wanted=wanted)
        except TransferProblem as problem:
            self._code = problem.code

    def end(self) -> str:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self._code


def test_who_knows_the_secret_is_admitted(pair: tuple[socket.socket, socket.socket]) -> None:
    admitting = Admitting(pair[1])
    wire.greet(pair[0], TID, SECRET, wire.SERVES, name="ray_node_1")
    assert admitting.end().hello == wire.Hello(TID, wire.SERVES, "ray_node_1")


@pytest.mark.parametrize(
    ("name", "wanted"), [("b", "b"), ("b", ""), ("", "b"), ("ü" * 200, "ü" * 200), ("\udcff", "\udcff"), ("", "")]
)
def test_who_is_wanted_answers(pair: tuple[socket.socket, socket.socket], name: str, wanted: str) -> None:
    admitting = Admitting(pair[1], name=name)
    wire.greet(pair[0], TID, SECRET, wire.PULLS, name="a", wanted=wanted)
    assert admitting.end().hello == wire.Hello(TID, wire.PULLS, "a")


def test_another_party_of_the_same_transfer_refuses(pair: tuple[socket.socket, socket.socket]) -> None:
    admitting = Admitting(pair[1], name="ray_node_3")
    with pytest.raises(TransferProblem, match="is not ray_node_2") as caught:
        wire.greet(pair[0], TID, SECRET, wire.PULLS, wanted="ray_node_2")
    assert caught.value.code == "unreachable"
    problem = admitting.end().problem
    assert problem is not None
    assert "ray_node_3" in str(problem)


def test_who_is_wanted_is_proved(pair: tuple[socket.socket, socket.socket]) -> None:
    """Somebody between them, who has the dialler reach another one under a changed name, spoils the proof."""
    with connected() as (near, far):
        admitting = Admitting(far, name="c")
        dialler = Dialling(pair[0], "b")
        hello = pair[1].recv(1000)
        near.sendall(hello[:-1] + b"c")
        pair[1].sendall(near.recv(1000))
        near.sendall(pair[1].recv(32))
        assert dialler.end() == "wrong-secret"
        problem = admitting.end().problem
        assert problem is not None
        assert problem.code == "wrong-secret"


def test_both_sides_learn_that_secrets_differ(pair: tuple[socket.socket, socket.socket]) -> None:
    admitting = Admitting(pair[1], b"x" * 32)
    with pytest.raises(TransferProblem) as caught:
        wire.greet(pair[0], TID, SECRET, wire.PULLS)
    assert caught.value.code == "wrong-secret"
    problem = admitting.end().problem
    assert problem is not None
    assert problem.code == "wrong-secret"


def test_an_unknown_transfer(pair: tuple[socket.socket, socket.socket]) -> None:
    admitting = Admitting(pair[1], None)
    with pytest.raises(TransferProblem, match="knows nothing of this transfer"):
        wire.greet(pair[0], TID, SECRET, wire.PULLS)
    admitting.end()


def test_too_many(pair: tuple[socket.socket, socket.socket]) -> None:
    wire.turn_away(pair[1])
    with pytest.raises(TransferProblem) as caught:
        wire.greet(pair[0], TID, SECRET, wire.PULLS)
    assert caught.value.code == "busy"


def test_proofs_can_not_be_sent_back(pair: tuple[socket.socket, socket.socket]) -> None:
    """An acceptor without the secret that hands the dialler's own words back to it."""
    problem: list[TransferProblem] = []

    def dialler() -> None:
        try:
            wire.greet(pair[0], TID, SECRET, wire.PULLS)
        except TransferProblem as caught:
            problem.append(caught)

    thread = threading.Thread(target=dialler)
    thread.start()
    hello = pair[1].recv(1000)
    pair[1].sendall(b"\0" + hello[20:52] + bytes(32))
    thread.join(10)
    assert problem[0].code == "wrong-secret"
    assert SECRET not in hello


@pytest.mark.parametrize(
    "words", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4, b"WST1", b"WST1" + bytes(50), b"WST2" + bytes(90)]
)
def test_others_are_not_served(pair: tuple[socket.socket, socket.socket], words: bytes) -> None:
    admitting = Admitting(pair[1], timeout=0.3)
    pair[0].sendall(words)
    problem = admitting.end().problem
    assert problem is not None
    assert problem.code in {"lost", "stalled"}


def test_a_dialler_that_drips_runs_out_of_time(pair: tuple[socket.socket, socket.socket]) -> None:
    admitting = Admitting(pair[1], timeout=0.5)
    with contextlib.suppress(OSError):
        for _ in range(40):
            pair[0].sendall(b"W")
            if admitting.problem:
                break
            threading.Event().wait(0.05)
    problem = admitting.end().problem
    assert problem is not None


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=65, max_size=65))
def test_no_answer_of_an_acceptor_convinces_without_the_secret(answer: bytes) -> None:
    with connected() as (near, far):
        far.sendall(answer + b"\x01")
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(TransferProblem):
            wire.greet(near, TID, SECRET, wire.PULLS)


def test_silence_is_a_stall_and_an_end_is_a_loss(pair: tuple[socket.socket, socket.socket]) -> None:
    channel = wire.Channel(pair[0], "ray_node_2", threading.Event(), silence=0.3)
    with pytest.raises(TransferProblem, match="ray_node_2 was silent") as caught:
        channel.receive(10)
    assert caught.value.code == "stalled"
    with pytest.raises(TransferProblem) as caught:
        channel.send(bytes(50_000_000))
    assert caught.value.code == "stalled"
    pair[1].close()
    with pytest.raises(TransferProblem) as caught:
        while True:
            channel.receive(1)
    assert caught.value.code == "lost"


def test_a_stop_is_heard(pair: tuple[socket.socket, socket.socket]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(TransferProblem) as caught:
        wire.Channel(pair[0], "x", stop).receive(1)
    assert caught.value.code == "cancelled"


WAITER = """
import socket, sys, threading
from ws.transfer.onnode import wire
channel = wire.Channel(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), "x", threading.Event(), silence=1.0)
channel.send(b"go")
print(channel.receive(2).decode(), flush=True)
"""


def test_a_process_that_was_stopped_blames_nobody() -> None:
    """Stopped for longer than its patience with silence, it goes on when it is continued."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = [sys.executable, "-c", WAITER, str(listener.getsockname()[1])]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        sock, _ = listener.accept()
    with process, sock:
        assert sock.recv(2) == b"go"
        os.kill(process.pid, signal.SIGSTOP)
        threading.Event().wait(1.5)
        sock.sendall(b"ok")
        os.kill(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=20)[0].strip() == "ok"


def test_dial_tries_all_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[:2]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        admitting: list[Admitting] = []

        def accept() -> None:
            sock, _ = listener.accept()
            admitting.append(Admitting(sock).end())
            sock.close()

        thread = threading.Thread(target=accept)
        thread.start()
        addresses = [closed, ("no-such-host.invalid", 1), listener.getsockname()[:2]]
        with dial(addresses, TID, SECRET, wire.PULLS) as sock:
            assert sock.getpeername() == listener.getsockname()
        thread.join(10)
    assert admitting[0].hello == wire.Hello(TID, wire.PULLS, "")


def test_dial_says_what_each_address_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[:2]
    with pytest.raises(TransferProblem) as caught:
        dial([closed, closed], TID, SECRET, wire.PULLS)
    assert caught.value.code == "unreachable"
    assert caught.value.why.count(f"127.0.0.1:{closed[1]}: Connection refused") == 2
    with pytest.raises(TransferProblem, match="no address is known"):
        dial([], TID, SECRET, wire.PULLS)
