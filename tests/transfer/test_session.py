"""A session over a Ray that is made up: how it gets in, and which actors it takes."""

from __future__ import annotations

import os
import sys
import types
from concurrent.futures import Future
from typing import Any

import pytest

from ws.cluster.connect import Wish
from ws.cluster.versions import Mismatch
from ws.errors import EnvironmentProblem
from ws.transfer import session as session_module
from ws.transfer.entrance import Entrance
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.remote import ActorRemote
from ws.transfer.session import Session
from ws.transfer.targets import find_node

UPSTREAM = "Initialization failure from server: Starting Ray client server failed"


class Method:
    """An actor's method: `remote` gives a reference that is the answer itself, or raises what it is."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def remote(self, *args: Any) -> Any:
        return Ref(self._answer)


class Ref:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def future(self) -> Future[Any]:
        future: Future[Any] = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        else:
            future.set_result(self.answer)
        return future


class Actor:
    def __init__(self, node_id: str, pid: int, broken: Exception | None = None) -> None:
        about = {"addresses": [["127.0.0.1", 1]], "node_id": node_id, "pid": pid, "name": f"external_node_{pid}"}
        self.start = Method(broken or about)
        self.read_block = Method({})


class FakeRay(types.ModuleType):
    """Two nodes; `named` are the actors in the namespace castray; `failures` is what the next inits raise."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.failures: list[Exception] = []
        self.inits: list[tuple[str, dict[str, Any]]] = []
        self.shutdowns = 0
        self.named: dict[str, Any] = {}
        self.dead: set[str] = set()
        self.broken: Exception | None = None
        self.is_connected = True
        self.util = types.SimpleNamespace(list_named_actors=self._list)

    def init(self, address: str, **arguments: Any) -> None:
        self.inits.append((address, arguments))
        if self.failures:
            raise self.failures.pop(0)

    def is_initialized(self) -> bool:
        return self.is_connected

    def shutdown(self) -> None:
        self.shutdowns += 1

    def nodes(self) -> list[dict[str, Any]]:
        if self.broken:
            raise self.broken
        return [
            {
                "NodeID": node_id,
                "NodeManagerAddress": "127.0.0.1",
                "NodeName": name,
                "Alive": node_id not in self.dead,
                "Resources": {"node:__internal_head__": 1.0} if name == "n1" else {},
                "NodeManagerPort": port,
            }
            for node_id, name, port in (("bb", "n0", 2), ("aa", "n1", 1))
        ]

    def get(self, ref: Ref, timeout: float) -> Any:
        return ref.future().result(timeout)

    def get_actor(self, name: str, namespace: str) -> Any:
        if name not in self.named:
            raise ValueError(name)
        return self.named[name]

    def _list(self, all_namespaces: bool) -> list[dict[str, str]]:
        return [{"name": name, "namespace": "castray"} for name in [*self.named, "gone"]] + [
            {"name": "other", "namespace": "elsewhere"}
        ]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(session_module, "find_entrance", lambda wish, note: Entrance("ray://127.0.0.1:1", bool(wish.token)))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"):
        monkeypatch.setenv(name, "before")
    return fake


def test_it_brings_nothing_along_and_numbers_the_nodes_head_first(ray: FakeRay) -> None:
    with Session.open(Wish()) as session:
        assert [(node.id, node.seen.name) for node in session.nodes] == [("ray_node_1", "n1"), ("ray_node_2", "n0")]
    ((address, arguments),) = ray.inits
    assert (address, arguments["namespace"]) == ("ray://127.0.0.1:1", "castray")
    assert "runtime_env" not in arguments
    assert ray.shutdowns == 1


def test_the_token_goes_only_to_who_wants_one(ray: FakeRay) -> None:
    Session.open(Wish(token="secret"))
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("token", "secret")
    assert "RAY_ADDRESS" not in os.environ
    Session.open(Wish())
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_a_known_fault_of_ray_client_is_tried_again_and_others_are_not(ray: FakeRay) -> None:
    ray.failures = [ConnectionError(UPSTREAM), ConnectionError(UPSTREAM)]
    Session.open(Wish())
    assert len(ray.inits) == 3
    ray.failures = [ConnectionError(UPSTREAM)] * 3
    with pytest.raises(EnvironmentProblem):
        Session.open(Wish())
    ray.inits.clear()
    ray.failures = [ConnectionError("no")]
    with pytest.raises(EnvironmentProblem, match="no connection"):
        Session.open(Wish())
    assert len(ray.inits) == 1


def test_other_versions_are_named(ray: FakeRay) -> None:
    ray.failures = [RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.9.1\n")]
    with pytest.raises(Mismatch):
        Session.open(Wish())


def test_a_casting_node_of_the_users_own_is_taken(ray: FakeRay) -> None:
    ray.named = {
        "external_node_1": Actor("bb", 7),
        "ws-ray_node_1-abc-1": Actor("aa", 8),
        "no_casting_node": object(),
        "broken": Actor("aa", 9, RuntimeError("it died")),
    }
    session = Session.open(Wish())
    remote = session.party("ray_node_2")
    assert isinstance(remote, ActorRemote)
    assert (remote.about["pid"], remote.name) == (7, "n0")
    assert session.party("ray_node_2", True) is remote, "it answers: it is not gone"
    assert find_node("external_node_7", session.nodes).id == "ray_node_2"


def test_a_dead_node_and_an_unknown_one_are_told(ray: FakeRay) -> None:
    ray.dead = {"bb"}
    session = Session.open(Wish())
    for name in ("ray_node_2", "ray_node_9"):
        with pytest.raises(TransferProblem) as told:
            session.party(name)
        assert told.value.code == "lost"


def test_a_connection_that_broke_is_told_for_the_node(ray: FakeRay) -> None:
    """Ray raises what it likes then. While there is a connection it is tried again."""
    session = Session.open(Wish())
    ray.broken = ConnectionError("the GCS does not answer")
    with pytest.raises(TransferProblem, match=r"ray_node_2.*the GCS does not answer") as told:
        session.party("ray_node_2", fresh=True)
    assert told.value.code == "lost"
    ray.is_connected = False
    with pytest.raises(TransferProblem, match=r"connection to the cluster is gone.*the GCS does not answer") as told:
        session.party("ray_node_2", fresh=True)
    assert told.value.code == "no-cluster"


def test_this_machine_is_a_party_that_dials_only(ray: FakeRay) -> None:
    with Session.open(Wish()) as session:
        assert session.party("here").addresses == []
        assert session.party("here") is session.party("here")
