"""Answers as plain data, as a party gives them, and small questions that need no transfer."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ws.transfer.onnode.dialling import dial
from ws.transfer.onnode.problems import UNREACHABLE, TransferProblem
from ws.transfer.onnode.wire import PULLS

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


def reached_all(tid: str, secret: bytes, targets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Try the ways to all targets, {"name", "addresses"}, at once; by name what `reached` answers."""
    answers: dict[str, Any] = {}

    def try_one(name: str, addresses: Sequence[Sequence[Any]]) -> None:
        answers[name] = reached(tid, secret, addresses, name)

    threads = [
        threading.Thread(target=try_one, args=(target["name"], target["addresses"]), daemon=True) for target in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def reached(tid: str, secret: bytes, addresses: Sequence[Sequence[Any]], name: str) -> dict[str, Any]:
    """Try the way to the party of that name, greeting included; ms: how long that took."""
    began = time.monotonic()
    try:
        if not addresses:
            raise TransferProblem(UNREACHABLE, "it listens nowhere")
        where = [(str(host), int(port)) for host, port in addresses]
        sock = dial(where, bytes.fromhex(tid), secret, PULLS, timeout=_PROBE, wanted=name)
    except TransferProblem as problem:
        return {"ok": False, "ms": 0.0, "why": problem.what, "code": problem.code}
    except OSError as error:
        return {"ok": False, "ms": 0.0, "why": str(error), "code": UNREACHABLE}
    sock.close()
    return {"ok": True, "ms": 1000 * (time.monotonic() - began), "why": "", "code": ""}
