"""Whether nodes still answer from here: one held TCP connection to each raylet.

A connection that is held ends at the moment that its raylet is killed, and keep-alive ends it within 3 s where packets
vanish, so a node is suspect long before the GCS takes it for dead (15 to 65 s). It costs no traffic but keep-alives. A
node that never answered here is not reachable from here, and is suspected of nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import threading
from collections.abc import Callable, Mapping

from ws.cluster.endpoint import Endpoint
from ws.cluster.wire import connect

_CONNECT = 2.0
_RETRY = 1.0
_RETRY_UNREACHED = 15.0
_LONGEST_SILENCE = 3
"""Seconds until a peer counts as gone whose kernel answers no keep-alive."""
_GREETING = 2.0
"""Seconds within which a raylet sends its first bytes: a relay in front of a dead one accepts, and sends nothing."""

Address = tuple[str, int]


class Reach:
    """Follows nodes in a thread of its own, and tells of each that stops or begins to answer.

    `tell` is called in that thread with a node id and why the node does not answer, or None where it does again.
    """

    def __init__(self, tell: Callable[[str, str | None], None]) -> None:
        self._tell = tell
        self._followed: dict[str, tuple[Address, asyncio.Task[None]]] = {}
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="reach", daemon=True)
        self._thread.start()

    def follow(self, endpoints: Mapping[str, Address]) -> None:
        """Follow exactly these nodes (node id → raylet), as many as a quarter of this process's open files allows."""
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._loop.call_soon_threadsafe(self._follow, dict(endpoints))

    def close(self) -> None:
        """Let every connection go and end the thread."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._drop_all(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _follow(self, endpoints: dict[str, Address]) -> None:
        outdated = [key for key, (endpoint, _) in self._followed.items() if endpoints.get(key) != endpoint]
        for key in outdated:
            self._followed.pop(key)[1].cancel()
        for key, endpoint in endpoints.items():
            if key not in self._followed and len(self._followed) < self._most:
                self._followed[key] = (endpoint, self._loop.create_task(self._hold(key, endpoint)))

    async def _drop_all(self) -> None:
        self._most = 0
        self._followed = {}
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hold(self, node_id: str, endpoint: Address) -> None:
        reached = suspected = False
        while True:
            try:
                reader, writer = await _greeted(endpoint)
            except (OSError, UnicodeError) as error:
                if reached and not suspected:
                    suspected = True
                    self._tell(node_id, f"{endpoint[0]}:{endpoint[1]} {_brief(error)}")
                await asyncio.sleep(_RETRY if reached else _RETRY_UNREACHED)
                continue
            reached = True
            if suspected:
                suspected = False
                self._tell(node_id, None)
            with contextlib.closing(writer), contextlib.suppress(OSError):
                while await reader.read(4096):
                    pass


async def _greeted(endpoint: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the raylet has sent its first bytes; raises OSError where there is none in time."""
    async with asyncio.timeout(_CONNECT):
        reader, writer = await connect(Endpoint(*endpoint))
    try:
        _keep_alive(writer.get_extra_info("socket"))
        async with asyncio.timeout(_GREETING):
            if await reader.read(4096):
                return reader, writer
        raise ConnectionResetError("closes the connection at once")
    except BaseException:
        writer.close()
        raise


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _LONGEST_SILENCE - 1)


def _brief(error: OSError | UnicodeError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(error, TimeoutError):
        return "does not answer"
    return getattr(error, "strerror", None) or str(error)
