"""The local engine, with small programs for agents; and once for real."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ws.config.load import load
from ws.config.plan import plan
from ws.engine.base import NodeState, Project
from ws.engine.local import LocalEngine, agent_command
from ws.engine.local_node import Environments, shares
from ws.engine.local_ports import choose_health_port, choose_shift, shifted
from ws.engine.local_process import CLUSTER_MARK, NODE_MARK, NodeProcesses, find_nodes, is_alive
from ws.engine.local_state import cluster_id, make_private, temp_folder
from ws.engine.token import ensure_token
from ws.errors import EnvironmentProblem, UsageError
from ws.process import run
from ws.wait import NotYet, wait_for

NAMES = ["ray-cpu", "ray-gpu"]
ENTRIES = [("cpu", "dashboard"), ("gpu", "client")]
# Says so when SIGTERM ends it; starts "Ray": a session of its own, with the second mark, and a worker without
# any.
AGENT = """
import os, signal, subprocess, sys
ray = {**os.environ, "WS_NODE_INSTANCE": "one"}
script = "env -i sleep 600 & sleep 601 & wait"
subprocess.Popen(["sh", "-c", script], env=ray, start_new_session=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit("bye"))
print("ready", os.environ["WS_LOCAL_NODE"], flush=True)
while True: signal.pause()
"""


def stand_in(name: str) -> list[str]:
    return [sys.executable, "-c", AGENT]


class Place:
    """A project folder with its engine, and what the tests ask about it."""

    def __init__(self, folder: Path, command: Callable[[str], list[str]] = stand_in, **engine: Any) -> None:
        folder.mkdir(exist_ok=True)
        head, dashboard, client, head_2, dashboard_2, client_2, health = free_ports(7)
        nodes = {
            "cpu": {"cpus": 1, "head_port": head, "dashboard_port": dashboard, "client_port": client},
            "gpu": {"cpus": 1, "head_port": head_2, "dashboard_port": dashboard_2, "client_port": client_2},
        }
        config = load(None, {}, {"services": {"health": {"port": health}, "ray": nodes}}).config
        self.project = Project(folder, config, plan(config))
        self.engine = LocalEngine(command, **engine)
        self.id = cluster_id(folder)
        ensure_token(self.project.token_path)

    def up(self, *names: str) -> None:
        self.engine.up(self.project, names or NAMES)
        for name in ("health", *(names or NAMES)):
            self.expect_line(name, f"ready {name}")

    def down(self) -> list[str]:
        return self.engine.down(self.project)

    def expect_line(self, name: str, line: str) -> None:
        soon(lambda: line in self.lines(name))

    def lines(self, name: str, **how: Any) -> list[str]:
        return list(self.engine.logs(self.project, name, **how))

    def living(self) -> dict[str, NodeProcesses]:
        return find_nodes(self.id)

    def state(self, name: str) -> NodeState:
        return next(state for state in self.engine.nodes(self.project) if state.name == name)

    def kill_agent(self, name: str) -> None:
        """End the agent by `kill -9`, and its wrapper, so that Ray stays behind."""
        soon(lambda: len(self.living()[name].others) == 3)
        for process in self.living()[name].own:
            process.kill()
        soon(lambda: self.state(name).state == "exited")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as ends:
        made = Place(tmp_path / "project")
        ends.callback(made.down)
        yield made


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in sockets]


def soon(condition: Callable[[], bool]) -> None:
    def holds() -> None:
        if not condition():
            raise NotYet

    wait_for("the condition", holds, timeout=20, interval=0.02)


# Starting


def test_up_starts_the_health_server_and_the_named_nodes(place: Place) -> None:
    place.up("ray-gpu")
    states = place.engine.nodes(place.project)
    assert [(state.name, state.state, state.exit_code) for state in states] == [
        ("health", "running", None),
        ("ray-gpu", "running", None),
    ]
    assert all(state.started_at and abs(time.time() - state.started_at) < 60 for state in states)
    assert not any(state.ended_badly for state in states)


def test_up_again_starts_only_what_is_missing(place: Place) -> None:
    place.up("ray-cpu")
    before = {process.pid for process in place.living()["ray-cpu"].agents}
    place.up("ray-cpu", "ray-gpu")
    assert {process.pid for process in place.living()["ray-cpu"].agents} == before
    assert place.living()["ray-gpu"].running


def test_nodes_are_told_what_they_need(place: Place) -> None:
    place.up()
    environ = place.living()["ray-gpu"].environ
    candidates = json.loads(environ["WS_CANDIDATES"])
    assert environ["WS_NODE_ADDRESS"] == "127.0.1.2"
    assert environ["WS_BIND_HOST"] == "127.0.0.1,127.0.1.2"
    assert [(each["name"], each["address"]) for each in candidates] == [
        ("ray-cpu", "127.0.1.1"),
        ("ray-gpu", "127.0.1.2"),
    ]
    assert "workers" not in environ["WS_NODE_PORTS"]
    assert environ["HEALTH_URL"] == place.engine.health_url(place.project)
    assert environ["RAY_AUTH_TOKEN_PATH"] == str(place.project.token_path)
    assert environ["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert place.living()["health"].environ["HEALTH_HOST"] == "127.0.0.1"


def test_the_caller_does_not_change_a_node(place: Place) -> None:
    caller = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "RAY_ADDRESS": "elsewhere:6379",
        "RAY_AUTH_TOKEN": "secret",
        "HEAD_ADDRESS": "elsewhere:6379",
        "WS_NODE_INSTANCE": "another",
        "WAIT_FOR_HEAD": "1",
    }
    told = Environments(place.project, shifted(place.project.plan, 0), 0, caller).of("ray-cpu")
    assert told["HOME"] == "/home/me"
    assert told["WAIT_FOR_HEAD"] == "120"
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "HEAD_ADDRESS", "WS_NODE_INSTANCE"} & set(told)


def test_all_nodes_together_fit_this_machine(place: Place) -> None:
    own = shares(place.project.plan)
    nodes = place.project.plan.nodes
    assert 0 < own.memory <= 1
    assert sum(node.memory * own.memory for node in nodes) <= psutil.virtual_memory().total
    assert own.object_store <= own.memory


def test_sockets_of_ray_fit_their_limit(place: Place) -> None:
    longest = "session_2026-11-21_11-54-11_123456_1234567/sockets/plasma_store"
    assert len(str(temp_folder(place.project.folder) / "250" / longest)) <= 107


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    with pytest.raises(EnvironmentProblem, match="not a private folder"):
        make_private(tmp_path / "link")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(EnvironmentProblem, match="not a private folder"):
        make_private(tmp_path / "open")


# Ports


def test_an_entry_port_that_is_taken_is_named_with_its_holder_and_mend(place: Place) -> None:
    port = place.project.plan.node("ray-cpu").entry.head
    with socket.create_server(("127.0.0.1", port)), pytest.raises(EnvironmentProblem) as caught:
        place.engine.check(place.project, NAMES)
    problem = caught.value
    assert problem.what == f"port {port} is taken"
    assert f"(pid {os.getpid()}) holds port {port}, which ray-cpu needs for Ray's GCS" in str(problem.why)
    assert "--head-port" in str(problem.mend)
    assert "WS_SERVICES__RAY__CPU__HEAD_PORT" in str(problem.mend)


def test_every_port_that_is_taken_is_told_at_once(place: Place) -> None:
    dashboard, client = (getattr(place.project.plan.node(f"ray-{key}").entry, kind) for key, kind in ENTRIES)
    with (
        socket.create_server(("127.0.0.1", dashboard)),
        socket.create_server(("", client)),
        pytest.raises(EnvironmentProblem, match="2 ports are taken") as caught,
    ):
        place.up()
    assert "--dashboard-port" in str(caught.value.mend)
    assert "WS_SERVICES__RAY__GPU__CLIENT_PORT" in str(caught.value.mend)
    assert "--client-port" not in str(caught.value.mend)  # that flag is the first candidate's
    assert place.living() == {}


def test_ports_of_nodes_that_run_are_no_problem(place: Place) -> None:
    place.up("ray-cpu")
    with socket.create_server(("127.0.0.1", place.project.plan.node("ray-cpu").entry.head)):
        place.engine.check(place.project, ["ray-cpu"])


def test_blocks_move_where_a_port_of_theirs_is_taken(place: Place) -> None:
    shift = choose_shift(place.project.plan, ())
    taken = shifted(place.project.plan, shift).nodes[1].block.agent
    with socket.create_server(("127.0.0.1", taken)):
        place.up()
    ports = [environ_ports(node) for node in place.living().values() if node.name != "health"]
    assert all(len(each) == 8 and taken not in each for each in ports)
    assert not ports[0] & ports[1]


def test_nodes_of_one_cluster_move_alike(place: Place) -> None:
    shift = choose_shift(place.project.plan, ())
    taken = shifted(place.project.plan, shift).nodes[0].block.transfer
    with socket.create_server(("127.0.0.1", taken)):
        place.up("ray-cpu")
    place.up("ray-gpu")
    first, second = (place.living()[name].environ for name in NAMES)
    assert first["WS_CANDIDATES"] == second["WS_CANDIDATES"]


def test_two_clusters_take_different_blocks(tmp_path: Path) -> None:
    with ExitStack() as ends:
        places = [Place(tmp_path / name) for name in ("one", "two")]
        for each in places:
            ends.callback(each.down)
            each.up("ray-cpu")
        one, two = (environ_ports(each.living()["ray-cpu"]) for each in places)
        assert not one & two
        assert places[0].down() == []
        assert places[1].living()["ray-cpu"].running


def test_the_health_servers_port_moves_where_it_is_taken_and_is_found_again(place: Place) -> None:
    wanted = place.project.plan.health_port
    with socket.create_server(("127.0.0.1", wanted)):
        place.engine.check(place.project, NAMES)
        place.up("ray-cpu")
    url = place.engine.health_url(place.project)
    port = int(url.rpartition(":")[2])
    assert port > wanted
    assert place.living()["health"].environ["HEALTH_PORT"] == str(port)
    assert place.engine.entries(place.project)["health"] == url
    place.up("ray-gpu")  # the port of the config is free by now
    assert [place.living()[name].environ["HEALTH_URL"] for name in NAMES] == [url, url]
    for process in place.living()["health"].all:
        process.kill()
    soon(lambda: place.state("health").state == "exited")
    place.up("ray-cpu")
    assert place.living()["health"].environ["HEALTH_PORT"] == str(port)


def test_two_clusters_of_one_config_have_a_health_server_each(tmp_path: Path) -> None:
    with ExitStack() as ends:
        one = Place(tmp_path / "one")
        ends.callback(one.down)
        one.up("ray-cpu")
        two = Place(tmp_path / "two")
        services = two.project.config.services.model_copy(update={"health": one.project.config.services.health})
        config = two.project.config.model_copy(update={"services": services})
        two.project = Project(two.project.folder, config, plan(config))
        ends.callback(two.down)
        two.up("ray-cpu")  # the stand-ins listen nowhere: the port is known from the other cluster's environment
        assert one.project.plan.health_port == two.project.plan.health_port
        assert one.engine.health_url(one.project) != two.engine.health_url(two.project)


def test_a_moved_health_server_takes_no_port_of_a_node(place: Place) -> None:
    cluster = place.project.plan
    entry = cluster.node("ray-cpu").entry
    close = replace(cluster, health_port=entry.head)
    assert choose_health_port(close, {entry.head + 1, entry.head + 2}) > entry.head + 2
    assert choose_health_port(replace(cluster, health_port=cluster.ports.start), ()) >= cluster.ports.stop


def test_local_nodes_are_said_to_listen_everywhere(place: Place) -> None:
    assert any("listen on every address of this machine" in warning for warning in place.engine.warnings(place.project))


def environ_ports(node: NodeProcesses) -> set[int]:
    return {int(part.partition("=")[2]) for part in node.environ["WS_NODE_PORTS"].split(",")}


# Ends


def test_a_node_that_ends_at_start_is_known_to_have_failed(tmp_path: Path) -> None:
    with ExitStack() as ends:
        place = Place(tmp_path / "project", lambda name: ["sh", "-c", "echo no; exit 3"])
        ends.callback(place.down)
        place.engine.up(place.project, ["ray-cpu"])
        soon(lambda: place.state("ray-cpu").state == "exited")
        assert place.state("ray-cpu").exit_code == 3
        assert place.state("ray-cpu").ended_badly
        assert place.lines("ray-cpu") == ["no"]


def test_a_node_whose_agent_was_killed_has_failed_and_starts_anew(place: Place) -> None:
    place.up()
    place.kill_agent("ray-cpu")
    state = place.state("ray-cpu")
    assert (state.exit_code, state.ended_badly, state.detail) == (137, True, "3 processes of it still run")
    remains = place.living()["ray-cpu"].others
    place.up("ray-cpu")
    assert not any(is_alive(process) for process in remains)
    assert place.state("ray-cpu").state == "running"


def test_down_leaves_nothing_but_the_logs(place: Place) -> None:
    place.up()
    place.kill_agent("ray-gpu")
    processes = [process for node in place.living().values() for process in node.all]
    assert place.down() == []
    assert not any(is_alive(process) for process in processes)
    assert place.living() == {}
    assert place.engine.nodes(place.project) == []
    assert not temp_folder(place.project.folder).exists()
    local = place.project.state / "local"
    assert sorted(str(path.relative_to(local)) for path in local.rglob("*")) == [
        "logs",
        "logs/health.log",
        "logs/ray-cpu.log",
        "logs/ray-gpu.log",
    ]
    assert place.lines("ray-cpu") == ["ready ray-cpu", "bye"]


def test_down_finds_all_without_any_file(place: Place) -> None:
    place.up()
    for path in sorted((place.project.state / "local").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (place.project.state / "local").rmdir()
    assert place.down() == []
    assert place.living() == {}


def test_down_where_nothing_is_up(place: Place) -> None:
    assert place.down() == []
    assert place.engine.nodes(place.project) == []


def test_down_ends_agents_that_do_not_listen(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo \"ready $WS_LOCAL_NODE\"; while :; do sleep 1; done"
    with ExitStack() as ends:
        place = Place(tmp_path / "project", lambda name: ["sh", "-c", deaf], grace=0.3)
        ends.callback(place.down)
        place.up()
        assert place.down() == []
        assert place.living() == {}


def test_down_refuses_to_end_its_own_node(place: Place) -> None:
    engine = LocalEngine(stand_in, environ={CLUSTER_MARK: place.id})
    with pytest.raises(UsageError, match="runs on a node"):
        engine.down(place.project)


# Looking


def test_logs_give_the_last_lines(tmp_path: Path) -> None:
    with ExitStack() as ends:
        place = Place(tmp_path / "project", lambda name: ["printf", "one\\ntwo\\nthree"])
        ends.callback(place.down)
        place.engine.up(place.project, ["ray-cpu"])
        soon(lambda: place.state("ray-cpu").state == "exited")
        assert place.lines("ray-cpu") == ["one", "two", "three"]
        assert place.lines("ray-cpu", tail=2) == ["two", "three"]
        assert place.lines("ray-cpu", tail=0) == []
        assert place.lines("ray-cpu", tail=9, follow=True) == ["one", "two", "three"]


def test_following_a_log_ends_with_its_node(place: Place) -> None:
    place.up("ray-cpu")
    lines = place.engine.logs(place.project, "ray-cpu", follow=True)
    assert next(lines) == "ready ray-cpu"
    place.living()["ray-cpu"].agents[0].send_signal(signal.SIGTERM)
    assert list(lines) == ["bye"]


def test_a_log_that_is_not_there(place: Place) -> None:
    place.up("ray-cpu")
    for name in ("ray-gpu", "../../token"):
        with pytest.raises(EnvironmentProblem, match="there is no log"):
            place.lines(name)


def test_a_command_gets_what_leads_to_the_cluster(place: Place) -> None:
    place.up()
    assert place.engine.exec_command(place.project, "ray-gpu", ["ray", "status"]) == ["ray", "status"]
    environ = place.engine.exec_environment(place.project, "ray-gpu")
    assert environ["RAY_ADDRESS"] == f"127.0.1.2:{place.project.plan.node('ray-gpu').entry.head}"
    assert environ["RAY_AUTH_TOKEN_PATH"] == str(place.project.token_path)
    assert environ["WS_NODE_PORTS"] == place.living()["ray-gpu"].environ["WS_NODE_PORTS"]
    assert not {CLUSTER_MARK, NODE_MARK} & set(environ)  # or else `down` would end the user's own commands


def test_a_command_on_a_node_that_does_not_run(place: Place) -> None:
    with pytest.raises(EnvironmentProblem, match="ray-cpu does not run here"):
        place.engine.exec_environment(place.project, "ray-cpu")


def test_what_runs_is_asked_and_not_the_config(place: Place) -> None:
    place.up()
    entries = place.engine.entries(place.project)
    other = Place(place.project.folder)  # as after a change of the config, or with flags that `up` alone had
    assert other.project.plan.health_port != place.project.plan.health_port
    assert other.engine.entries(other.project) == entries
    assert other.engine.exec_environment(other.project, "ray-cpu")["RAY_ADDRESS"] == entries["gcs"]


def test_entries_lead_to_a_candidate_that_runs(place: Place) -> None:
    place.up("ray-gpu")
    entry = place.project.plan.node("ray-gpu").entry
    assert place.engine.entries(place.project)["client"] == f"ray://127.0.0.1:{entry.client}"
    assert place.engine.available() is None


# For real


@pytest.mark.slow
def test_a_real_cluster_comes_up_and_goes_away_after_its_ws_was_killed(tmp_path: Path) -> None:
    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    with ExitStack() as ends:
        place = Place(tmp_path / "project", agent_command)
        ends.callback(place.down)
        foreign = ends.enter_context(subprocess.Popen([str(raylet), "600"], start_new_session=True))
        ends.callback(foreign.kill)
        up_and_be_killed(place)
        for name in NAMES:
            expect_ray(place, name)
        assert run_on(place, "ray-gpu", "import ray; ray.init(); print(sorted(n['NodeName'] for n in ray.nodes()))") == (
            "['ray-cpu', 'ray-gpu']"
        )
        processes = [process for node in place.living().values() for process in node.all]
        assert {"raylet", "gcs_server"} <= {process.name() for process in processes}
        assert place.down() == []
        assert not [process for process in processes if is_alive(process)]
        assert not processes_with(str(temp_folder(place.project.folder)))
        assert not temp_folder(place.project.folder).exists()
        assert foreign.poll() is None


@pytest.mark.slow
def test_a_real_cluster_whose_agents_were_killed_leaves_nothing(tmp_path: Path) -> None:
    with ExitStack() as ends:
        place = Place(tmp_path / "project", agent_command)
        ends.callback(place.down)
        place.engine.up(place.project, ["ray-cpu"])
        expect_ray(place, "ray-cpu")
        processes = [process for node in place.living().values() for process in node.all]
        for process in place.living()["ray-cpu"].own:
            process.kill()
        soon(lambda: place.state("ray-cpu").state == "exited")
        assert any(is_alive(process) and process.name() == "raylet" for process in processes)
        assert place.down() == []
        assert not [process for process in processes if is_alive(process)]


def up_and_be_killed(place: Place) -> None:
    """`up` in a process that dies by `kill -9` as soon as the nodes are spawned."""
    script = f"""
import os, pickle, sys
from ws.engine.local import LocalEngine, agent_command
LocalEngine().up(pickle.load(sys.stdin.buffer), {NAMES!r})
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(place.project), check=False)
    assert done.returncode == -signal.SIGKILL


def expect_ray(place: Place, name: str) -> None:
    def up() -> None:
        state = place.state(name)
        assert state.state == "running", place.lines(name)
        if not any("Ray is up" in line for line in place.lines(name)):
            raise NotYet("\n".join(place.lines(name)))

    wait_for(f"Ray on {name}", up, timeout=120)


def run_on(place: Place, name: str, script: str) -> str:
    """What the last line of a Python script says that runs on that node."""
    argv = place.engine.exec_command(place.project, name, ["python3", "-c", script])
    done = run(argv, env=place.engine.exec_environment(place.project, name), timeout=60)
    return done.stdout.splitlines()[-1]


def processes_with(text: str) -> list[str]:
    """Command lines on this machine that hold `text`."""
    found = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [" ".join(words) for words in found if any(text in word for word in words)]
