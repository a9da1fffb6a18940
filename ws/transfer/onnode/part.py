"""What one node holds of one transfer: a source that it serves, or a target that it fills and serves meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ws.transfer.onnode.entries import FILE, Listing, content_id, pack
from ws.transfer.onnode.layout import Layout, root_hash
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.problems import BUSY, CANCELLED, LOST, TransferProblem
from ws.transfer.onnode.ray_link import write_block
from ws.transfer.onnode.reader import Reader
from ws.transfer.onnode.sink import Sink

if TYPE_CHECKING:
    from ws.transfer.onnode.pulling import Puller

_END = 10.0
"""Seconds that writing threads may take to let go of a target."""
_BEAT = 0.5


class Part:
    """One node's part; `stop` is set once it ends. Several threads use it at once.

    Attributes: `liars` gave chunks that turned out to be wrong; `had`: bytes that were there before; `unasked`:
    seconds for which nobody asked about it; `ended`: what is said where it has ended; `name`: what this node is called;
    `accepted`: the answer to `Party.accept` once it is ready, or its problem.
    """

    def __init__(
        self, store: Reader | Sink, listing: Listing, layout: Layout, secret: bytes, options: Mapping[str, Any]
    ) -> None:
        self.store = store
        self.name = str(options.get("name") or "")
        self.listing = listing
        self.layout = layout
        self.secret = secret
        self.limiter = Limiter(options.get("limit"))
        self.stop = threading.Event()
        self.puller: Puller | None = None
        self.accepted: Future[dict[str, Any]] = Future()
        self.liars: set[str] = set()
        self.unasked = 0.0
        self.ended = TransferProblem(CANCELLED, "the transfer was ended on this node")
        self.began = time.monotonic()
        self.had = 0
        self._pushed = 0
        self._retries = 0  # of the pullers before this one
        self._served: list[tuple[socket.socket, str]] = []
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._going = threading.Event()  # it is not paused
        self._going.set()
        self._receipt: dict[str, Any] | None = None

    @property
    def sink(self) -> Sink:
        """The target; the problem `lost` where this part is a source."""
        if not isinstance(self.store, Sink):
            raise TransferProblem(LOST, "this node sends that transfer, and cannot receive it")
        return self.store

    @property
    def reader(self) -> Reader:
        if not isinstance(self.store, Reader):
            raise TransferProblem(LOST, "this node receives that transfer, and cannot answer for its source")
        return self.store

    @property
    def is_source(self) -> bool:
        return isinstance(self.store, Reader)

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked for more than how far it has come."""
        return self.is_source or self.accepted.done()

    @property
    def paused(self) -> bool:
        return not self._going.is_set()

    def prepare(self) -> dict[str, Any]:
        """Make the target ready, which takes as long as hashing what an earlier try left; returns what was accepted."""
        try:
            self.sink.prepare(self.stop.is_set)
            self.had = self.sink.done_bytes
            existing = bool(self.sink.identical_candidates())
            missing = sum(1 for _ in self.sink.missing())
            about = {
                "place": self.sink.place.text,
                "done": self.had,
                "total": self.layout.total,
                "missing": missing,
                "existing": existing,
            }
            self.accepted.set_result(about)
        except BaseException as error:
            self.accepted.set_exception(self.ended if self.stop.is_set() else error)
        return self.accepted.result()

    def run(self, puller: Puller) -> None:
        """Let it receive until all is there; one at a time."""
        with self._lock:
            if self.puller:
                self._retries += self.puller.progress()["retries"]
            self.puller = puller
            if self.stop.is_set():
                raise self.ended
            if self.paused:
                puller.pause()
            self._idle.clear()
            waiting, self._served = self._served, []
        try:
            for sock, name in waiting:
                puller.add_served(sock, name)
            puller.run()
        finally:
            self._idle.set()

    def take_served(self, sock: socket.socket, name: str) -> None:
        """A connection by which somebody serves this node; kept for the puller where that has not begun."""
        with self._lock:
            puller = self.puller
            if puller is None:
                self._served.append((sock, name))
        if puller is not None:
            puller.add_served(sock, name)

    def pulse(self) -> int:
        """Bytes that came in: tells those who wait for a chunk that something moves."""
        return self._pushed + (self.puller.received if self.puller else 0)

    def check(self) -> None:
        """It goes on; whoever drives it keeps it. Raises what it ended with."""
        if self.stop.is_set():
            raise self.ended
        self.unasked = 0.0

    def await_limit(self, count: int) -> None:
        """Wait until so many bytes may go, as long as it goes on; none may while it is paused."""
        while count:
            while not self._going.wait(_BEAT):
                self.check()
            self.check()
            now = min(count, self.limiter.slice())
            self.limiter.take(now)
            count -= now

    def described(self) -> dict[str, Any]:
        """What a recipient needs to know of the source."""
        files = sum(entry.kind == FILE for entry in self.listing.entries)
        return {
            "listing": pack(self.listing),
            "content": content_id(self.listing, self.layout.chunk_size, self.layout.algorithm),
            "name": self.listing.name,
            "folder": self.listing.is_folder,
            "files": files,
            "chunks": self.layout.count,
            "total": self.layout.total,
        }

    def progress(self) -> dict[str, Any]:
        done = self.sink.done_bytes if isinstance(self.store, Sink) else self.layout.total
        told: dict[str, Any] = self.puller.progress() if self.puller else {"retries": 0, "source": ""}
        return {
            "retries": self._retries + told["retries"],
            "source": told["source"],
            "done": done,
            "coming": told.get("coming", 0),
            "total": self.layout.total,
            "paused": self.paused,
        }

    def look_at_existing(self, hashes: bytes) -> dict[str, Any]:
        identical = self.sink.offer_existing(hashes)
        self.had = self.sink.done_bytes
        return {"identical": len(identical), "done": self.had, "missing": sum(1 for _ in self.sink.missing())}

    def hashes(self) -> dict[str, Any]:
        reader = self.reader
        hashes = reader.digests(stop=self.stop.is_set)
        reader.check_unchanged()
        return {"hashes": hashes, "root": root_hash(self.layout, hashes)}

    def settle(self, hashes: bytes) -> dict[str, Any]:
        with self._lock:
            if self._receipt is None:
                sink = self.sink
                bad = sink.verify(hashes)
                if bad:
                    if self.puller:
                        self.liars.update(self.puller.reject(bad))
                    return {"bad": len(bad)}
                self._receipt = {**sink.publish(hashes), "had": self.had, "seconds": time.monotonic() - self.began}
            return {"receipt": self._receipt}

    def pause(self) -> None:
        with self._lock:
            self._going.clear()
            if self.puller:
                self.puller.pause()

    def resume(self) -> None:
        with self._lock:
            self._going.set()
            if self.puller:
                self.puller.resume()

    def take_block(self, index: int, block: Mapping[str, Any]) -> None:
        """Put a block into the target, unless it is there."""
        if self.sink.have(index):
            return
        try:
            write_block(self.sink, index, block)
            self._pushed += self.layout.length(index)
        except PeerFailed as failure:
            raise failure.problem from failure
        except TransferProblem as problem:
            if problem.code != BUSY:  # it comes another way at this very moment
                raise

    def missing(self, limit: int) -> list[int]:
        found: list[int] = []
        for index in self.sink.missing():
            if len(found) >= limit:
                break
            found.append(index)
        return found

    def end(self, *, keep_partial: bool) -> None:
        """Stop whatever goes on, and let go of the files."""
        self.stop.set()
        self._going.set()
        if not self.is_ready:
            self.accepted.exception()  # that is: wait for it
        with self._lock:
            puller = self.puller
        if puller is not None:
            puller.stop(self.ended)
            self._idle.wait(_END)
        for sock, _ in self._served:
            sock.close()
        if isinstance(self.store, Sink):
            self.store.close(discard=not keep_partial)
        else:
            self.store.close()
