"""Ray's own gRPC services, asked without Ray: a few unary calls whose messages are read field by field.

`import ray` would take a second, and its clients accept their own version alone; these messages have kept their numbers
(gcs_service.proto, gcs.proto, ray_client.proto in ray/protobuf).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ws.cluster.records import TokenNeed
from ws.node.secret import Token, revealed

_NODES = "/ray.rpc.NodeInfoGcsService/"
_KV_GET = "/ray.rpc.InternalKVGcsService/InternalKVGet"
_CLIENT_KEYS = "/ray.rpc.RayletDriver/KVList"
_AGENT = re.compile(rb"DASHBOARD_AGENT_\w+:([0-9a-f]{56})")
_LARGEST = 64 << 20
_ONLY_ALIVE = b"\x18\x00"  # state_filter: ALIVE


@dataclass
class Findings:
    """What a gRPC server said: "gcs", "client", or "" for neither, and whose it is. `nodes` counts the living."""

    service: str = ""
    token: TokenNeed = TokenNeed.unknown
    cluster_id: str | None = None
    session: str | None = None
    ray_version: str | None = None
    python_version: str | None = None
    nodes: int | None = None
    node_ids: frozenset[str] = frozenset()
    dashboard: str | None = None


class _Refused(Exception):
    """The server wants a token, or another one."""


class _NotOffered(Exception):
    """The server has no such method, or does not answer."""


def question(target: str, token: Token, others: Sequence[Token], timeout: float) -> Findings:
    """Ask the gRPC server at `target` (ip:port) who it is, within `timeout` seconds.

    Args:
        token: the user's, sent only to a server that asks for one.
        others: further tokens to try where that one is refused.
    """
    with open_channel(target) as channel:
        for service, ask in (("gcs", _ask_gcs), ("client", _ask_client)):
            try:
                return _with_tokens(service, ask, _Caller(channel, timeout), token, others)
            except _NotOffered:
                continue
    return Findings()


def open_channel(target: str) -> Any:
    """A channel to a gRPC server of Ray; connects with the first call, and again within a second where that was lost."""
    import grpc

    # What a proxy of the environment would reach is not what listens here.
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", _LARGEST), ("grpc.enable_retries", 0)]
    return grpc.insecure_channel(target, options=[*options, ("grpc.max_reconnect_backoff_ms", 1000)])


class _Caller:
    """Unary calls on one channel, with one deadline for all of them."""

    def __init__(self, channel: Any, timeout: float) -> None:
        self._channel = channel
        self._deadline = time.monotonic() + timeout
        self.token: Token = ""

    def call(self, method: str, request: bytes = b"") -> bytes:
        import grpc

        left = max(0.01, self._deadline - time.monotonic())
        metadata = [("client_id", "ws-discover")]  # a Ray Client server answers nobody without one
        if self.token:
            metadata.append(("authorization", f"Bearer {revealed(self.token)}"))
        try:
            return bytes(self._channel.unary_unary(method)(request, timeout=left, metadata=metadata))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise _Refused from None
            raise _NotOffered from None

    def kept(self, key: bytes, namespace: bytes) -> str | None:
        """A value of the GCS's internal key-value store."""
        try:
            reply = self.call(_KV_GET, _text(1, key) + _text(2, namespace))
        except _NotOffered:
            return None
        value = _first(reply, 2)
        return value.decode(errors="replace") if isinstance(value, bytes) else None


def _with_tokens(
    service: str, ask: Callable[[_Caller], Findings], caller: _Caller, token: Token, others: Sequence[Token]
) -> Findings:
    """Without a token first: one is for those alone that ask for it."""
    try:
        found = ask(caller)
    except _Refused:
        need = TokenNeed.needed
    else:
        found.token = TokenNeed.not_needed
        return found
    for attempt in dict.fromkeys(each for each in (token, *others) if each):
        caller.token = attempt
        try:
            found = ask(caller)
        except _Refused:
            if attempt == token:
                need = TokenNeed.refused
            continue
        found.token = need
        return found
    return Findings(service, need)


def _ask_gcs(caller: _Caller) -> Findings:
    found = Findings("gcs")
    cluster_id = _first(caller.call(_NODES + "GetClusterId"), 2)
    found.cluster_id = cluster_id.hex() if isinstance(cluster_id, bytes) else None
    found.session = caller.kept(b"session_name", b"session")
    _read_metadata(found, caller.kept(b"CLUSTER_METADATA", b"cluster"))
    found.dashboard = caller.kept(b"dashboard", b"dashboard")
    try:
        found.node_ids = frozenset(_living(caller.call(_NODES + "GetAllNodeInfo", _ONLY_ALIVE)))
        found.nodes = len(found.node_ids)
    except _NotOffered:
        pass
    return found


def _read_metadata(found: Findings, text: str | None) -> None:
    try:
        metadata = json.loads(text or "{}")
        versions = [metadata.get(name) for name in ("ray_version", "python_version")]
    except (ValueError, AttributeError, RecursionError):  # kept by a Ray that writes it in another way
        return
    found.ray_version, found.python_version = (each if isinstance(each, str) else None for each in versions)


def _living(reply: bytes) -> Iterator[str]:
    """The ids of nodes whose state is ALIVE (0, which is left out on the wire); older GCS take no filter."""
    for number, node in fields(reply):
        if number == 2 and isinstance(node, bytes):
            told = dict(fields(node))
            node_id = told.get(1)
            if not told.get(7) and isinstance(node_id, bytes):
                yield node_id.hex()


def _ask_client(caller: _Caller) -> Findings:
    """Keys of each node's dashboard agent carry the node's id: the only name of its cluster that Ray Client tells.

    All keys are asked for, because a prefix is compared before the namespace is taken off.
    """
    reply = caller.call(_CLIENT_KEYS)
    keys = (_AGENT.fullmatch(key) for number, key in fields(reply) if number == 1 and isinstance(key, bytes))
    return Findings("client", node_ids=frozenset(key[1].decode() for key in keys if key))


def _text(number: int, value: bytes) -> bytes:
    """A field of bytes, up to 127 of them."""
    return bytes([number << 3 | 2, len(value)]) + value


def _first(message: bytes, number: int) -> int | bytes | None:
    return next((value for found, value in fields(message) if found == number), None)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a protobuf message: an integer or the bytes; ends where it is no such message.

    The bytes of a double are its eight, the lowest first.
    """
    place = 0
    try:
        while place < len(message):
            tag, place = _varint(message, place)
            kind = tag & 7
            if kind == 0:
                value, place = _varint(message, place)
                yield tag >> 3, value
            elif kind == 2:
                length, place = _varint(message, place)
                yield tag >> 3, message[place : place + length]
                place += length
            elif kind in _FIXED:
                yield tag >> 3, message[place : place + _FIXED[kind]]
                place += _FIXED[kind]
            else:
                return
    except IndexError:
        return


_FIXED = {1: 8, 5: 4}


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
