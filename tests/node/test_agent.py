"""The real agent as processes, with a real health server and a stub in Ray's place."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.node.stage import HERE, AgentProcess, Stage, greeting, soon
from tests.ports import free_port
from ws.node.http_client import call

BLOCK = (
    "node_manager=31000,object_manager=31001,runtime_env_agent=31002,dashboard_agent_grpc=31003,"
    "dashboard_agent_listen=31004,metrics_export=31005,transfer=31006,workers=31008-31023"
)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as ends:
        made = Stage(tmp_path)
        ends.callback(made.close)
        yield made


@pytest.fixture
def head_port() -> Iterator[int]:
    """A port that accepts, as a head's does."""
    with socket.create_server((HERE, 0)) as server:
        yield int(server.getsockname()[1])


def lines_of(agent: AgentProcess) -> list[str]:
    """The lines for scripts: those without a time of day."""
    return [line for line in agent.log.splitlines() if not re.match(r"\d\d:\d\d:\d\d |  ray \|", line)]


# What this node is


def test_head_address_makes_a_worker_of_it_even_in_the_whitelist(stage: Stage, head_port: int) -> None:
    agent = stage.start("ray-cpu", HEAD_ADDRESS=f"{HERE}:{head_port}", HEAD_ADDRESS_CFG="elsewhere:6379")
    agent.wait_up()
    assert lines_of(agent) == ["Hostname: ray-cpu", f"HEAD_ADDRESS: {HERE}:{head_port}", "Mode: worker"]
    assert stage.calls()[0].flags["--address"] == f"{HERE}:{head_port}"
    assert not stage.calls()[0].is_head
    assert agent.end() == 0


def test_outside_the_whitelist_the_address_of_the_config_is_taken(stage: Stage, head_port: int) -> None:
    agent = stage.start("ray-extra", HEAD_ADDRESS_CFG=f"{HERE}:{head_port}")
    agent.wait_up()
    assert lines_of(agent) == ["Hostname: ray-extra", f"HEAD_ADDRESS: {HERE}:{head_port}", "Mode: worker"]
    assert "not in the whitelist (ray-cpu, ray-gpu)" in agent.log
    assert stage.calls()[0].flags["--address"] == f"{HERE}:{head_port}"


def test_outside_the_whitelist_without_an_address_the_leader_is_found(stage: Stage) -> None:
    stage.start_health()
    head, extra = stage.start("ray-cpu"), stage.start("ray-extra")
    head.wait_up()
    extra.wait_up()
    assert lines_of(head) == ["Hostname: ray-cpu", "Mode: head"]
    assert lines_of(extra) == ["Hostname: ray-extra", "Mode: worker"]
    assert stage.calls("ray-extra")[0].flags["--address"] == stage.candidate("ray-cpu").head_address


def test_the_leader_is_found_without_the_health_server(stage: Stage) -> None:
    head, second, extra = (stage.start(name) for name in ("ray-cpu", "ray-gpu", "ray-extra"))
    for agent in (head, second, extra):
        agent.wait_up()
    assert (head.modes, second.modes, extra.modes) == (["head"], ["worker"], ["worker"])
    assert stage.calls("ray-extra")[0].flags["--address"] == stage.candidate("ray-cpu").head_address


def test_the_hostname_is_the_name_and_the_address(stage: Stage, head_port: int) -> None:
    agent = stage.start("", HEAD_ADDRESS=f"{HERE}:{head_port}", WS_NODE_ADDRESS="")
    agent.wait_up()
    assert lines_of(agent)[0] == f"Hostname: {socket.gethostname()}"
    assert stage.calls()[0].flags["--node-ip-address"] == socket.gethostname()


def test_ray_is_told_the_port_block_and_the_name_as_address(stage: Stage, head_port: int) -> None:
    agent = stage.start(
        "ray-extra",
        HEAD_ADDRESS=f"{HERE}:{head_port}",
        WS_NODE_ADDRESS="ray-extra",
        WS_NODE_PORTS=BLOCK,
        RAY_NUM_CPUS="4",
        WS_NUM_GPUS="1",
        WS_MEMORY="1000",
        WS_OBJECT_STORE_MEMORY="500",
    )
    agent.wait_up()
    (started,) = stage.calls()
    assert started.argv[:2] == ["start", "--block"]
    assert started.flags.items() >= {
        ("--node-name", "ray-extra"),
        ("--node-ip-address", "ray-extra"),
        ("--node-manager-port", "31000"),
        ("--object-manager-port", "31001"),
        ("--runtime-env-agent-port", "31002"),
        ("--dashboard-agent-grpc-port", "31003"),
        ("--dashboard-agent-listen-port", "31004"),
        ("--metrics-export-port", "31005"),
        ("--min-worker-port", "31008"),
        ("--max-worker-port", "31023"),
        ("--num-cpus", "4"),
        ("--num-gpus", "1"),
        ("--memory", "1000"),
        ("--object-store-memory", "500"),
    }


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"LEASE_TTL": "soon"}, "LEASE_TTL='soon' is not a number"),
        ({"WS_CANDIDATES": "[]"}, "WS_CANDIDATES does not tell the ports of this candidate, 'ray-cpu'"),
        ({"RAY_AUTH_TOKEN_PATH": "/no/such/file"}, "RAY_AUTH_TOKEN_PATH=/no/such/file can't be read"),
        ({"PATH": "/no/such/folder"}, "no `ray` on the PATH (/no/such/folder)"),
    ],
)
def test_an_environment_that_is_wrong_ends_the_agent_with_a_line(stage: Stage, wrong: dict[str, str], text: str) -> None:
    agent = stage.start("ray-cpu", **wrong)
    assert agent.wait_end() == 2
    assert f"✗ {text}" in agent.log
    assert "Traceback" not in agent.log


