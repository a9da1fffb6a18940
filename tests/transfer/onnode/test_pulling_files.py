"""The stream plane with real files: source to disk, disk to disk, and a peer whose process is stopped."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.onnode.memory import SECRET, TID, Source, Target
from ws.transfer.onnode.entries import scan
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.names import Roots
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.onnode.pulling import Puller
from ws.transfer.onnode.reader import Reader
from ws.transfer.onnode.serving import Server
from ws.transfer.onnode.sink import Sink

CHUNK = 1 << 20


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as closing:
        yield closing


def source_in(folder: Path, stack: contextlib.ExitStack) -> Reader:
    """5 MB of data, a file that is mostly a hole, small and empty ones."""
    chance = random.Random(3)
    top = folder / "from" / "data"
    (top / "deep").mkdir(parents=True)
    (top / "big.bin").write_bytes(chance.randbytes(5_000_000))
    (top / "empty").touch()
    with (top / "sparse").open("wb") as file:
        file.truncate(6 * CHUNK)
        file.seek(4 * CHUNK + 10)
        file.write(b"here")
    for number in range(200):
        (top / "deep" / f"{number}.txt").write_bytes(chance.randbytes(number * 10))
    place = Roots([str(folder / "from")]).find("data")
    listing = scan(place)
    reader = Reader(place, listing, Layout(listing.entries, CHUNK))
    stack.callback(reader.close)
    return reader


def sink_in(folder: Path, name: str, stack: contextlib.ExitStack) -> Sink:
    (folder / name).mkdir()
    place = Roots([str(folder / "from")]).find("data")
    listing = scan(place)
    sink = Sink(Roots([str(folder / name)]).find("data"), listing, Layout(listing.entries, CHUNK), fsync=False)
    sink.prepare()
    stack.callback(sink.close, True)
    return sink


def serve(store: Reader | Sink, stack: contextlib.ExitStack) -> list[list[object]]:
    server = Server("127.0.0.1")
    stack.callback(server.close)
    server.register(TID, SECRET, store)
    return [["127.0.0.1", server.port]]


def content(top: Path) -> dict[str, str]:
    files = sorted(path for path in top.rglob("*") if path.is_file())
    return {str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_folder_goes_along_a_chain(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    source = source_in(tmp_path, stack)
    before = {"name": "origin", "addresses": serve(source, stack), "origin": True}
    problems: list[TransferProblem] = []
    sinks, threads = [], []

    def pull(puller: Puller) -> None:
        try:
            puller.run()
        except TransferProblem as problem:
            problems.append(problem)

    for name in ("one", "two", "three"):
        sink = sink_in(tmp_path, name, stack)
        puller = Puller(sink, TID, SECRET, [before])
        threads.append(threading.Thread(target=pull, args=(puller,)))
        threads[-1].start()
        before = {"name": name, "addresses": serve(sink, stack), "origin": False}
        sinks.append(sink)
    for thread in threads:
        thread.join(60)
    assert not problems
    hashes = source.digests()
    for name, sink in zip(("one", "two", "three"), sinks, strict=True):
        assert sink.verify(hashes) == []
        sink.publish(hashes)
        assert content(tmp_path / name / "data") == content(tmp_path / "from" / "data")
        assert (tmp_path / name / "data" / "sparse").stat().st_blocks * 512 < 3 * CHUNK


def test_a_source_cut_short_meanwhile_fails_it(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    source = source_in(tmp_path, stack)
    sink = sink_in(tmp_path, "one", stack)
    os.truncate(tmp_path / "from" / "data" / "big.bin", 2_500_000)
    peer = {"name": "origin", "addresses": serve(source, stack), "origin": True}
    with pytest.raises(TransferProblem) as caught:
        Puller(sink, TID, SECRET, [peer]).run()
    assert caught.value.code == "source-changed"
    assert not (tmp_path / "one" / "data").exists()


RELAY = """
import sys, threading
from tests.transfer.onnode.memory import SECRET, TID, Source
from ws.transfer.onnode.serving import Server
server = Server("127.0.0.1")
server.register(TID, SECRET, Source(count=40))
print(server.port, flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("blow", [signal.SIGSTOP, signal.SIGKILL])
def test_a_peer_whose_process_is_stopped_or_killed(stack: contextlib.ExitStack, blow: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", RELAY], stdout=subprocess.PIPE, text=True)
    stack.enter_context(process)
    stack.callback(process.kill)
    assert process.stdout
    relay = {"name": "relay", "addresses": [["127.0.0.1", int(process.stdout.readline())]], "origin": False}
    source = Source(count=40)
    server = Server("127.0.0.1")
    stack.callback(server.close)
    server.register(TID, SECRET, source)
    origin = {"name": "origin", "addresses": [["127.0.0.1", server.port]], "origin": True}
    target = Target(source.layout)
    puller = Puller(target, TID, SECRET, [relay, origin], stall=0.8, limiter=Limiter(4_000_000))
    thread = threading.Thread(target=puller.run)
    thread.start()
    assert target.wait_for(2, 20)
    process.send_signal(blow)
    thread.join(30)
    assert not thread.is_alive()
    assert target.hashes == source.hashes
    assert source.asked
