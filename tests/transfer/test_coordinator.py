"""Whole transfers between parties of this process, over loopback, and every fault that a coordinator has to see through."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.transfer.faulty import MIB, give, left_over
from tests.transfer.parties import Cluster, NodeRemote
from ws.errors import UsageError
from ws.transfer import coordinator, running
from ws.transfer.events import Event, Progress, Stream
from ws.transfer.outcome import Outcome, Settings

SENDER, *OTHERS = [f"ray_node_{number}" for number in range(1, 6)]
SIZE, RATE = 24 * MIB, 12 * MIB
"""Two seconds, in which progress is looked at ten times: a fault comes in the middle."""


def transfer(cluster: Cluster, recipients: list[str], events: list[Event], **options: Any) -> running.Transfer:
    """One that tries again without long pauses."""
    settings = Settings(fsync=False, **options)
    return running.Transfer(cluster.party, (SENDER, "a.bin"), recipients, settings, Stream(events.append), retry_pause=0.01)


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events if not isinstance(event, Progress)]


def test_a_file_gets_to_one_node_with_a_receipt(cluster: Cluster) -> None:
    content = give(cluster, size=20 * MIB)
    events: list[Event] = []
    outcome = coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_2"], on_event=events.append)
    assert outcome.state == "done"
    assert (cluster.root("ray_node_2") / "a.bin").read_bytes() == content
    assert left_over(cluster)["ray_node_2"] == ["a.bin"]
    receipt = outcome.receipts["ray_node_2"]
    assert (receipt.bytes, receipt.had, receipt.plane, receipt.path) == (len(content), 0, "stream", (SENDER, "ray_node_2"))
    assert receipt.root_hash == outcome.root_hash
    assert kinds(events) == ["started", "planned", "recipient_done", "finished"]


def test_several_nodes_are_a_chain_and_each_has_it(cluster: Cluster) -> None:
    content = give(cluster, size=20 * MIB)
    outcome = coordinator.send(cluster, f"{SENDER}:a.bin", OTHERS, dest="in/", fsync=False)
    assert outcome.state == "done"
    for node in OTHERS:
        assert (cluster.root(node) / "in" / "a.bin").read_bytes() == content
    assert outcome.receipts["ray_node_5"].path == (SENDER, *OTHERS)


def test_from_here_into_the_cluster_and_back(cluster: Cluster, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "sub").mkdir(parents=True)
    (mine / "big").write_bytes(os.urandom(9 * MIB))
    (mine / "sub" / "small").write_text("small")
    (mine / "empty").write_text("")
    assert coordinator.send(cluster, str(mine), OTHERS[:2], dest="got", fsync=False).state == "done"
    arrived = ["got", "got/mine", "got/mine/big", "got/mine/empty", "got/mine/sub", "got/mine/sub/small"]
    assert left_over(cluster)["ray_node_3"] == arrived
    back = tmp_path / "back"
    assert coordinator.fetch(cluster, "ray_node_3:got/mine", f"{back}/", fsync=False).state == "done"
    assert (back / "mine" / "sub" / "small").read_text() == "small"
    assert (back / "mine" / "big").read_bytes() == (mine / "big").read_bytes()


def test_a_node_that_listens_nowhere_takes_by_dialling_and_is_served_by_dialling(cluster: Cluster) -> None:
    cluster.deaf = {SENDER, "ray_node_3"}
    content = give(cluster, size=20 * MIB)
    outcome = coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_2", "ray_node_3"], fsync=False)
    assert outcome.state == "done"
    assert outcome.receipts["ray_node_3"].path == (SENDER, "ray_node_2", "ray_node_3")
    assert (cluster.root("ray_node_3") / "a.bin").read_bytes() == content


def test_an_empty_file_and_one_that_is_there_already(cluster: Cluster) -> None:
    give(cluster, size=0)
    assert coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_2"]).state == "done"
    assert (cluster.root("ray_node_2") / "a.bin").read_bytes() == b""
    give(cluster, size=3 * MIB)
    (cluster.root("ray_node_3") / "a.bin").write_bytes((cluster.root(SENDER) / "a.bin").read_bytes())
    outcome = coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_3"])
    assert (outcome.state, outcome.receipts["ray_node_3"].had) == ("done", 3 * MIB)


def test_another_file_of_that_name_fails_its_node_alone_unless_it_may_be_replaced(cluster: Cluster) -> None:
    content = give(cluster, size=20 * MIB)
    for size in (3, len(content)):
        (cluster.root("ray_node_2") / "a.bin").write_bytes(b"x" * size)
        outcome = coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_2", "ray_node_3"], fsync=False)
        assert outcome.state == "failed"
        assert outcome.problems["ray_node_2"]["code"] == "exists"
        assert (cluster.root("ray_node_2") / "a.bin").read_bytes() == b"x" * size
        assert (cluster.root("ray_node_3") / "a.bin").read_bytes() == content
    outcome = coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_2"], overwrite=True, fsync=False)
    assert (cluster.root("ray_node_2") / "a.bin").read_bytes() == content


def test_what_is_not_there_ends_the_whole_and_is_said(cluster: Cluster) -> None:
    events: list[Event] = []
    outcome = coordinator.send(cluster, f"{SENDER}:none", ["ray_node_2"], on_event=events.append)
    assert outcome.problem
    assert (outcome.state, outcome.problem["code"]) == ("failed", "no-such-file")
    assert kinds(events) == ["started", "finished"]


@pytest.mark.parametrize(
    ("source", "recipients", "plane"),
    [(SENDER, [], "auto"), (SENDER, [SENDER], "auto"), (SENDER, ["b", "b"], "auto"), (SENDER, ["b"], "tape")],
)
def test_nonsense_is_refused(cluster: Cluster, source: str, recipients: list[str], plane: str) -> None:
    with pytest.raises(UsageError):
        coordinator.send(cluster, f"{source}:a.bin", recipients, plane=plane)


def kill(cluster: Cluster, node: str) -> None:
    cluster.remotes[node].kill()


def run_with_fault(
    cluster: Cluster,
    recipients: list[str],
    fault: Callable[[], None],
    source: tuple[str, str] = (SENDER, "a.bin"),
    **options: Any,
) -> tuple[Outcome, list[str]]:
    """A transfer in whose middle something happens: once the first recipient has a chunk; from then on it may be quick."""
    events: list[Event] = []
    once = threading.Event()

    def take(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and event.recipient == recipients[0] and event.done and not once.is_set():
            assert event.done < event.total
            once.set()
            fault()
            for node in recipients:
                if node not in cluster.gone and not cluster.remotes[node].dead.is_set():
                    cluster.remotes[node].lift_limit(event.transfer)

    settings = Settings(fsync=False, limit=RATE, plane=cluster.plane, **options)
    ran = running.Transfer(cluster.party, source, recipients, settings, Stream(take), retry_pause=0.01)
    outcome = ran.run()
    assert once.is_set()
    return outcome, kinds(events)


@pytest.mark.usefixtures("either_plane")
@pytest.mark.parametrize("victim", [SENDER, "ray_node_2", "ray_node_3"])
def test_whoever_dies_in_the_middle_is_started_again_and_all_have_it(cluster: Cluster, victim: str) -> None:
    content = give(cluster, size=SIZE)
    outcome, _ = run_with_fault(cluster, OTHERS[:3], lambda: kill(cluster, victim))
    assert outcome.state == "done", outcome
    for node in OTHERS[:3]:
        assert (cluster.root(node) / "a.bin").read_bytes() == content
        assert left_over(cluster)[node] == ["a.bin"]


@pytest.mark.usefixtures("either_plane")
def test_a_node_that_stays_away_fails_alone(cluster: Cluster) -> None:
    content = give(cluster, size=SIZE)

    def lose() -> None:
        cluster.gone.add("ray_node_2")
        cluster.remotes["ray_node_2"].kill()

    outcome, told = run_with_fault(cluster, OTHERS[:3], lose)
    assert outcome.state == "failed"
    assert list(outcome.problems) == ["ray_node_2"]
    assert outcome.problems["ray_node_2"]["code"] == "lost"
    assert (cluster.root("ray_node_3") / "a.bin").read_bytes() == content
    assert not (cluster.root("ray_node_2") / "a.bin").exists()
    assert "retry" in told


def test_a_relay_that_is_lost_is_replaced_by_one_that_dials(cluster: Cluster, tmp_path: Path) -> None:
    """From here: nobody can ask this machine, so it has to notice whom it has to serve itself."""
    content = give(cluster, size=SIZE)
    here = str(cluster.root(SENDER) / "a.bin")

    def lose() -> None:
        cluster.gone.add("ray_node_2")
        cluster.remotes["ray_node_2"].kill()

    outcome, _ = run_with_fault(cluster, OTHERS[:2], lose, ("here", here))
    assert list(outcome.problems) == ["ray_node_2"]
    assert (cluster.root("ray_node_3") / "a.bin").read_bytes() == content


def test_a_second_try_takes_up_what_is_there(cluster: Cluster) -> None:
    give(cluster, size=SIZE)

    def lose() -> None:
        cluster.gone.add("ray_node_2")
        cluster.remotes["ray_node_2"].kill()

    run_with_fault(cluster, ["ray_node_2"], lose)
    assert "a.bin.part" in left_over(cluster)["ray_node_2"]
    cluster.gone.clear()
    outcome = coordinator.send(cluster, f"{SENDER}:a.bin", ["ray_node_2"], fsync=False)
    assert outcome.state == "done"
    assert outcome.receipts["ray_node_2"].had >= 8 * MIB
    assert left_over(cluster)["ray_node_2"] == ["a.bin"]


@pytest.mark.usefixtures("either_plane")
@pytest.mark.parametrize("keep", [False, True])
def test_cancel_leaves_nothing_unless_that_is_wanted(cluster: Cluster, keep: bool) -> None:
    give(cluster, size=30 * MIB)
    events: list[Event] = []
    wanted = ["none"]

    def cancel(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and event.done:
            wanted[0] = "cancel"

    settings = Settings(fsync=False, limit=20 * MIB, keep_partial=keep, plane=cluster.plane, chunk_size=MIB)
    ran = running.Transfer(
        cluster.party, (SENDER, "a.bin"), OTHERS[:2], settings, Stream(cancel), wanted=lambda: wanted[0], retry_pause=0.01
    )
    outcome = ran.run()
    assert outcome.state == "cancelled"
    assert kinds(events)[-1] == "cancelled"
    assert "recipient_failed" not in kinds(events)
    for node in OTHERS[:2]:
        assert left_over(cluster)[node] == (["a.bin.part", "a.bin.part.journal"] if keep else [])


@pytest.mark.usefixtures("either_plane")
def test_pause_holds_it_until_it_is_resumed(cluster: Cluster) -> None:
    content = give(cluster, size=48 * MIB)
    told: list[str] = []
    wanted = ["none"]

    def on_event(event: Event) -> None:
        told.append(event.kind)
        if isinstance(event, Progress) and event.done and "paused" not in told:
            wanted[0] = "pause"
        if event.kind == "paused":
            wanted[0] = "none"
        if event.kind == "resumed":
            cluster.remotes["ray_node_2"].lift_limit(event.transfer)

    settings = Settings(fsync=False, limit=RATE, plane=cluster.plane)
    ran = running.Transfer(
        cluster.party, (SENDER, "a.bin"), ["ray_node_2"], settings, Stream(on_event), wanted=lambda: wanted[0]
    )
    assert ran.run().state == "done"
    assert told.index("paused") < told.index("resumed")
    assert (cluster.root("ray_node_2") / "a.bin").read_bytes() == content


def test_a_busy_target_is_tried_again(cluster: Cluster) -> None:
    """The actor of a coordinator that died holds the lock until it notices that nobody asks any more."""
    content = give(cluster, size=20 * MIB)
    answers = iter([True])

    def on_start(remote: NodeRemote) -> None:
        call = remote.party.accept

        def busy_once(tid: str, spec: Any) -> Any:
            if remote.id == "ray_node_2" and next(answers, False):
                return {"problem": {"code": "busy", "what": "another transfer writes it", "why": "", "mend": ""}}
            return call(tid, spec)

        remote.party.accept = busy_once  # type: ignore[method-assign]

    cluster.on_start = on_start
    events: list[Event] = []
    assert transfer(cluster, OTHERS[:2], events).run().state == "done"
    assert (cluster.root("ray_node_2") / "a.bin").read_bytes() == content
