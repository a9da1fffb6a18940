"""The one wait helper: a deadline, what is waited for in words, and an early end where waiting is vain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ws.errors import WsError

T = TypeVar("T")


class NotYet(Exception):
    """Raised by a condition that does not hold yet; its text says what is still missing."""


class WaitTimeout(WsError):
    """What was waited for did not come; `why` is what was still missing at the end."""


def wait_for(
    what: str,
    condition: Callable[[], T],
    *,
    timeout: float,
    interval: float = 0.2,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Ask `condition` every `interval` seconds until it returns instead of raising NotYet.

    Any other exception of the condition ends the wait at once: what is waited for has died.

    Raises:
        WaitTimeout: after `timeout` seconds, with the last NotYet as its cause.
    """
    deadline = clock() + timeout
    while True:
        try:
            return condition()
        except NotYet as missing:
            if clock() >= deadline:
                raise WaitTimeout(f"{what}: not within {timeout:g} s", str(missing) or None) from missing
        sleep(min(interval, max(0.0, deadline - clock())))
