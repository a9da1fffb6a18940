"""The scenarios of `ws test`, in the order in which they run and are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ws.verify.site import Site
from ws.verify.verdict import Recorder


@dataclass(frozen=True)
class Scenario:
    """`run` makes its checks within `deadline` seconds; `title` is a sentence for people."""

    name: str
    title: str
    deadline: float
    run: Callable[[Site, Recorder], None]


BEFORE_OTHERS = ("self-election", "external-worker")
"""What counts nodes: run before anything joins or leaves."""
BESIDE_OTHERS = ("head-override",)
"""What makes nodes come and go: run in a lane of its own."""
AFTER_OTHERS = ("stability",)
"""What waits for the time to pass."""
