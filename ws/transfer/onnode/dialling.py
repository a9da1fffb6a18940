"""Getting a connection to a party that has several addresses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable

from ws.transfer.onnode.problems import UNREACHABLE, TransferProblem
from ws.transfer.onnode.wire import GREETING_TIME, Address, greet, say

_AHEAD = 0.25  # seconds after which the next address is tried beside the one that has not answered


def dial(
    addresses: Iterable[Address],
    tid: bytes,
    secret: bytes,
    role: bytes,
    timeout: float = GREETING_TIME,
    *,
    name: str = "",
    wanted: str = "",
) -> socket.socket:
    """Connect to the first of `addresses` where the party `wanted` answers: the socket, greeted.

    Raises:
        TransferProblem: unreachable, with what each address said; wrong-secret; busy.
    """
    choices = [(str(host), int(port)) for host, port in addresses]
    if not choices:
        raise TransferProblem(UNREACHABLE, "no address is known to dial", "", "let it dial, or use the plane `ray`")
    first: TransferProblem | None = None  # what one that answered said tells more than that others do not
    while choices:
        try:
            sock, at = _Race(list(choices), timeout).run()
        except TransferProblem as problem:
            raise first or problem from None
        del choices[at]
        try:
            greet(sock, tid, secret, role, name=name, wanted=wanted, timeout=timeout)
            return sock
        except TransferProblem as problem:
            sock.close()
            first = first or problem
        except BaseException:
            sock.close()
            raise
    assert first
    raise first


class _Race:
    """Connecting to several addresses, each a little after the one before: one that drops packets costs little."""

    def __init__(self, choices: list[Address], timeout: float) -> None:
        self._choices, self._timeout = choices, timeout
        self._changed = threading.Condition()
        self._won: tuple[socket.socket, int] | None = None
        self._said: dict[int, str] = {}
        self._over = False

    def run(self) -> tuple[socket.socket, int]:
        if len(self._choices) == 1:
            self._try(0)
        else:
            self._try_all()
        with self._changed:
            self._over = True
            if self._won:
                return self._won
            texts = [f"{host}:{port}: {self._said.get(i, 'no answer')}" for i, (host, port) in enumerate(self._choices)]
        raise TransferProblem(UNREACHABLE, "no connection", "; ".join(texts))

    def _try_all(self) -> None:
        deadline = time.monotonic() + self._timeout
        for index in range(len(self._choices)):
            threading.Thread(target=self._try, args=(index,), name="transfer dial", daemon=True).start()
            last = index == len(self._choices) - 1
            with self._changed:
                tried = index + 1
                self._changed.wait_for(
                    lambda tried=tried: self._won or len(self._said) == tried,  # type: ignore[misc]
                    deadline - time.monotonic() if last else _AHEAD,
                )
                if self._won:
                    return

    def _try(self, index: int) -> None:
        try:
            sock = socket.create_connection(self._choices[index], self._timeout)
        except (OSError, UnicodeError) as error:
            with self._changed:
                self._said[index] = say(error)
                self._changed.notify_all()
            return
        with self._changed:
            if self._won or self._over:
                sock.close()
                return
            self._won = sock, index
            self._changed.notify_all()
