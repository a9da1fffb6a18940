"""What one node holds of one transfer: a source that it serves, or a target that it fills and serves meanwhile."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ws.transfer.onnode import hashing
from ws.transfer.onnode.entries import FILE, Listing, content_id, pack, unpack
from ws.transfer.onnode.layout import CHUNK_SIZE, Layout, root_hash
from ws.transfer.onnode.limiter import Limiter
from ws.transfer.onnode.link import PeerFailed
from ws.transfer.onnode.names import Place, Roots, check_relative, open_folder
from ws.transfer.onnode.problems import BUSY, CANCELLED, LOST, TransferProblem
from ws.transfer.onnode.ray_link import write_block
from ws.transfer.onnode.reader import Reader
from ws.transfer.onnode.sink import Sink

if TYPE_CHECKING:
    from ws.transfer.onnode.pulling import Puller

_END = 10.0
"""Seconds that writing threads may take to let go of a target."""


class Part:
    """One node's part; `stop` is set once it ends. Several threads use it at once.

    Attributes: `liars` gave chunks that turned out to be wrong; `had`: bytes that were there before; `unasked`:
    seconds for which nobody asked about it; `ended`: what is said where it has ended; `name`: what this node is called.
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
        self.paused = False
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
        """Wait until so many bytes may go, as long as it goes on."""
        while count:
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
            self.paused = True
            if self.puller:
                self.puller.pause()

    def resume(self) -> None:
        with self._lock:
            self.paused = False
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


def sending(place: Place, listing: Listing, secret: bytes, options: Mapping[str, Any]) -> Part:
    """The part of a source; options: chunk_size (bytes), algorithm, limit (bytes per second), name (what it is called)."""
    layout = _layout(listing, options)
    return Part(Reader(place, listing, layout), listing, layout, secret, options)


def receiving(target: Callable[[str, bool], Place], spec: Mapping[str, Any]) -> tuple[Part, dict[str, Any]]:
    """The part of a target, ready to be filled, and the answer to `Party.accept`. `target`: see `place_for`."""
    listing = unpack(spec["listing"])
    layout = _layout(listing, spec)
    place = target(listing.name, listing.is_folder)
    sink = Sink(
        place,
        listing,
        layout,
        overwrite=bool(spec.get("overwrite")),
        fsync=bool(spec.get("fsync", True)),
        keep_partial=bool(spec.get("keep_partial")),
    )
    sink.prepare()
    part = Part(sink, listing, layout, spec["secret"], spec)
    part.had = sink.done_bytes
    existing, missing = bool(sink.identical_candidates()), sum(1 for _ in sink.missing())
    return part, {"place": place.text, "done": part.had, "total": layout.total, "missing": missing, "existing": existing}


def discard_left(target: Callable[[str, bool], Place], spec: Mapping[str, Any]) -> None:
    """Remove what is not whole of what `receiving` was given that spec for; nothing happens where there is none."""
    listing = unpack(spec["listing"])
    Sink(target(listing.name, listing.is_folder), listing, _layout(listing, spec)).discard_left()


def _layout(listing: Listing, options: Mapping[str, Any]) -> Layout:
    algorithm = str(options.get("algorithm") or hashing.SHA256)
    hashing.new(algorithm)  # what is not here is a problem now, not at the first chunk
    return Layout(listing.entries, int(options.get("chunk_size") or CHUNK_SIZE), algorithm)


def place_for(roots: Roots, dest: str | None, name: str, is_folder: bool) -> Place:
    """Where a source called `name` goes: a folder always below `dest`; a file to `dest`, or into the folder that it is.

    Without `dest`: below the first root.
    """
    check_relative(name)
    if not dest:
        return roots.first.below(name)  # not `find`: a name may begin with ~
    place = roots.find(dest)
    inside = is_folder or dest.endswith("/") or not place.parts or _is_folder(place)
    return place.below(name) if inside else place


def _is_folder(place: Place) -> bool:
    try:
        above = open_folder(place.parent)
    except TransferProblem:
        return False
    try:
        return stat.S_ISDIR(os.stat(place.name, dir_fd=above, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(above)
