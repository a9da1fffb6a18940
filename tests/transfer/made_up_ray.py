"""Ray as far as `ray_link` calls it, over parties of this process: actors, references, `wait` and `get`."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

Call = Callable[..., Future[Any]]


@dataclass(frozen=True)
class Ref:
    """What a method returned, or one of several values of it."""

    future: Future[Any]
    at: int | None = None

    def value(self, timeout: float | None) -> Any:
        answer = self.future.result(timeout)
        return answer if self.at is None else answer[self.at]


@dataclass(frozen=True)
class Method:
    call: Call
    num_returns: int | None = None

    def options(self, num_returns: int) -> Method:
        return Method(self.call, num_returns)

    def remote(self, *args: Any) -> Any:
        future = self.call(*args)
        return Ref(future) if self.num_returns is None else [Ref(future, at) for at in range(self.num_returns)]


@dataclass(frozen=True)
class MadeUpActor:
    """`call` calls a method by its name."""

    call: Call

    def __getattr__(self, name: str) -> Method:
        return Method(partial(self.call, name))


class MadeUpRay(types.ModuleType):
    def __init__(self) -> None:
        super().__init__("ray")

    def wait(self, refs: Sequence[Ref], timeout: float) -> tuple[list[Ref], list[Ref]]:
        wait([ref.future for ref in refs], timeout)
        return [ref for ref in refs if ref.future.done()], [ref for ref in refs if not ref.future.done()]

    def get(self, refs: Any, timeout: float | None = None) -> Any:
        return refs.value(timeout) if isinstance(refs, Ref) else [ref.value(timeout) for ref in refs]