def test_an_agent_port_that_is_taken_is_named(stage: Stage) -> None:
    stage.start_health()
    port = stage.candidate("ray-cpu").agent_port
    with socket.create_server((HERE, port)):
        agent = stage.start("ray-cpu")
        assert agent.wait_end() == 2
    assert f"✗ the agent's own port {port} can't be opened at {HERE}: Address already in use" in agent.log
    assert "Traceback" not in agent.log
    assert stage.lease() is None
    assert stage.calls() == []


# Starting Ray


def test_starts_that_fail_are_tried_again_after_pauses_that_grow(stage: Stage, head_port: int) -> None:
    agent = stage.start("ray-extra", "fail=2", HEAD_ADDRESS=f"{HERE}:{head_port}")
    agent.wait_up()
    assert len(stage.calls()) == 3
    assert re.findall(r"trying again in (\d) s \(failure (\d)\)", agent.log) == [("1", "1"), ("2", "2")]
    assert agent.log.count("✗ `ray start` ended with exit code 1") == 2
    assert agent.log.count("  ray | this start fails") == 2
    assert agent.log.count("Mode: worker") == 3


def test_a_start_that_hangs_is_ended_and_tried_again(stage: Stage, head_port: int) -> None:
    impatient = "import sys; from ws.node import agent; agent._START_LIMIT = 0.5; sys.exit(agent.main())"
    agent = stage.start_program(["-c", impatient], "ray-extra", "hang deaf", HEAD_ADDRESS=f"{HERE}:{head_port}")
    agent.wait_line("✗ Ray did not start within")
    soon("another start", lambda: len(stage.calls()) == 2)
    assert agent.end() == 0
    assert stage.living() == []


def test_a_token_that_the_head_refuses_is_told(stage: Stage, head_port: int) -> None:
    agent = stage.start("ray-extra", "token", HEAD_ADDRESS=f"{HERE}:{head_port}", WAIT_FOR_HEAD="0.5")
    assert agent.wait_end() == 4
    assert "the head refuses this node's token: give every node the token file that the head has" in agent.log
    assert f"Ray did not start against {HERE}:{head_port}" in agent.log


def test_a_start_waits_at_the_gate_of_the_health_server(stage: Stage, head_port: int) -> None:
    stage.start_health()
    blockers = [{"name": f"other-{number}", "instance": "one"} for number in range(2)]
    for blocker in blockers:
        assert stage.ask_health("/gate/enter", "POST", dict(blocker))["granted"]
    agent = stage.start("ray-extra", HEAD_ADDRESS=f"{HERE}:{head_port}")
    agent.wait_line("waiting at the gate: 2 nodes start before this one")
    assert stage.calls() == []
    stage.ask_health("/gate/leave", "POST", dict(blockers[0]))
    agent.wait_up()
    assert stage.ask_health("/gate")["starting"] == ["other-1"]


# No head


def test_a_name_that_does_not_resolve(stage: Stage) -> None:
    agent = stage.start("ray-extra", HEAD_ADDRESS="no-such-node.invalid:6379", WAIT_FOR_HEAD="0.5")
    assert agent.wait_end() == 4
    assert "✗ no head within 0.5 s (WAIT_FOR_HEAD): the name 'no-such-node.invalid' does not resolve here" in agent.log
    assert "extra_hosts" in agent.log
    assert stage.calls() == []


def test_a_port_that_refuses(stage: Stage) -> None:
    port = free_port()
    agent = stage.start("ray-extra", HEAD_ADDRESS=f"localhost:{port}", WAIT_FOR_HEAD="0.5")
    assert agent.wait_end() == 4
    assert f"no head within 0.5 s (WAIT_FOR_HEAD): localhost:{port} (127.0.0.1) refuses the connection" in agent.log


