"""Ports for Ray clusters of tests: a block of neighbours, so that one number names them all."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

# Above those of `tests/clusters.py` and below those that outgoing connections take.
_BLOCKS = range(24_000, 24_700, 100)
_given: set[int] = set()


def free_base() -> int:
    """The first of 100 ports that nobody listens on, at any address, and that no other call in this process was given.

    In a random order: the same tests may run in another checkout at the same time.
    """
    for base in random.sample(_BLOCKS, len(_BLOCKS)):
        if base not in _given and _is_free(base):
            _given.add(base)
            return base
    raise AssertionError(f"no block of {_BLOCKS} is free")


def give_back(base: int) -> None:
    """What had it has ended."""
    _given.discard(base)


def _is_free(base: int) -> bool:
    with ExitStack() as held:
        try:
            for port in range(base, base + _BLOCKS.step):
                held.enter_context(socket.create_server(("", port)))
        except OSError:
            return False
    return True
