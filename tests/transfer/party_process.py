"""A party in a process of its own: methods are called over its standard input, answers come over its standard output.

It counts the bytes that it takes and gives in a file that outlives it, and can be told to stop still at one of them, or
at one of its methods, so that whoever drives it can kill it there.

Started as `python -m tests.transfer.party_process NAME ROOT COUNTS [LACKING]`; LACKING: a module that is not there.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ws.transfer.onnode import chunks, pulling
from ws.transfer.onnode.party import Party
from ws.transfer.onnode.writing import ChunkWriter

PIECE = 64 << 10
"""So that a chunk of 256 KiB is several pieces, and a process may die between two of them."""
TAKEN, GIVEN = 0, 1
COUNTS = struct.Struct("=QQ")
"""Bytes written into chunks, and bytes of chunks served."""


class Counts:
    """Bytes, in memory that a file keeps. `hold` stops the thread that brings one of them to `at`, at `step`."""

    def __init__(self, path: Path, tell: Callable[[], None]) -> None:
        with path.open("r+b") as file:
            self._kept = mmap.mmap(file.fileno(), COUNTS.size)
        self._tell = tell
        self._lock = threading.Lock()
        self._which, self._at, self._step = -1, 0, ""
        self._armed = False

    def hold(self, which: int, more: int, step: str) -> None:
        """After `more` bytes of that kind, at the next `step`: piece, whole (chunk), or kept (in the journal).

        Or "stopped": the process stops as a whole, until SIGCONT.
        """
        with self._lock:
            self._which, self._step = which, step
            self._at = COUNTS.unpack(self._kept[:])[which] + more

    def add(self, which: int, count: int) -> None:
        with self._lock:
            both = list(COUNTS.unpack(self._kept[:]))
            both[which] += count
            self._kept[:] = COUNTS.pack(*both)
            due = which == self._which and both[which] >= self._at
            self._armed, asleep = self._armed or due, due and not self._armed and self._step == "stopped"
        if asleep:
            self._sleep()
        self.passed("piece")

    def passed(self, step: str) -> None:
        self.stop_if(self._armed and step == self._step)

    def stop_if(self, due: bool) -> None:
        if due:
            self._tell()
            threading.Event().wait()

    def _sleep(self) -> None:
        """Stop this whole process until somebody has it go on."""
        self._tell()
        os.kill(os.getpid(), signal.SIGSTOP)


class Counting:
    """A store whose chunks are counted as they are served."""

    def __init__(self, store: Any, counts: Counts) -> None:
        self._store, self._counts = store, counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def pieces(self, index: int) -> Iterator[memoryview]:
        for piece in self._store.pieces(index):
            yield piece
            self._counts.add(GIVEN, len(piece))
        self._counts.passed("whole")


def count_what_is_taken(counts: Counts) -> None:
    write, commit = ChunkWriter.write, ChunkWriter.commit

    def counted_write(writer: ChunkWriter, piece: Any) -> None:
        write(writer, piece)
        counts.add(TAKEN, len(piece))

    def told_commit(writer: ChunkWriter, expected: bytes) -> None:
        counts.passed("whole")
        commit(writer, expected)
        counts.passed("kept")

    ChunkWriter.write = counted_write  # type: ignore[method-assign, assignment]
    ChunkWriter.commit = told_commit  # type: ignore[method-assign, assignment]


class CountedParty(Party):
    """Also has `hold` and `hold_call`."""

    counts: Counts
    held_call = ("", "")

    def start(self) -> dict[str, Any]:
        answer = super().start()
        assert self._server
        register = self._server.register

        def counted(tid: bytes, secret: bytes, store: Any, **more: Any) -> None:
            register(tid, secret, Counting(store, self.counts), **more)

        self._server.register = counted  # type: ignore[method-assign]
        return answer

    def hold(self, which: int, more: int, step: str) -> dict[str, Any]:
        self.counts.hold(which, more, step)
        return {}

    def hold_call(self, method: str, moment: str) -> dict[str, Any]:
        """Stop still "before" that method, or "after" it, when it has not been answered yet."""
        self.held_call = (method, moment)
        return {}


def main(name: str, root: str, counts: str, *lacking: str) -> None:
    sys.modules.update(dict.fromkeys(lacking, None))  # type: ignore[arg-type]
    out, lock = sys.stdout.buffer, threading.Lock()

    def tell(number: int, answer: Any) -> None:
        with lock:
            pickle.dump((number, answer), out)
            out.flush()

    pulling.PIECE = chunks.PIECE = PIECE  # type: ignore[attr-defined]
    party = CountedParty(name, environ={"WS_TRANSFER_ROOTS": root})
    party.counts = Counts(Path(counts), lambda: tell(-1, "held"))
    count_what_is_taken(party.counts)

    def run(method: str, *arguments: Any) -> Any:
        party.counts.stop_if(party.held_call == (method, "before"))
        answer = getattr(party, method)(*arguments)
        party.counts.stop_if(party.held_call == (method, "after"))
        return answer

    pool = ThreadPoolExecutor(32)
    while True:
        try:
            number, method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        asked = pool.submit(run, method, *arguments)
        asked.add_done_callback(lambda done, number=number: tell(number, done.result()))  # type: ignore[misc]


if __name__ == "__main__":
    main(*sys.argv[1:])
