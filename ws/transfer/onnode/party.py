"""One node's part in transfers, without Ray: what it serves, what it receives, and where it listens.

Every method takes and returns plain data (dict, list, str, int, bytes), and a failure is an answer as well:
{"problem": TransferProblem.as_dict()}. A transfer is named by 32 hex digits.

Environment of the node: WS_TRANSFER_ROOTS (see `names.Roots`), WS_TRANSFER_BIND and WS_TRANSFER_ADVERTISE (host to listen
at, host that others are told), WS_NODE_PORTS (`…,transfer=31006,…`: the node's own port, published one to one).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ws.transfer.onnode import hashing
from ws.transfer.onnode.answers import answering, port_of, reached_all
from ws.transfer.onnode.entries import Listing, scan
from ws.transfer.onnode.holding import Holding
from ws.transfer.onnode.leftover import discard_leftover
from ws.transfer.onnode.linux import give_back_memory
from ws.transfer.onnode.names import Place, Roots, name_of
from ws.transfer.onnode.parts import discard_left, place_for, receiving, sending
from ws.transfer.onnode.problems import LOST, UNREACHABLE, TransferProblem
from ws.transfer.onnode.pulling import Puller
from ws.transfer.onnode.ray_link import as_values, from_values, read_block
from ws.transfer.onnode.serving import Server, keep_serving
from ws.transfer.onnode.turns import Turns

LEASE = 20.0
"""Seconds after which a transfer that nobody asks about is given up: whoever coordinates it is gone."""
MOST_BYTES = 256 << 20
"""What all pulls of one node together may have in memory; who comes then waits for its turn."""
_WATCH = 1.0


class Party(Holding):
    """Takes part under `name`, listening at `port` (0: the node's own, else any free one; `listen` False: nowhere).

    `address` is what other nodes know this one by. `links` makes a link to a peer's actor (see `pulling.Puller`), where
    there are actors. Every method may be called from several threads at once.
    """

    def __init__(
        self,
        name: str,
        port: int = 0,
        *,
        address: str = "127.0.0.1",
        environ: Mapping[str, str] | None = None,
        listen: bool = True,
        links: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(name)
        self._environ = dict(os.environ if environ is None else environ)
        self._roots = Roots.from_environ(self._environ)
        self._address = self._environ.get("WS_TRANSFER_ADVERTISE") or address
        self._wanted_port = port
        self._listen = listen
        self._links = links
        self._taken = 0  # the port that it should have, where another has it
        self._turns = Turns(MOST_BYTES)
        self._stopped = threading.Event()
        self._started = False

    # The node

    @answering
    def start(self) -> dict[str, Any]:
        """Listen; safe to call twice. Answers who this is: name, addresses ([host, port] each), roots, algorithms…"""
        with self._lock:
            if not self._started:
                if self._listen:
                    self._server = self._serve()
                threading.Thread(target=self._watch, name="transfers", daemon=True).start()
                self._started = True
        return {
            "name": self.name,
            "addresses": [[self._address, self._server.port]] if self._server else [],
            "taken": self._taken,
            "roots": list(self._roots.paths),
            "algorithms": hashing.available(),
            "pid": os.getpid(),
            "python": sys.version.split()[0],
            "host": socket.gethostname(),
        }

    def _serve(self) -> Server:
        """On the node's own port where it is free: another actor of this node may have it."""
        ours = "WS_NODE_PORTS" in self._environ
        host = self._environ.get("WS_TRANSFER_BIND") or ("0.0.0.0" if ours else self._address)
        port = self._wanted_port or port_of(self._environ.get("WS_NODE_PORTS", ""))
        try:
            return Server(host, port)
        except TransferProblem:
            if self._wanted_port or not port:
                raise
            self._taken = port
            return Server(host, 0)

    @answering
    def stop(self) -> dict[str, Any]:
        """End every transfer, keeping what is there of it, and listen no more."""
        self._stopped.set()
        for tid in list(self._parts):
            self.finish(tid, True)
        if self._server:
            self._server.close()
        return {}

    # Both sides of a transfer

    @answering
    def offer(self, tid: str, path: str, secret: bytes, options: Mapping[str, Any]) -> dict[str, Any]:
        """Serve what is at `path`. Options: chunk_size, algorithm, limit (bytes per second or None), name.

        Answers listing (bytes), content, name, folder, files, chunks, total.
        """
        place, listing = self._source(path)
        self._put(tid, part := sending(place, listing, secret, options))
        return part.described()

    @answering
    def accept(self, tid: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Make ready to receive. Spec: listing, secret (bytes), dest (or None), overwrite, fsync, called (what the source is
        to be called), and options as of `offer`.

        Answers place, done, total, and `existing`: whether files are in the way, so that `existing` should be asked.
        What an earlier try left is hashed first. Asked again meanwhile, it waits for the same answer.
        """
        return self._accept(tid, receiving(partial(self._target, spec.get("dest")), spec))

    @answering
    def existing(self, tid: str, hashes: bytes) -> dict[str, Any]:
        """Compare the files that are in the way with the source's chunk hashes; see `Sink.offer_existing`."""
        return self._part(tid).look_at_existing(hashes)

    @answering
    def reach(self, tid: str, secret: bytes, targets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Try the way to each target ({"name", "addresses"}); answers name → {"ok", "ms", "why", "code"}."""
        return reached_all(tid, secret, targets)

    @answering
    def serve_by_dialling(
        self, tid: str, addresses: Sequence[Sequence[Any]], streams: int = 2, wanted: str = ""
    ) -> dict[str, Any]:
        """Serve `wanted`, who cannot dial this node: dial it, `streams` times, until it says that it has all."""
        part = self._part(tid)
        options: dict[str, Any] = {"name": part.name or self.name, "wanted": wanted, "stop": part.stop, "pulse": part.pulse}
        keep_serving(streams, addresses, bytes.fromhex(tid), part.secret, part.store, **options)
        return {}

    @answering
    def pull(self, tid: str, peers: Sequence[Mapping[str, Any]], options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Receive all that is missing, from `peers` (see `pulling.Puller`); returns when all is there, or in vain.

        Waits for its turn where others of this node have all of MOST_BYTES.

        Options: streams, stall, patience.
        """
        part = self._part(tid)
        puller = Puller(
            part.sink,
            bytes.fromhex(tid),
            part.secret,
            [dict(peer) for peer in peers if peer["name"] not in part.liars],
            limiter=part.limiter,
            links=self._links if any(peer.get("actor") for peer in peers) else None,
            name=self.name,
            **(options or {}),
        )
        with self._turns.turn(puller.bytes_in_flight, part.stop):
            part.run(puller)
        return part.progress()

    @answering
    def progress(self, tid: str) -> dict[str, Any]:
        """done, coming and total (bytes), retries, source (who gave the last chunk), paused; also before it is ready."""
        return self._part(tid, ready=False).progress()

    @answering
    def hashes(self, tid: str) -> dict[str, Any]:
        """The hash of every chunk of what is served, 32 bytes each, and `root`; an error if it has changed meanwhile."""
        return self._part(tid).hashes()

    @answering
    def settle(self, tid: str, hashes: bytes) -> dict[str, Any]:
        """Compare what was received with the source's hashes, and give it its name.

        Answers {"bad": how many chunks differ, which are missing again} or {"receipt": …}.
        """
        return self._part(tid).settle(hashes)

    @answering
    def finish(self, tid: str, keep_partial: bool = False) -> dict[str, Any]:
        """End this node's part; what is not whole goes, unless it is to be kept. Nothing happens where there is none."""
        self._drop(tid, keep_partial=keep_partial)
        return {}

    @answering
    def discard(self, tid: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """As `finish`, and what an earlier part left of what `accept` was given that `spec` for goes as well."""
        self.finish(tid)
        discard_left(partial(self._target, spec.get("dest")), spec)
        return {}

    @answering
    def pause(self, tid: str) -> dict[str, Any]:
        self._part(tid, ready=False).pause()
        return {}

    @answering
    def resume(self, tid: str) -> dict[str, Any]:
        self._part(tid, ready=False).resume()
        return {}

    @answering
    def interrupt(self, tid: str) -> dict[str, Any]:
        """End a pull that goes on; the next one may have other peers."""
        if puller := self._part(tid, ready=False).puller:
            puller.stop(TransferProblem(UNREACHABLE, "the sender began anew"))
        return {}

    @answering
    def discard_named(self, tid: str, name: str, dest: str | None, chunk_size: int, chunks: int) -> dict[str, Any]:
        """Remove what a transfer of `name` to `dest` left here whose coordinator is gone. Answers {"found": bool}."""
        self.finish(tid)
        return {"found": discard_leftover(self._target(dest, name, False), chunk_size, chunks)}

    # Blocks by Ray

    def read_block(self, tid: str, index: int, count: int) -> list[Any]:
        """One chunk for another actor, as the `count` values of a block; see `ray_link`."""
        return as_values(self._block(tid, index), count)

    @answering
    def _block(self, tid: str, index: int) -> dict[str, Any]:
        part = self._part(tid)
        return read_block(part.store, index, pulse=part.pulse)

    def write_block(self, tid: str, index: int, *values: Any) -> dict[str, Any]:
        """Take a chunk that is pushed by one that nobody can ask; one that is there already is left as it is."""
        return self._take_block(tid, index, values)

    @answering
    def _take_block(self, tid: str, index: int, values: Sequence[Any]) -> dict[str, Any]:
        self._part(tid).take_block(index, from_values(values))
        give_back_memory()
        return {}

    @answering
    def missing(self, tid: str, limit: int = 1 << 20) -> dict[str, Any]:
        """Indexes of chunks that are not there yet, in order, `limit` of them at most."""
        return {"missing": self._part(tid).missing(limit)}

    # Inside

    def _source(self, path: str) -> tuple[Place, Listing]:
        place = self._roots.find(path)
        listing = scan(place)
        # A root may be a link, whose target has another name.
        return place, listing if place.parts else listing._replace(name=name_of(path) or listing.name)

    def _target(self, dest: str | None, name: str, is_folder: bool) -> Place:
        return place_for(self._roots, dest, name, is_folder)

    def _watch(self) -> None:
        """Transfers whose coordinator is gone end, and what they have so far stays, for the one who resumes them.

        Time is counted in looks: a node that was itself stopped for a while does not blame the coordinator.
        """
        while not self._stopped.wait(_WATCH):
            for tid, part in list(self._parts.items()):
                part.unasked += _WATCH
                if part.unasked > LEASE:
                    why = f"nobody asked for it for {LEASE:g} s"
                    part.ended = TransferProblem(LOST, f"{self.name} gave the transfer up", why, "resume it")
                    self.finish(tid, True)
