"""A wire between two parties that a test can cut, stall, slow down and flip bytes on; real sockets on both sides."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Forwards connections to `target`; what comes back from there passes the faults.

    Attributes: `flips`, how many bytes are still to be flipped, one for each `flip_every` bytes; `bytes_per_second`;
    `carried`, bytes that came back; `dials`, connections that were made.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.flips, self.flip_every = 0, 60_000
        self.bytes_per_second: float | None = None
        self.carried = self.dials = 0
        self._flows, self._is_open = threading.Event(), True
        self._flows.set()
        self._reached = threading.Condition()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = ["127.0.0.1", self._listener.getsockname()[1]]
        self._start(self._accept)

    def cut(self) -> None:
        """Every connection breaks, and new ones are refused, until `mend`."""
        self._is_open = False
        for pair in list(self._pairs):
            for sock in pair:
                _shut(sock)

    def mend(self) -> None:
        self._is_open = True

    def stall(self) -> None:
        """Nothing comes back, and nothing breaks, until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    def wait_carried(self, count: int) -> None:
        with self._reached:
            assert self._reached.wait_for(lambda: self.carried >= count, 20), f"{self.carried} of {count} bytes"

    def wait_dials(self, count: int) -> None:
        with self._reached:
            assert self._reached.wait_for(lambda: self.dials >= count, 20), f"{self.dials} of {count} connections"

    def close(self) -> None:
        self.cut()
        self.flow()
        _shut(self._listener)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, task: object, *args: object) -> None:
        thread = threading.Thread(target=task, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._reached:
                self.dials += 1
                self._reached.notify_all()
            if not self._is_open:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target, 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._pairs.add((near, far))
            self._start(self._carry, near, far, False)
            self._start(self._carry, far, near, True)

    def _carry(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := bytearray(source.recv(65_536)):
                if back:
                    self._flows.wait()
                    data = self._spoil(data)
                sink.sendall(data)
                if back:
                    with self._reached:
                        self.carried += len(data)
                        self._reached.notify_all()
        _shut(source)
        _shut(sink)
        if back:
            with contextlib.suppress(KeyError):
                self._pairs.remove((sink, source))
        source.close()

    def _spoil(self, data: bytearray) -> bytearray:
        if self.bytes_per_second:
            time.sleep(len(data) / self.bytes_per_second)
        before = self.carried
        if self.flips and before // self.flip_every != (before + len(data)) // self.flip_every:
            self.flips -= 1
            data[len(data) // 2] ^= 0x10
        return data


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
