"""A cluster in containers that somebody started by hand: its network cut and restored, its head frozen, a worker killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version

import pytest

from tests.clusters import docker
from tests.node.stage import soon
from tests.plain_ray import AS_PLAIN_RAY
from ws.cluster.address import Target, parse, resolve
from ws.cluster.connect import Connector, Wish
from ws.cluster.connection import State
from ws.cluster.dashboard import Dashboard
from ws.cluster.nodes import NodeState
from ws.cluster.versions import Mismatch
from ws.cluster.watcher import View, Watcher
from ws.errors import EnvironmentProblem

pytestmark = [pytest.mark.docker, pytest.mark.long]

IMAGE = "rayproject/ray:2.60.0-py311"
NETWORK, HEAD, WORKER = "ws-test-22-net", "ws-test-22-head", "ws-test-22-worker"
GCS, DASHBOARD = 22_200, 22_201
GENEROUS = 4.0
START = "ray start --block --disable-usage-stats --num-cpus=1 --object-store-memory=80000000"


def run(name: str, command: str, *flags: str) -> None:
    limits = ("--network", NETWORK, "--hostname", name, "--shm-size=200m", *AS_PLAIN_RAY, "--entrypoint", "bash")
    docker("run", "--detach", "--name", name, *limits, *flags, IMAGE, "-lc", command)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with ExitStack() as ends:
        ends.callback(docker, "network", "rm", NETWORK, check=False)
        docker("network", "create", "--subnet", "172.26.88.0/24", NETWORK)
        ends.callback(docker, "rm", "--force", "--volumes", HEAD, WORKER, check=False)
        published = ("--publish", f"127.0.0.1:{GCS}:6379", "--publish", f"127.0.0.1:{DASHBOARD}:8265")
        run(HEAD, f"{START} --head --dashboard-host=0.0.0.0 --node-ip-address={HEAD}", *published)
        url = f"http://127.0.0.1:{DASHBOARD}"
        soon("the dashboard", lambda: living(url) == 1, 120)
        run(WORKER, f"{START} --address={HEAD}:6379 --node-ip-address={WORKER}")
        soon("the worker", lambda: living(url) == 2, 120)
        yield url


def refused(target: Target) -> EnvironmentProblem | None:
    try:
        resolve(target)
    except EnvironmentProblem as problem:
        return problem
    return None


def living(url: str) -> int:
    board = Dashboard(url, "", timeout=1)
    try:
        return sum(node.alive for node in board.nodes())
    except EnvironmentProblem:
        return 0
    finally:
        board.close()


@pytest.fixture
def watcher(cluster: str) -> Iterator[Watcher]:
    made = Watcher(Connector(Wish(cluster)))
    made.connect()
    assert made.wait(lambda view: view.state is State.connected and len(view.nodes) == 2, 60)
    yield made
    made.close()


def reaches(watcher: Watcher, condition: Callable[[View], bool], limit: float) -> float:
    began = time.monotonic()
    assert watcher.wait(condition, limit * GENEROUS), f"not in {limit * GENEROUS:g} s: {watcher.view()}"
    return time.monotonic() - began


def lost(view: View) -> bool:
    return view.state is State.reconnecting


def back(view: View) -> bool:
    return view.state is State.connected


def test_nodes_are_known_by_their_names(watcher: Watcher) -> None:
    nodes = watcher.view().nodes
    assert [(node.id, node.seen.name, node.seen.head) for node in nodes] == [
        ("ray_node_1", HEAD, True),
        ("ray_node_2", WORKER, False),
    ]


def test_a_gcs_port_leads_to_the_published_dashboard(cluster: str) -> None:
    watcher = Watcher(Connector(Wish(f"127.0.0.1:{GCS}")))
    try:
        watcher.connect()
        reaches(watcher, lambda view: len(view.nodes) == 2, 20)
    finally:
        watcher.close()


def test_the_containers_network_cut_and_restored(cluster: str, watcher: Watcher) -> None:
    docker("network", "disconnect", NETWORK, HEAD)
    noticed = reaches(watcher, lost, 10)
    docker("network", "connect", NETWORK, HEAD)
    soon("the dashboard", lambda: living(cluster) > 0, 60)
    returned = reaches(watcher, back, 10)
    print(f"cut noticed after {noticed:.1f} s; connected {returned:.1f} s after the dashboard answered again")
    assert [node.id for node in watcher.view().nodes] == ["ray_node_1", "ray_node_2"]
    soon("both nodes", lambda: living(cluster) == 2, 60)


def test_a_head_that_is_frozen_accepts_and_never_answers(cluster: str, watcher: Watcher) -> None:
    docker("pause", HEAD)
    try:
        noticed = reaches(watcher, lost, 10)
    finally:
        docker("unpause", HEAD)
    returned = reaches(watcher, back, 10)
    print(f"freezing noticed after {noticed:.1f} s; connected {returned:.1f} s after its end")


def test_a_worker_that_was_killed_is_dead_and_keeps_its_number_when_it_returns(watcher: Watcher) -> None:
    reaches(watcher, lambda view: all(node.state is NodeState.alive for node in view.nodes), 30)
    docker("kill", WORKER)
    reaches(watcher, lambda view: view.nodes[1].state is NodeState.dead, 65)
    docker("start", WORKER)
    reaches(watcher, lambda view: view.nodes[1].state is NodeState.alive, 30)
    assert len(watcher.view().nodes) == 2


@pytest.mark.parametrize(
    ("image", "there"), [("ray-other", f"Ray 2.59.0 there, {version('ray')} here"), ("python-other", "Python 3.13")]
)
def test_a_cluster_of_other_versions_is_named_before_connecting_with_what_fits(cluster: str, image: str, there: str) -> None:
    """Images: tools/build-test-images."""
    name = f"ws-test-22-{image}"
    published = [flag for port, own in ((6379, 2), (10001, 3)) for flag in ("--publish", f"127.0.0.1:{GCS + own}:{port}")]
    limits = ("--network", NETWORK, "--hostname", name, "--shm-size=200m", *AS_PLAIN_RAY, "--entrypoint", "bash")
    command = f"{START} --head --dashboard-host=0.0.0.0 --node-ip-address={name}"
    with ExitStack() as ends:
        ends.callback(docker, "rm", "--force", "--volumes", name, check=False)
        docker("run", "--detach", "--name", name, *limits, *published, f"cslr-exp-platform/{image}:latest", "-lc", command)
        target = parse(f"127.0.0.1:{GCS + 2}")
        soon("the GCS", lambda: isinstance(refused(target), Mismatch), 120)
        problem = refused(target)
        assert isinstance(problem, Mismatch)
        assert there in problem.what
        assert "rayproject/ray:" in str(problem.mend)
        assert "uv run" in str(problem.mend)
        watcher = Watcher(Connector(Wish(f"ray://127.0.0.1:{GCS + 3}")))
        ends.callback(watcher.close)
        watcher.connect()
        reaches(watcher, lambda view: view.state is State.failed, 30)
        assert isinstance(watcher.problem, Mismatch), (watcher.problem, watcher.problem and watcher.problem.why)
        assert there in watcher.problem.what
