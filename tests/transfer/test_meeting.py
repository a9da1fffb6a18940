"""Which hash a transfer takes: agreed on in words, and between nodes of which some lack BLAKE3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.processes import Processes
from ws.errors import UsageError
from ws.transfer import coordinator, running
from ws.transfer.events import Event, Progress, Stream
from ws.transfer.meeting import agreed
from ws.transfer.onnode.hashing import digest_of
from ws.transfer.onnode.problems import TransferProblem
from ws.transfer.outcome import Outcome, Settings

MIB, CHUNK = 1 << 20, 256 << 10
SENDER, *RECIPIENTS = NODES = ["ray_node_1", "ray_node_2", "ray_node_3"]

BOTH, ONE = frozenset({"sha256", "blake3"}), frozenset({"sha256"})


@pytest.mark.parametrize(
    ("wanted", "former", "has", "taken"),
    [
        ("auto", None, BOTH, "blake3"),
        ("auto", None, ONE, "sha256"),
        ("auto", None, None, "sha256"),
        ("sha256", None, BOTH, "sha256"),
        ("sha256", None, ONE, "sha256"),
        ("blake3", None, BOTH, "blake3"),
        ("blake3", None, None, "blake3"),  # who comes later and lacks it says so
        ("auto", "sha256", BOTH, "sha256"),
        ("auto", "blake3", BOTH, "blake3"),
        ("auto", "blake3", None, "blake3"),
        ("auto", "blake3", ONE, "sha256"),
    ],
)
def test_blake3_where_all_have_it_unless_the_user_or_the_journals_say_otherwise(
    wanted: str, former: str | None, has: frozenset[str] | None, taken: str
) -> None:
    assert agreed(wanted, former, {"ray_node_1": BOTH, "ray_node_2": has}) == taken
    assert agreed(wanted, former, {"ray_node_1": has, "ray_node_2": BOTH}) == taken


@pytest.mark.parametrize(
    ("lacking", "told"),
    [(["ray_node_2"], "ray_node_2 lacks BLAKE3"), (["here", "ray_node_2"], "here, ray_node_2 lack BLAKE3")],
)
def test_who_lacks_what_is_wanted_is_named(lacking: list[str], told: str) -> None:
    parties = {name: ONE if name in lacking else BOTH for name in ("here", "ray_node_1", "ray_node_2")}
    with pytest.raises(TransferProblem) as caught:
        agreed("blake3", None, parties)
    assert (caught.value.code, caught.value.what) == ("no-hash", told)
    assert "pip install blake3" in caught.value.mend
    assert "--hash sha256" in caught.value.mend


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    (made.root(SENDER) / "a.bin").write_bytes(os.urandom(4 * MIB))
    yield made
    made.close()


def send(nodes: Processes, *, stop_in_the_middle: bool = False, **options: str | None) -> Outcome:
    """In chunks of 256 KiB to both recipients."""
    nodes.start(NODES)
    stopped = []

    def take(event: Event) -> None:
        if isinstance(event, Progress) and 0 < event.done < event.total:
            stopped.append(event)

    limit = 4 * MIB if stop_in_the_middle else None
    settings = Settings(fsync=False, chunk_size=CHUNK, limit=limit, keep_partial=True, **options)  # type: ignore[arg-type]
    wanted = (lambda: "cancel" if stopped else "none") if stop_in_the_middle else lambda: "none"
    transfer = running.Transfer(nodes.party, (SENDER, "a.bin"), RECIPIENTS, settings, Stream(take), wanted=wanted)
    return transfer.run()


def assert_all_have(nodes: Processes, outcome: Outcome, algorithm: str) -> None:
    assert outcome.state == "done", outcome
    content = (nodes.root(SENDER) / "a.bin").read_bytes()
    hashes = b"".join(digest_of(algorithm, content[at : at + CHUNK]) for at in range(0, len(content), CHUNK))
    root = (algorithm, digest_of(algorithm, hashes).hex())
    assert (outcome.algorithm, outcome.root_hash) == root
    for node in RECIPIENTS:
        assert (nodes.root(node) / "a.bin").read_bytes() == content
        assert (outcome.receipts[node].algorithm, outcome.receipts[node].root_hash) == root


@pytest.mark.parametrize("lacking", [None, *NODES])
def test_blake3_is_taken_where_sender_and_recipients_have_it(nodes: Processes, lacking: str | None) -> None:
    nodes.without_blake3 = {lacking} if lacking else set()
    assert_all_have(nodes, send(nodes), "sha256" if lacking else "blake3")


def test_what_is_wanted_is_taken_or_it_fails_before_anything_is_written(nodes: Processes) -> None:
    assert_all_have(nodes, send(nodes, hash="sha256"), "sha256")
    nodes.without_blake3 = {"ray_node_3"}
    nodes.remotes["ray_node_3"].close()
    (nodes.root("ray_node_2") / "a.bin").unlink()
    outcome = send(nodes, hash="blake3")
    assert outcome.state == "failed"
    assert outcome.problem
    assert (outcome.problem["code"], outcome.problem["what"]) == ("no-hash", "ray_node_3 lacks BLAKE3")
    assert list(nodes.root("ray_node_2").iterdir()) == []


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_resumed_keeps_its_hash_while_all_have_it(nodes: Processes, lost: bool) -> None:
    stopped = send(nodes, stop_in_the_middle=True)
    assert (stopped.state, stopped.algorithm) == ("cancelled", "blake3")
    if lost:
        nodes.without_blake3 = {"ray_node_3"}
        nodes.remotes["ray_node_3"].close()
    again = send(nodes, algorithm="blake3")
    assert_all_have(nodes, again, "sha256" if lost else "blake3")
    assert (again.receipts["ray_node_2"].had > 0) is not lost


def test_what_began_with_sha256_goes_on_with_it(nodes: Processes) -> None:
    assert send(nodes, stop_in_the_middle=True, hash="sha256").algorithm == "sha256"
    again = send(nodes, algorithm="sha256")
    assert_all_have(nodes, again, "sha256")
    assert again.receipts["ray_node_2"].had > 0


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_what_is_there_already_is_not_sent_again_whatever_the_hash(nodes: Processes, algorithm: str) -> None:
    send(nodes, hash="sha256")
    again = send(nodes, hash=algorithm)
    assert_all_have(nodes, again, algorithm)
    assert {receipt.had for receipt in again.receipts.values()} == {4 * MIB}


def test_who_comes_back_without_blake3_fails_alone(nodes: Processes) -> None:
    nodes.start(NODES)

    def swap(event: Event) -> None:
        if isinstance(event, Progress) and event.done and not nodes.without_blake3:
            nodes.without_blake3 = {"ray_node_3"}
            nodes.remotes["ray_node_3"].kill()

    settings = Settings(fsync=False, chunk_size=CHUNK, limit=4 * MIB)
    transfer = running.Transfer(nodes.party, (SENDER, "a.bin"), RECIPIENTS, settings, Stream(swap), retry_pause=0.01)
    outcome = transfer.run()
    assert list(outcome.receipts) == ["ray_node_2"]
    assert outcome.problems["ray_node_3"]["code"] == "no-hash"
    assert "pip install blake3" in outcome.problems["ray_node_3"]["mend"]


def test_a_hash_that_there_is_not_is_wrong_use(nodes: Processes) -> None:
    with pytest.raises(UsageError, match="'md5'"):
        coordinator.send(nodes, f"{SENDER}:a.bin", RECIPIENTS, hash="md5")
