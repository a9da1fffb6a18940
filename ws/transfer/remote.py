"""A party as its coordinator sees it: methods that are called and answer later, here or on a node of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from ws.transfer.onnode.hashing import SHA256
from ws.transfer.onnode.party import Party
from ws.transfer.onnode.problems import LOST, TransferProblem

_THREADS = 32


class Remote(Protocol):
    """One party.

    Attributes:
        name: Ray's name of its node, where it is on one.
        addresses: [host, port] each; none where it listens nowhere.
        algorithms: the hashes that it can compute.
        actor: its handle, where it is one.
    """

    id: str
    name: str
    addresses: list[list[Any]]
    algorithms: frozenset[str]
    actor: Any

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of `Party`; the future may raise anything where the party is gone."""


class LocalRemote:
    """A party in this process, each call in a thread."""

    name = ""
    actor: Any = None

    def __init__(self, party_id: str, party: Party) -> None:
        self.id = party_id
        self.party = party
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=party_id)
        self.about = about = answer_of(party.start(), party_id)
        self.addresses: list[list[Any]] = about["addresses"]
        self.algorithms = algorithms_of(about)

    def call(self, method: str, *args: Any) -> Future[Any]:
        return self._pool.submit(getattr(self.party, method), *args)

    def close(self) -> None:
        self.party.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)


class ActorRemote:
    """A CastingNode of the cluster."""

    def __init__(self, party_id: str, actor: Any, about: Mapping[str, Any], name: str = "") -> None:
        self.id = party_id
        self.name = name
        self.actor = actor
        self.about = about
        self.addresses: list[list[Any]] = about["addresses"]
        self.algorithms = algorithms_of(about)

    def call(self, method: str, *args: Any) -> Future[Any]:
        future: Future[Any] = getattr(self.actor, method).remote(*args).future()
        return future


def algorithms_of(about: Mapping[str, Any]) -> frozenset[str]:
    """What a party says at its start; an older one, made by a user, says nothing of it."""
    return frozenset(about.get("algorithms", [SHA256]))


def port_trouble(remote: Remote | None) -> str:
    """Where it has another port than it should have, and others may not get through to that: so in words; else empty."""
    taken = getattr(remote, "about", {}).get("taken")
    if remote is None or not taken or not remote.addresses:
        return ""
    return f"{remote.id}'s transfer port {taken} is taken there, it listens at {remote.addresses[0][1]}"


def ask(remote: Remote, method: str, *args: Any) -> Future[Any]:
    """Call it; where that fails at once, the future says so."""
    try:
        return remote.call(method, *args)
    except Exception as error:  # the connection to the cluster may be gone: Ray raises many kinds
        return failed(error)


def failed(error: Exception) -> Future[Any]:
    """A question that can't be asked."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def result(future: Future[Any], party_id: str, timeout: float | None = None) -> dict[str, Any]:
    """What a party answered.

    Raises:
        TransferProblem: its own; `lost` where it did not answer.
        TimeoutError: no answer within `timeout` seconds.
    """
    try:
        answer = future.result(timeout)
    except TimeoutError:
        if not future.done():
            raise
        raise lost(party_id, "no answer in time") from None
    except Exception as error:  # whatever Ray, or the connection to it, raises
        raise lost(party_id, first_line(error)) from error
    return answer_of(answer, party_id)


def answer_of(answer: Any, party_id: str) -> dict[str, Any]:
    """The answer, unless it is a problem, which is raised with the party's name."""
    if not isinstance(answer, dict):
        raise lost(party_id, f"it answered {type(answer).__name__}")
    if problem := answer.get("problem"):
        raise TransferProblem.from_dict(problem)
    return answer


def lost(party_id: str, why: str) -> TransferProblem:
    return TransferProblem(LOST, f"{party_id} does not answer", why, "look whether the node is alive: ws nodes")


def first_line(error: BaseException) -> str:
    """What Ray says, without its stack traces, and of which kind it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