def test_no_leader_anywhere(stage: Stage) -> None:
    agent = stage.start("ray-extra", WAIT_FOR_HEAD="0.5", DISCOVERY_TIMEOUT="0.2")
    assert agent.wait_end() == 4
    tried = f"health server: {HERE}:{stage.health_port} refuses the connection; ray-cpu: {HERE}:"
    assert "✗ no head found within 0.2 s: no candidate leads" in agent.log
    assert f"no head within 0.5 s (WAIT_FOR_HEAD): no candidate leads ({tried}" in agent.log
    assert "set HEAD_ADDRESS" in agent.log


def test_a_head_that_comes_late_is_joined(stage: Stage) -> None:
    extra = stage.start("ray-extra", DISCOVERY_TIMEOUT="0.2")
    extra.wait_line("✗ no head found within")
    stage.start_health()
    stage.start("ray-cpu")
    extra.wait_up()
    assert stage.calls("ray-extra")[0].flags["--address"] == stage.candidate("ray-cpu").head_address


# Ending


def test_sigterm_ends_all_of_ray_and_gives_the_lease_back(stage: Stage) -> None:
    stage.start_health()
    agent = stage.start("ray-cpu", "family deaf")
    agent.wait_up()
    assert set(stage.children()) == {"same session", "own session"}
    assert len(stage.living()) == 3
    assert agent.end() == 0
    assert stage.living() == []
    assert stage.changes() == ["granted ray-cpu 1", "released ray-cpu 1"]
    assert agent.log.splitlines()[-1].endswith("✓ stopped")


@pytest.mark.parametrize("stub", ["", "hang", "hang deaf"])
def test_sigint_ends_a_node_in_any_state(stage: Stage, head_port: int, stub: str) -> None:
    agent = stage.start("ray-extra", stub, HEAD_ADDRESS=f"{HERE}:{head_port}")
    soon("ray start", stage.living)
    agent.process.send_signal(signal.SIGINT)
    assert agent.wait_end() == 0
    assert stage.living() == []


def test_sigterm_while_waiting_for_a_head(stage: Stage) -> None:
    waiting = stage.start("ray-extra", HEAD_ADDRESS=f"{HERE}:{free_port()}")
    deciding = stage.start("ray-other")
    waiting.wait_line("^Mode: worker$")
    deciding.wait_line("not in the whitelist")
    assert (waiting.end(), deciding.end()) == (0, 0)


def test_what_is_not_rays_is_left_alone(stage: Stage, head_port: int) -> None:
    with ExitStack() as ends:
        foreign = ends.enter_context(psutil.Popen(["sleep", "600"], start_new_session=True))
        ends.callback(foreign.kill)
        agent = stage.start("ray-extra", "family", HEAD_ADDRESS=f"{HERE}:{head_port}")
        agent.wait_up()
        assert agent.end() == 0
        assert foreign.is_running()
        assert foreign.status() != psutil.STATUS_ZOMBIE


# The election, and what follows from it


def test_twenty_times_two_candidates_at_one_instant_are_one_head_and_one_worker(tmp_path: Path) -> None:
    with ExitStack() as ends:
        stages = [Stage(tmp_path / str(number), ttl=5) for number in range(5)]
        for stage in stages:
            ends.callback(stage.close)
            stage.start_health()
        for round_ in range(1, 5):
            agents = [stage.start_together(["ray-gpu", "ray-cpu"]) for stage in stages]
            for agent in (agent for pair in agents for agent in pair):
                agent.wait_up()
            for stage, pair in zip(stages, agents, strict=True):
                assert sorted(mode for agent in pair for mode in agent.modes) == ["head", "worker"]
                assert [call.is_head for call in stage.calls()].count(True) == round_
                assert len(stage.calls()) == 2 * round_
                assert sum("granted" in change for change in stage.changes()) == round_
            for agent in (agent for pair in agents for agent in pair):
                agent.process.send_signal(signal.SIGTERM)
            assert [agent.wait_end() for pair in agents for agent in pair] == [0] * 10


@pytest.fixture
def pair(stage: Stage) -> tuple[AgentProcess, AgentProcess]:
    """Two candidates that are up: the head, the worker."""
    stage.start_health()
    head = stage.start("ray-cpu", "vital")
    head.wait_up()
    worker = stage.start("ray-gpu")
    worker.wait_up()
    assert (head.modes, worker.modes) == (["head"], ["worker"])
    return head, worker


def ports_of(stage: Stage, name: str) -> tuple[int, int, int]:
    candidate = stage.candidate(name)
    return candidate.head_port, candidate.dashboard_port, candidate.client_port


def test_the_entries_of_a_worker_lead_to_the_head(stage: Stage, pair: tuple[AgentProcess, AgentProcess]) -> None:
    for own, of_head in zip(ports_of(stage, "ray-gpu"), ports_of(stage, "ray-cpu"), strict=True):
        assert greeting(own) == f"ray-cpu {of_head}"


