"""Answers as plain data, as a party gives them, and small questions that need no transfer."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.problems import UNREACHABLE, TransferProblem

_PROBE = 3.0

Method = Callable[..., dict[str, Any]]


def answering(method: Method) -> Method:
    """What a method raises becomes its answer: exceptions of a class that came by value do not survive the way back."""

    @functools.wraps(method)
    def answer(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return method(*args, **kwargs)
        except TransferProblem as problem:
            return {"problem": problem.as_dict()}
        except OSError as error:
            return {"problem": TransferProblem("io", f"{type(error).__name__}: {error}").as_dict()}

    return answer


def port_of(block: str, name: str = "transfer") -> int:
    """The port of that name in a text as WS_NODE_PORTS has it (`node_manager=31000,…`); 0 where there is none."""
    for pair in block.split(","):
        key, _, value = pair.partition("=")
        if key.strip() == name and value.strip().isdigit():
            return int(value)
    return 0


def reached(tid: str, secret: bytes, addresses: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Try the way to a party, greeting included; ms: how long that took."""
    began = time.monotonic()
    try:
        if not addresses:
            raise TransferProblem(UNREACHABLE, "it listens nowhere")
        sock, _ = dial(
            [(str(host), int(port)) for host, port in addresses], bytes.fromhex(tid), secret, b"P", timeout=_PROBE
        )
    except TransferProblem as problem:
        return {"ok": False, "ms": 0.0, "why": problem.what, "code": problem.code}
    except OSError as error:
        return {"ok": False, "ms": 0.0, "why": str(error), "code": UNREACHABLE}
    sock.close()
    return {"ok": True, "ms": 1000 * (time.monotonic() - began), "why": "", "code": ""}
