"""Real clusters, started by plain `ray start`, and every fault really caused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.ray_here import RayHere
from tests.cluster.strangers import silence, tcp
from tests.node.stage import soon
from tests.ports import free_port
from ws.cluster.connect import Connector, Wish
from ws.cluster.connection import State
from ws.cluster.dashboard import TokenRefused
from ws.cluster.helper import HelperSource, Way
from ws.cluster.look import Look, Starting
from ws.cluster.nodes import NodeState
from ws.cluster.watcher import View, Watcher
from ws.errors import EnvironmentProblem
from ws.node.probe import try_connect
from ws.wait import NotYet, wait_for

pytestmark = [pytest.mark.long]

TOKEN = "token-of-a-real-cluster-0123456789"
GENEROUS = 4.0
"""How many times a bound of the issue may take on a machine that is busy; bench/ measures the bounds themselves."""

CASTING = """
import sys, ray
@ray.remote(num_cpus=0)
class CastingNode:
    def ready(self): return True
@ray.remote(num_cpus=1)
class Counter:
    def ready(self): return True
ray.init(sys.argv[1], namespace="castray", log_to_driver=False)
actors = [CastingNode.options(name="external_node_1").remote(), Counter.remote()]
ray.get([actor.ready.remote() for actor in actors])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayHere]:
    """One head with a token, for tests that do it no harm."""
    with ExitStack() as ends:
        here = RayHere(TOKEN)
        ends.callback(here.close)
        here.start_head('--labels={"zone":"one"}')
        here.await_alive(1)
        yield here


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    with ExitStack() as ends:

        def make(address: str | None, token: str = TOKEN) -> Watcher:
            made = Watcher(Connector(Wish(address, token=token)))
            ends.callback(made.close)
            made.connect()
            return made

        yield make


def reaches(watcher: Watcher, condition: Callable[[View], bool], limit: float) -> float:
    """Seconds until the view fulfils a condition; fails beyond `limit`, generously."""
    began = time.monotonic()
    assert watcher.wait(condition, limit * GENEROUS), f"not in {limit * GENEROUS:g} s: {watcher.view()}"
    return time.monotonic() - began


def in_state(state: State) -> Callable[[View], bool]:
    return lambda view: view.state is state


def states(view: View) -> dict[str, NodeState]:
    return {node.id: node.state for node in view.nodes}


def cpus_free(count: float) -> Callable[[View], bool]:
    return lambda view: (view.nodes[0].seen.free or {}).get("CPU") == count


