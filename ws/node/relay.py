"""A TCP relay: this node's entry ports lead to the current head.

Transparent to Ray (FACTS 4). One event loop in one thread serves all ports; the target may change at any time and
holds for new connections, while connections to an old target are cut, because Ray must not go on talking to a
head that is none any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from functools import partial

from ws.node.log import BAD, say

_BUFFER = 256 * 1024
_CONNECT_TIMEOUT = 5.0

Target = tuple[str, int]


class Relay:
    """Forwards local ports to targets.

    `ports` maps a local port to the target (host, port) that it leads to. Use `point` to change them all at once
    and `close` to let the ports go.
    """

    def __init__(self, bind_hosts: Sequence[str]) -> None:
        self._bind_hosts = list(bind_hosts)
        self._targets: dict[int, Target] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()

    def point(self, ports: Mapping[int, Target]) -> None:
        """Serve exactly these ports; a port that can't be bound is logged and left out."""
        asyncio.run_coroutine_threadsafe(self._point(dict(ports)), self._loop).result(timeout=10)

    def close(self) -> None:
        """Let every port go and cut every connection."""
        self.point({})

    async def _point(self, ports: dict[int, Target]) -> None:
        if ports == self._targets:
            return
        for task in list(self._connections):
            task.cancel()
        for port in set(self._servers) - set(ports):
            server = self._servers.pop(port)
            server.close()
            await server.wait_closed()
        self._targets = ports
        for port in set(ports) - set(self._servers):
            try:
                self._servers[port] = await asyncio.start_server(partial(self._serve, port), self._bind_hosts, port)
            except OSError as error:
                say(f"port {port} can't be relayed to the head: {error.strerror or error}", BAD)

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(self._targets[port], reader, writer)
        except (OSError, KeyError, asyncio.TimeoutError, asyncio.CancelledError):
            pass  # either end went away, or the head moved: the peer sees its connection end and comes again
        finally:
            self._connections.discard(task)
            _abort(writer)

    async def _forward(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.wait_for(
            asyncio.open_connection(*target, limit=_BUFFER), timeout=_CONNECT_TIMEOUT
        )
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            _abort(far_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end of the stream, then pass the end on, so that half-closed connections work."""
    while True:
        data = await reader.read(_BUFFER)
        if not data:
            break
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()


def _abort(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    if not transport.is_closing():
        transport.close()
