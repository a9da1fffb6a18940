"""Full disks, read-only targets and sources that change, each caused for real in a whole transfer along a chain."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.transfer.faulty import (
    FIRST,
    LAST,
    MIB,
    MIDDLE,
    RECIPIENTS,
    SENDER,
    SLOW,
    assert_all_have,
    assert_only,
    give,
    held,
    in_the_middle,
    send,
)
from tests.transfer.onnode.copying import names, picture, small_disk
from tests.transfer.parties import Cluster, NodeRemote

pytestmark = pytest.mark.usefixtures("either_plane")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


# Disks


@needs_root
def test_a_full_disk_fails_one_of_three_and_says_what_to_free(cluster: Cluster) -> None:
    content = give(cluster)
    with small_disk(cluster.folder / MIDDLE, "2m") as disk:
        said = assert_only(cluster, send(cluster), MIDDLE, "no-space", content)
        assert f"it needs 6.0 MiB, and 2.0 MiB are free on {disk}" in said
        assert "free 4.0 MiB there" in said
        assert names(disk) == []


@needs_root
def test_a_disk_that_fills_meanwhile_fails_one_of_three_which_can_be_resumed(cluster: Cluster) -> None:
    """The relay in the middle: who takes from it goes on with another. A sparse file, for which no room is reserved."""
    source = cluster.root(SENDER) / "a.bin"
    content = os.urandom(6 * MIB) + bytes(4 * MIB)
    with source.open("wb") as file:
        file.write(content[: 6 * MIB])
        file.truncate(len(content))
    with small_disk(cluster.folder / MIDDLE, "8m") as disk:
        outcome = send(cluster, in_the_middle(cluster, lambda tid: fill(disk), MIDDLE), **SLOW)
        said = assert_only(cluster, outcome, MIDDLE, "no-space", content)
        assert f"on {disk}" in said
        assert "free " in said
        (disk / "filler").unlink()
        again = send(cluster)
        assert_all_have(cluster, again, content)
        assert again.receipts[MIDDLE].had > 0


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


@needs_root
def test_a_target_that_is_read_only_fails_one_of_three(cluster: Cluster) -> None:
    content = give(cluster)
    with small_disk(cluster.folder / FIRST, "16m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said = assert_only(cluster, send(cluster), FIRST, "read-only", content)
        assert "read-only file system" in said
        assert str(disk) in said


# Sources


def cut_short(path: Path) -> None:
    os.truncate(path, 5 * MIB)


def write_into(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"changed")


def write_into_and_put_its_time_back(path: Path) -> None:
    status = path.stat()
    write_into(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(os.urandom(path.stat().st_size))
    other.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [cut_short, write_into, write_into_and_put_its_time_back, replace, remove])
def test_a_source_that_changes_meanwhile_fails_it_for_all(cluster: Cluster, change: Callable[[Path], None]) -> None:
    give(cluster)
    source = cluster.root(SENDER) / "a.bin"
    outcome = send(cluster, in_the_middle(cluster, lambda tid: change(source)), **SLOW)
    assert outcome.state == "failed"
    assert {problem["code"] for problem in outcome.problems.values()} == {"source-changed"}
    assert list(outcome.problems) == RECIPIENTS
    assert held(cluster) == dict.fromkeys(RECIPIENTS)


def test_a_source_that_changes_when_all_is_sent_fails_it_as_well(cluster: Cluster) -> None:
    """Before the hashes are compared, and nothing has its name yet."""
    give(cluster)
    source = cluster.root(SENDER) / "a.bin"
    remote = cluster.party(SENDER)
    assert isinstance(remote, NodeRemote)
    remote.before = lambda method: write_into(source) if method == "hashes" else None
    outcome = send(cluster)
    assert {problem["code"] for problem in outcome.problems.values()} == {"source-changed"}
    assert held(cluster) == dict.fromkeys(RECIPIENTS)


# Sizes


def test_what_is_empty_arrives(cluster: Cluster) -> None:
    top = cluster.root(SENDER) / "top"
    (top / "none" / "deep").mkdir(parents=True)
    (top / "nothing").touch()
    (top / "none" / "nothing").touch()
    (cluster.root(SENDER) / "bare").mkdir()
    (cluster.root(SENDER) / "zero").touch()
    for name in ("top", "bare", "zero"):
        outcome = send(cluster, name=name)
        assert outcome.state == "done", outcome
        for node in RECIPIENTS:
            assert picture(cluster.root(node) / name) == picture(cluster.root(SENDER) / name)
    assert names(cluster.root(LAST)) == ["bare", "top", "zero"]