def nodes_command(*arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", "RAY_AUTH_TOKEN": token, "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "ws", "nodes", *arguments]
    # In a folder that is no project, whose token would be taken.
    return subprocess.run(argv, env=environ, cwd="/", capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.parametrize("way", ["gcs", "dashboard", "client"])
def test_every_kind_of_address_leads_to_the_same_nodes(cluster: RayHere, way: str) -> None:
    done = nodes_command("--address", getattr(cluster, way), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (head,) = told["nodes"]
    assert (head["id"], head["head"], head["state"], head["total"]["CPU"]) == ("ray_node_1", True, "alive", 1.0)
    assert head["labels"]["zone"] == "one"
    assert head["hostname"]
    assert told["cluster"]["ray_version"]


def test_a_port_of_the_other_kind_is_corrected_with_a_note(cluster: RayHere) -> None:
    done = nodes_command("--address", f"ray://{cluster.gcs}")
    assert done.returncode == 0, done.stderr
    assert f"{cluster.gcs} is a GCS, not Ray Client: taken as {cluster.gcs}" in done.stderr
    assert "ray_node_1" in done.stdout


@pytest.mark.parametrize(("token", "what"), [("wrong", "refuses this token"), ("", "wants a token")])
def test_a_wrong_and_a_missing_token_are_said_and_end_the_trying(
    cluster: RayHere, watch: Callable[..., Watcher], token: str, what: str
) -> None:
    for address in (cluster.gcs, cluster.dashboard, cluster.client):
        watcher = watch(address, token)
        reaches(watcher, in_state(State.failed), 5)
        assert isinstance(watcher.problem, TokenRefused)
        assert what in watcher.problem.what
    done = nodes_command("--address", cluster.gcs, token=token)
    assert done.returncode == 4
    assert what in done.stderr
    assert "Traceback" not in done.stderr


def test_casting_nodes_are_found_on_their_node(cluster: RayHere, watch: Callable[..., Watcher]) -> None:
    watcher = watch(cluster.gcs)
    environ = {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    argv = [sys.executable, "-c", CASTING, cluster.gcs]
    with subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        assert driver.stdin
        assert next(line for line in driver.stdout if line.startswith("ready"))
        reaches(watcher, lambda view: any(len(node.actors) == 2 for node in view.nodes), 2)
        assert watcher.view().nodes[0].as_json()["casting_nodes"] == ["external_node_1"]
        reaches(watcher, cpus_free(0.0), 2)  # long before Ray's own report, of every 5 s
        by_helper = looked_at(Way("gcs", cluster.gcs))
        assert (by_helper.nodes[0].free or {})["CPU"] == 0.0
        assert {actor.class_name.rpartition(".")[2]: actor.name for actor in by_helper.actors or ()} == {
            "CastingNode": "external_node_1",
            "Counter": "",
        }
        assert {actor.node_id for actor in by_helper.actors or ()} == {by_helper.nodes[0].node_id}
        driver.stdin.close()
        driver.wait(60)
    reaches(watcher, lambda view: not any(node.actors for node in view.nodes), 5)
    reaches(watcher, cpus_free(1.0), 5)


@pytest.mark.parametrize("kind", ["gcs", "client"])
def test_a_helper_process_sees_what_the_dashboard_shows(cluster: RayHere, kind: str) -> None:
    address = cluster.gcs if kind == "gcs" else cluster.client.removeprefix("ray://")
    seen = looked_at(Way(kind, address))
    (node,) = seen.nodes
    assert (node.alive, node.head, node.total["CPU"], node.labels["zone"]) == (True, True, 1.0, "one")
    assert node.port
    assert seen.dashboard == cluster.dashboard.removeprefix("http://")
    if kind == "gcs":
        assert node.free == pytest.approx(dict(node.total))
        assert seen.actors is not None
        assert seen.cluster.session.startswith("session_")


def looked_at(way: Way) -> Look:
    """A look through a helper process, which takes its time to start."""
    source = HelperSource(way, TOKEN)

    def look() -> Look:
        try:
            return source.look()
        except Starting as starting:
            raise NotYet(str(starting)) from None

    try:
        return wait_for("a look", look, timeout=90)
    finally:
        source.close()


def test_two_clusters_are_watched_at_once_and_in_turn(cluster: RayHere, watch: Callable[..., Watcher]) -> None:
    with ExitStack() as ends:
        other = RayHere()
        ends.callback(other.close)
        other.start_head()
        other.await_alive(1)
        both = [watch(cluster.gcs), watch(other.gcs, "")]
        for each in both:
            reaches(each, in_state(State.connected), 5)
        first, second = (each.view() for each in both)
        assert first.cluster != second.cluster
        assert first.nodes[0].seen.node_id != second.nodes[0].seen.node_id
        for here, token in ((cluster, TOKEN), (other, ""), (cluster, TOKEN)):
            watcher = watch(here.client, token)  # Ray Client is one for each process: each has its own here
            reaches(watcher, in_state(State.connected), 20)
            watcher.close()


def test_a_port_that_accepts_and_never_answers_blocks_nothing(watch: Callable[..., Watcher]) -> None:
    with tcp(silence) as at:
        began = time.monotonic()
        watcher = watch(str(at))
        assert watcher.view().state in {State.connecting, State.disconnected}
        assert time.monotonic() - began < 2
        soon("the word of what it is", lambda: "says nothing" in watcher.view().why)
        began = time.monotonic()
        watcher.close()
        assert time.monotonic() - began < 10


def test_a_node_lost_and_a_head_killed_and_started_again(watch: Callable[..., Watcher]) -> None:
    with ExitStack() as ends:
        here = RayHere()
        ends.callback(here.close)
        head = here.start_head()
        here.await_alive(1)
        watcher = watch(here.gcs, "")
        reaches(watcher, in_state(State.connected), 5)
        worker = here.start_worker()
        here.await_alive(2)
        reaches(watcher, lambda view: len(view.nodes) == 2, 2)
        reaches(watcher, lambda view: all(node.seen.port for node in view.nodes), 5)
        worker.kill()
        noticed = reaches(watcher, lambda view: states(view)["ray_node_2"] is not NodeState.alive, 5)
        reaches(watcher, lambda view: states(view)["ray_node_2"] is NodeState.dead, 65)
        worker = here.start_worker()
        here.await_alive(2)
        reaches(watcher, lambda view: states(view)["ray_node_2"] is NodeState.alive, 2)
        assert len(watcher.view().nodes) == 2

        head.kill()
        gone = reaches(watcher, in_state(State.reconnecting), 10)
        worker.kill()  # Ray starts no second head where a raylet of the first still runs
        here.start_head()
        here.await_alive(1)
        back = reaches(watcher, in_state(State.connected), 10)
        print(f"suspect after {noticed:.2f} s, head missed after {gone:.2f} s, back {back:.2f} s after it answered")
        reaches(watcher, lambda view: states(view)["ray_node_1"] is NodeState.alive, 10)


def test_a_ray_that_was_started_here_ends_with_the_connection_and_leaves_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    watcher = Watcher(Connector(Wish(allow_local_start=True), find=list))
    try:
        watcher.connect()
        reaches(watcher, lambda view: view.state is State.connected and bool(view.nodes), 40)
        endpoint = watcher.view().nodes[0].seen.endpoint
    finally:
        watcher.close()
    assert endpoint
    soon("the raylet's end", lambda: try_connect(f"{endpoint[0]}:{endpoint[1]}") is not None)
    assert not (tmp_path / ".ray" / "auth_token").exists()


@pytest.mark.soak
def test_thirty_nodes_on_one_machine(watch: Callable[..., Watcher]) -> None:
    with ExitStack() as ends:
        here = RayHere()
        ends.callback(here.close)
        here.start_head("--num-cpus=0")
        here.await_alive(1)
        watcher = watch(here.dashboard, "")
        for alive in range(1, 30, 2):
            for _ in range(min(2, 30 - alive)):
                here.start_worker("--num-cpus=0")
            here.await_alive(min(alive + 2, 30))
        reaches(watcher, lambda view: len(view.nodes) == 30, 2)
        view = watcher.view()
        assert [node.id for node in view.nodes] == [f"ray_node_{n}" for n in range(1, 31)]
        assert view.nodes[0].seen.head
        assert set(states(view).values()) == {NodeState.alive}


def test_without_any_cluster_it_says_so_and_starts_none() -> None:
    done = nodes_command("--address", f"127.0.0.1:{free_port()}")
    assert done.returncode == 4
    assert "nothing listens there" in done.stderr
    with pytest.raises(EnvironmentProblem, match="no Ray cluster can be found"):
        Connector(Wish(), find=list)()
