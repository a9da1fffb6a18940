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
    and `close` at the end.
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
        """Serve exactly these ports, none to rest; a port that can't be bound is logged and left out."""
        asyncio.run_coroutine_threadsafe(self._point(dict(ports)), self._loop).result(timeout=10)

    def close(self) -> None:
        """Let every port go, cut every connection, and end for good."""
        if self._loop.is_closed():
            return
        self.point({})
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _point(self, ports: dict[int, Target]) -> None:
        if ports == self._targets:
            return
        for port in set(self._servers) - set(ports):
            # No `wait_closed`: from Python 3.12 on it waits for connections, too, and a peer may be slow to end.
            self._servers.pop(port).close()
        self._targets = ports
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
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
        except asyncio.CancelledError:
            writer.transport.abort()  # the head moved: nothing that the old one said is to arrive any more
        except (OSError, KeyError, asyncio.TimeoutError):
            pass  # either end went away: the peer sees its connection end and comes again
        finally:
            self._connections.discard(task)
            writer.close()

    async def _forward(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.wait_for(
            asyncio.open_connection(*target, limit=_BUFFER), timeout=_CONNECT_TIMEOUT
        )
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        except asyncio.CancelledError:
            far_writer.transport.abort()
            raise
        finally:
            far_writer.close()


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