@pytest.mark.parametrize("which", ["ray start", "raylet"])
def test_when_the_heads_ray_dies_another_leads_and_the_entries_follow(
    stage: Stage, pair: tuple[AgentProcess, AgentProcess], which: str
) -> None:
    head, worker = pair
    (first,) = stage.calls("ray-cpu")
    os.kill({"ray start": first.pid, "raylet": stage.children()["raylet"]}[which], signal.SIGKILL)
    worker.wait_line("^Mode: head$")
    head.wait_line("^Mode: worker$")
    worker.wait_up(times=2)
    head.wait_up(times=2)
    assert stage.changes()[:3] == ["granted ray-cpu 1", "released ray-cpu 1", "granted ray-gpu 2"]
    assert stage.calls("ray-cpu")[-1].flags["--address"] == stage.candidate("ray-gpu").head_address
    for own, of_new in zip(ports_of(stage, "ray-cpu"), ports_of(stage, "ray-gpu"), strict=True):
        assert greeting(own) == f"ray-gpu {of_new}"


def test_when_the_heads_agent_is_killed_another_leads_and_it_returns_as_worker(
    stage: Stage, pair: tuple[AgentProcess, AgentProcess]
) -> None:
    head, worker = pair
    head.process.kill()
    for process in [process for process in stage.living() if os.getsid(process.pid) == stage.calls("ray-cpu")[0].pid]:
        process.kill()  # as the container ends with its first process
    worker.wait_line("^Mode: head$")
    worker.wait_up(times=2)
    assert stage.changes() == ["granted ray-cpu 1", "expired ray-cpu 1", "granted ray-gpu 2"]
    back = stage.start("ray-cpu")
    back.wait_up()
    assert back.modes == ["worker"]
    assert stage.holder() == "ray-gpu"


def test_when_the_head_is_asked_to_end_another_leads(stage: Stage, pair: tuple[AgentProcess, AgentProcess]) -> None:
    head, worker = pair
    assert head.end() == 0
    worker.wait_line("^Mode: head$")
    worker.wait_up(times=2)
    assert stage.changes() == ["granted ray-cpu 1", "released ray-cpu 1", "granted ray-gpu 2"]


def test_a_worker_whose_ray_dies_comes_back_and_the_head_stays(
    stage: Stage, pair: tuple[AgentProcess, AgentProcess]
) -> None:
    head, worker = pair
    os.kill(stage.calls("ray-gpu")[0].pid, signal.SIGKILL)
    worker.wait_up(times=2)
    assert (head.modes, worker.modes) == (["head"], ["worker", "worker"])
    assert stage.changes() == ["granted ray-cpu 1"]


def test_when_the_health_server_is_killed_nothing_happens(tmp_path: Path) -> None:
    ttl = 3.0
    with ExitStack() as ends:
        stage = Stage(tmp_path, ttl=ttl)
        ends.callback(stage.close)
        health = stage.start_health()
        agents = [stage.start("ray-cpu"), stage.start("ray-gpu")]
        for agent in agents:
            agent.wait_up()
        lease = stage.lease()
        assert lease
        health.process.kill()
        for _ in until(time.monotonic() + 1.2 * ttl):
            assert len(stage.calls()) == 2
            assert sorted(mode for agent in agents for mode in agent.modes) == ["head", "worker"]
        stage.start_health()
        soon("the lease to be renewed", renewed(stage, str(lease["instance"])))
        assert {change.partition(" ")[0] for change in stage.changes()} <= {"granted", "kept"}
        assert [change.split()[1:] for change in stage.changes()][-1] == [lease["holder"], "1"]
        assert len(stage.calls()) == 2


def until(moment: float) -> Iterator[None]:
    """Turns until then: that nothing happens shows in time alone."""
    while time.monotonic() < moment:
        yield
        time.sleep(0.1)


def renewed(stage: Stage, instance: str) -> Callable[[], bool]:
    """Whether the lease has been prolonged since this was called, for the same process."""
    first = stage.lease()

    def check() -> bool:
        lease = stage.lease()
        assert first
        assert lease
        assert lease["instance"] == instance
        return bool(lease["expires_in"] > first["expires_in"])

    return check


def test_a_node_tells_what_it_is(stage: Stage, pair: tuple[AgentProcess, AgentProcess]) -> None:
    def told(name: str) -> dict[str, object]:
        return call(f"{stage.candidate(name).agent_url}/node", token=stage.token_path.read_text().strip())

    head = {"mode": "head", "address": stage.candidate("ray-cpu").head_address, "leader": "ray-cpu", "epoch": 1}
    assert told("ray-cpu") == {"name": "ray-cpu", "state": "up", **head}
    assert told("ray-gpu") == {"name": "ray-gpu", "state": "up", **head, "mode": "worker"}
