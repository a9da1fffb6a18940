"""Processes of the local engine, for real: small programs stand in for the agent and for Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from ws.engine.local_process import (
    CLUSTER_MARK,
    NODE_MARK,
    NodeProcesses,
    ask_to_end,
    find_nodes,
    is_alive,
    kill,
    other_clusters,
    spawn,
)
from ws.wait import NotYet, wait_for

# Like the agent with Ray: Ray leads a session of its own with the second mark, and its worker has no
# environment.
RAY = "env -i sleep 600 & sleep 601 & wait"
AGENT = f"""
import os, signal, subprocess, sys
ray = {{**os.environ, "WS_NODE_INSTANCE": "one"}}
subprocess.Popen(["sh", "-c", {RAY!r}], env=ray, start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
while True: signal.pause()
"""


class Cluster:
    """A cluster of stand-ins with a mark of its own."""

    def __init__(self, folder: Path) -> None:
        self.id = uuid.uuid4().hex
        self.folder = folder

    def environ(self, name: str) -> dict[str, str]:
        return {**os.environ, CLUSTER_MARK: self.id, NODE_MARK: name}

    def spawn(self, *command: str, name: str = "ray-cpu") -> None:
        spawn(command, self.environ(name), folder=self.folder, log=self.log(name), record=self.record(name))

    def spawn_agent(self, name: str = "ray-cpu") -> NodeProcesses:
        self.spawn(sys.executable, "-c", AGENT, name=name)
        soon(lambda: "ready" in self.log(name).read_text())
        soon(lambda: last_words(self.find(name).others) == {RAY, "600", "601"})
        return self.find(name)

    def find(self, name: str = "ray-cpu") -> NodeProcesses:
        return find_nodes(self.id).get(name) or NodeProcesses(name)

    def log(self, name: str = "ray-cpu") -> Path:
        return self.folder / f"{name}.log"

    def record(self, name: str = "ray-cpu") -> Path:
        return self.folder / f"{name}.exit"

    def exit_code(self) -> int:
        soon(lambda: self.record().read_text().strip() != "")
        return int(self.record().read_text())


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    assert kill(made.id, []) == []


def soon(condition: Callable[[], bool]) -> None:
    def holds() -> None:
        if not condition():
            raise NotYet

    wait_for("the condition", holds, timeout=20, interval=0.02)


def last_words(processes: Iterable[psutil.Process]) -> set[str]:
    """The last argument of each command line."""
    return {process.cmdline()[-1] for process in processes}


def bystander(environ: Mapping[str, str], *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command or ("sleep", "600"), env=dict(environ), start_new_session=True)


def test_exit_code_is_recorded_and_output_goes_to_the_log(cluster: Cluster) -> None:
    cluster.spawn("sh", "-c", "echo out; echo error >&2; exit 3")
    assert cluster.exit_code() == 3
    assert cluster.log().read_text() == "out\nerror\n"


def test_a_new_start_empties_the_log(cluster: Cluster) -> None:
    cluster.spawn("echo", "first")
    assert cluster.exit_code() == 0
    cluster.spawn("echo", "second")
    soon(lambda: cluster.log().read_text() == "second\n")


def test_a_program_that_is_missing_shows_in_log_and_exit_code(cluster: Cluster) -> None:
    cluster.spawn("/there/is/no/such/program")
    assert cluster.exit_code() == 127
    assert "no/such/program" in cluster.log().read_text()


def test_a_node_belongs_to_nobody_and_has_its_own_session(cluster: Cluster) -> None:
    own = cluster.spawn_agent().own
    assert not set(own) & set(psutil.Process().children(recursive=True))
    assert len({os.getsid(process.pid) for process in own}) == 1
    assert os.getsid(own[0].pid) != os.getsid(0)
    assert own[0].environ()[NODE_MARK] == "ray-cpu"


def test_the_wrapper_passes_sigterm_on(cluster: Cluster) -> None:
    cluster.spawn_agent().wrappers[0].send_signal(signal.SIGTERM)
    assert cluster.exit_code() == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGINT, 130)])
def test_an_end_by_a_signal_is_recorded(cluster: Cluster, number: signal.Signals, code: int) -> None:
    cluster.spawn(sys.executable, "-c", "import signal; signal.signal(2, signal.SIG_DFL); signal.pause()")
    soon(lambda: any("pause" in "".join(agent.cmdline()) for agent in cluster.find().agents))
    agent = cluster.find().agents[0]
    soon(lambda: agent.status() == psutil.STATUS_SLEEPING)
    agent.send_signal(number)
    assert cluster.exit_code() == code


def test_processes_are_found_by_mark_and_by_session(cluster: Cluster) -> None:
    node = cluster.spawn_agent()
    assert (len(node.wrappers), len(node.agents)) == (1, 1)
    assert last_words(node.others) == {RAY, "600", "601"}
    assert [other.cmdline()[-1] for other in node.others if other.environ() == {}] == ["600"]


def test_a_session_is_found_when_its_leader_is_gone(cluster: Cluster) -> None:
    leader = next(other for other in cluster.spawn_agent().others if other.cmdline()[-1] == RAY)
    leader.kill()
    soon(lambda: last_words(cluster.find().others) == {"600", "601"})


def test_a_child_that_left_session_and_mark_is_found_by_its_parent(cluster: Cluster) -> None:
    cluster.spawn("sh", "-c", "env -i setsid sleep 603 & wait")
    soon(lambda: "603" in last_words(cluster.find().all))
    assert [other.cmdline() for other in cluster.find().others] == [["sleep", "603"]]


def test_nodes_are_told_apart(cluster: Cluster) -> None:
    cluster.spawn_agent("ray-cpu")
    cluster.spawn_agent("ray-gpu")
    found = find_nodes(cluster.id)
    assert {name: (len(node.own), len(node.others)) for name, node in found.items()} == {
        "ray-cpu": (2, 3),
        "ray-gpu": (2, 3),
    }


def test_nothing_foreign_is_found(cluster: Cluster, tmp_path: Path) -> None:
    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    unmarked = bystander(os.environ, str(raylet), "600")
    elsewhere = bystander({**os.environ, CLUSTER_MARK: "another", NODE_MARK: "ray-cpu"})
    try:
        cluster.spawn_agent()
        assert kill(cluster.id, cluster.find().all) == []
        assert unmarked.poll() is None
        assert elsewhere.poll() is None
        assert [environ[CLUSTER_MARK] for environ in other_clusters(cluster.id)] == ["another"]
    finally:
        for process in (unmarked, elsewhere):
            process.kill()
            process.wait()


def test_a_marked_process_in_a_foreign_session_is_found_alone(cluster: Cluster) -> None:
    script = f"{CLUSTER_MARK}={cluster.id} {NODE_MARK}=ray-cpu sleep 604 & sleep 605 & wait"
    terminal = bystander(os.environ, "sh", "-c", script)
    try:
        soon(lambda: last_words(cluster.find().all) == {"604"})
        assert kill(cluster.id, []) == []
        assert last_words(psutil.Process(terminal.pid).children()) == {"605"}
    finally:
        os.killpg(terminal.pid, signal.SIGKILL)
        terminal.wait()


def test_a_command_on_a_node_does_not_find_itself(cluster: Cluster) -> None:
    look = "from ws.engine.local_process import find_nodes; import os"
    script = f"{look}; print([len(n.all) for n in find_nodes({cluster.id!r}).values()])"
    cluster.spawn("sh", "-c", f'"{sys.executable}" -c "{script}"; true')
    assert cluster.exit_code() == 0
    assert cluster.log().read_text() == "[]\n"


def test_what_a_killed_ws_has_spawned_is_found(cluster: Cluster) -> None:
    script = f"""
import os
from pathlib import Path
from ws.engine.local_process import spawn
here = Path({str(cluster.folder)!r})
spawn(["sleep", "606"], {cluster.environ("ray-cpu")!r}, folder=here, log=here / "a", record=here / "b")
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    soon(lambda: "606" in last_words(cluster.find().agents))


def test_agents_are_asked_first(cluster: Cluster) -> None:
    node = cluster.spawn_agent()
    ask_to_end([node], timeout=20)
    assert cluster.exit_code() == 7


def test_a_node_ends_as_a_whole(cluster: Cluster) -> None:
    node = cluster.spawn_agent()
    node.agents[0].kill()
    assert cluster.exit_code() == 137
    assert not any(is_alive(process) for process in node.others)


def test_killing_ends_all_for_certain(cluster: Cluster) -> None:
    cluster.spawn("sh", "-c", "trap '' TERM INT; while :; do sleep 607; done")
    soon(lambda: "607" in last_words(cluster.find().agents))
    known = cluster.find().all
    assert kill(cluster.id, known) == []
    assert not any(is_alive(process) for process in known)
    assert find_nodes(cluster.id) == {}


def test_killing_can_be_bound_to_some_nodes(cluster: Cluster) -> None:
    cluster.spawn_agent("ray-cpu")
    cluster.spawn_agent("ray-gpu")
    assert kill(cluster.id, [], {"ray-cpu"}) == []
    assert list(find_nodes(cluster.id)) == ["ray-gpu"]
