"""Looking again, patiently, before something is said to be wrong: on a busy machine an answer may come late, or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from ws.errors import WsError
from ws.verify.site import Head, Site
from ws.wait import NotYet, WaitTimeout, wait_for

T = TypeVar("T")

PATIENCE = 4.0  # seconds of looking, after which one look more decides
LONG_LOOK = 5.0  # seconds that a second look at a port waits for an answer


def again(look: Callable[[], T], well: Callable[[T], bool], patience: float | None = None) -> T:
    """What `look` gives as soon as that is well; else what its last look gives or raises, which is the second at least."""

    def step() -> T:
        try:
            found = look()
        except WsError as error:
            raise NotYet(error.what) from None
        if not well(found):
            raise NotYet("it is not well yet")
        return found

    with suppress(WaitTimeout):
        return wait_for("a good look", step, timeout=PATIENCE if patience is None else patience, interval=0.5)
    return look()


def replaced(before: Head, now: Head) -> bool:
    """Whether another one leads. Epoch 0 is no lease, which is no other head: the health server did not answer."""
    return before.name != now.name or bool(before.epoch and now.epoch and before.epoch != now.epoch)


def head_now(site: Site) -> Head | None:
    """Who leads. That nobody does, or another one than at first without a later lease, is believed at a second look."""
    first = site.first_head

    def certain(now: Head | None) -> bool:
        if now is None or first is None:
            return now is not None
        return not replaced(first, now) or now.epoch > first.epoch > 0

    candidates = [site.seen(node.name) for node in site.expected.values() if node.role == "candidate"]
    if not any(seen and seen.state == "running" for seen in candidates):
        return site.head()
    return again(site.head, certain)


def lease_now(site: Site, *, held: bool = False) -> Mapping[str, object] | None:
    """The lease; {} where nobody has it, None where the health server does not answer. `held`: a holder is waited for."""

    def look() -> Mapping[str, object] | None:
        answer = site.lease()
        lease = answer.get("lease", answer) if answer is not None else None
        return lease if isinstance(lease, Mapping) else None if answer is None else {}

    if not _health_may_answer(site):
        return look()
    return again(look, lambda lease: bool(lease) if held else lease is not None)


def _health_may_answer(site: Site) -> bool:
    """Not where its container is known not to run."""
    servers = [site.seen(node.name) for node in site.expected.values() if node.role == "health"]
    return all(seen is not None and seen.state == "running" for seen in servers)
