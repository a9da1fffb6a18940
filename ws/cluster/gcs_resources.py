"""What is free on each node as the GCS knows it now, asked without Ray and without a driver.

The dashboard shows Ray's status report, which is up to 5 s old on plain clusters.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import Any

from ws.cluster.endpoint import Endpoint
from ws.cluster.ray_rpc import fields, open_channel
from ws.node.secret import Token, revealed

_METHOD = "/ray.rpc.NodeResourceInfoGcsService/GetAllAvailableResources"
_TIMEOUT = 1.0
_REST = 5.0
"""Seconds for which a GCS that did not answer is left alone: the report will do, and looks must not wait each time."""


class GcsResources:
    """Asks the GCS at `endpoint`; `token` is empty where it wants none. Not for several threads at once."""

    def __init__(self, endpoint: Endpoint, token: Token, timeout: float = _TIMEOUT) -> None:
        self._endpoint = endpoint
        self._token = token
        self._timeout = timeout
        self._channel: Any = None
        self._ask_at = 0.0

    def available(self) -> dict[str, dict[str, float]]:
        """Node id → resource → what is free of it; what is all in use is left out. Empty where nobody answers."""
        import grpc

        if time.monotonic() < self._ask_at:
            return {}
        self._channel = self._channel or open_channel(str(self._endpoint))
        metadata = [("authorization", f"Bearer {revealed(self._token)}")] if self._token else []
        try:
            reply = self._channel.unary_unary(_METHOD)(b"", timeout=self._timeout, metadata=metadata)
        except (grpc.RpcError, ValueError):  # ValueError: closed meanwhile
            self._ask_at = time.monotonic() + _REST
            return {}
        return _available(bytes(reply))

    def close(self) -> None:
        if self._channel:
            self._channel.close()


def free_of(total: Mapping[str, float], available: Mapping[str, float]) -> dict[str, float]:
    """A value for every resource of the node: Ray leaves out what is all in use."""
    return {name: available.get(name, 0.0) for name in total}


def _available(reply: bytes) -> dict[str, dict[str, float]]:
    """GetAllAvailableResourcesReply: resources_list = 2, each with node_id = 1, resources_available = 2 (a map)."""
    found: dict[str, dict[str, float]] = {}
    for number, node in fields(reply):
        if number != 2 or not isinstance(node, bytes):
            continue
        of_node = list(fields(node))
        node_id = next((value for number, value in of_node if number == 1 and isinstance(value, bytes)), b"")
        found[node_id.hex()] = dict(_entry(value) for number, value in of_node if number == 2 and isinstance(value, bytes))
    return found


def _entry(message: bytes) -> tuple[str, float]:
    """One entry of the map: a name and a double."""
    entry = dict(fields(message))
    name, amount = entry.get(1), entry.get(2)
    value = struct.unpack("<d", amount)[0] if isinstance(amount, bytes) and len(amount) == 8 else 0.0
    return name.decode(errors="replace") if isinstance(name, bytes) else "", float(value)
