"""Checks of a Ray node that, where they fail, name the cause; and waiting that ends early where it is vain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ws.errors import CheckFailed, WsError
from ws.verify.diagnose import certain, diagnose, suspect
from ws.verify.site import Site
from ws.verify.verdict import Cause, Check, Recorder
from ws.wait import NotYet, WaitTimeout, wait_for

T = TypeVar("T")

_LOOK_EVERY = 1.0  # seconds between looks for a certain cause
_FIRST_PROBE, _PROBE_EVERY = 10.0, 12.0  # seconds of waiting after which ports are probed, and probed again


class Vain(CheckFailed):
    """What was waited for can't come, or did not come in time; `causes` tell why."""

    def __init__(self, what: str, causes: Sequence[Cause]) -> None:
        super().__init__(what, "; ".join(cause.what for cause in causes))
        self.causes = list(causes)


@contextmanager
def blaming(site: Site, record: Recorder, name: str, what: str, how: str) -> Iterator[Check]:
    """A check of the node `name`; an error of ours in its body fails it where a cause is found, else it is inconclusive."""
    with record.check(what, how) as check:
        try:
            yield check
        except Vain as vain:
            check.failed(vain.what, *vain.causes)
        except WsError as error:
            causes = suspect(site, name)
            if not causes:
                raise
            check.failed(": ".join(part for part in (error.what, error.why) if part), *causes)


def await_node(site: Site, name: str, what: str, condition: Callable[[], T], timeout: float) -> T:
    """Wait as `wait_for` does; raises Vain as soon as it is certain that it is vain, or at the end, with the causes."""
    began = looked = time.monotonic()
    probe_at = began + _FIRST_PROBE

    def step() -> T:
        nonlocal looked, probe_at
        try:
            return condition()
        except NotYet as missing:
            now = time.monotonic()
            causes: list[Cause] = []
            if now >= probe_at:
                probe_at = now + _PROBE_EVERY
                causes = suspect(site, name)
            elif now >= looked + _LOOK_EVERY:
                looked = now
                causes = certain(site, name)
            if causes:
                raise Vain(f"{what}: not so ({missing})", causes) from None
            raise

    try:
        return wait_for(what, step, timeout=timeout)
    except WaitTimeout as late:
        words = ": ".join(part for part in (late.what, late.why) if part)
        raise Vain(words, diagnose(site, name, words)) from None
