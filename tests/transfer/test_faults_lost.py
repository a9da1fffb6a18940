"""Nodes that are gone for good: their processes are killed in the middle of a transfer, and none starts in their place."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.transfer.faulty import (
    CHUNK,
    FIRST,
    MIB,
    MIDDLE,
    NODES,
    RECIPIENTS,
    SENDER,
    assert_all_have,
    give,
    held,
    send,
)
from tests.transfer.parties import Cluster
from tests.transfer.party_process import GIVEN, TAKEN
from tests.transfer.processes import Processes
from ws.transfer import running
from ws.transfer.events import Event, Progress


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    made = Processes(tmp_path_factory.mktemp("nodes"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "ATTEMPTS", 3)
    monkeypatch.setattr(running, "_PATIENCE", 2.0)


def lose_in_the_middle(nodes: Processes, *victims: str) -> None:
    """Each dies within a chunk, with about half of its bytes behind it."""
    for victim in victims:
        remote = nodes.remotes[victim]

        def die(victim: str = victim) -> None:
            nodes.gone.add(victim)
            nodes.remotes[victim].kill()

        remote.on_held = die
        remote.call("hold", GIVEN if victim == SENDER else TAKEN, 3 * MIB + CHUNK // 2, "piece").result()


def assert_killed(nodes: Processes, *victims: str) -> None:
    assert {nodes.remotes[victim].process.returncode for victim in victims} == {-signal.SIGKILL}
    nodes.gone.clear()


@pytest.mark.parametrize("away", [[FIRST], [MIDDLE], [FIRST, MIDDLE]], ids="-".join)
def test_recipients_that_are_lost_fail_alone(nodes: Processes, away: list[str]) -> None:
    nodes.start(NODES)
    name = f"{'-'.join(away)}.bin"
    content = give(nodes, name=name)
    lose_in_the_middle(nodes, *away)
    outcome = send(nodes, name=name)
    assert_killed(nodes, *away)
    assert {node: problem["code"] for node, problem in outcome.problems.items()} == dict.fromkeys(away, "lost")
    assert held(nodes, name) == {node: None if node in away else content for node in RECIPIENTS}


def test_a_sender_that_is_lost_fails_all_and_the_next_try_goes_on(nodes: Processes) -> None:
    nodes.start(NODES)
    content = give(nodes, name="sender.bin")
    lose_in_the_middle(nodes, SENDER)
    outcome = send(nodes, name="sender.bin")
    assert_killed(nodes, SENDER)
    assert {node: problem["code"] for node, problem in outcome.problems.items()} == dict.fromkeys(RECIPIENTS, "lost")
    assert held(nodes, "sender.bin") == dict.fromkeys(RECIPIENTS)
    nodes.start(NODES)
    again = send(nodes, name="sender.bin")
    assert again.state == "done", again
    assert held(nodes, "sender.bin") == dict.fromkeys(RECIPIENTS, content)
    assert again.receipts[FIRST].had > 0


def test_who_is_killed_again_and_again_but_gets_on_is_not_given_up(cluster: Cluster) -> None:
    """More often than there are attempts in a row."""
    content = give(cluster)
    kills = 0

    def kill(event: Event) -> None:
        nonlocal kills
        if isinstance(event, Progress) and event.recipient == FIRST and kills < 5 and event.done > kills * MIB:
            kills += 1
            cluster.remotes[FIRST].kill()

    outcome = send(cluster, kill, limit=2 * MIB)
    assert_all_have(cluster, outcome, content)
    assert kills == 5 > running.ATTEMPTS
