"""Links, transfers and the watch, with two real Ray nodes of this machine; one of which ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.node.stage import soon
from tests.ports import free_port
from tests.verify.programs.local import ADDRESS, CLIENT, NAME, WORKER, Event, Local, events
from ws.node.ray_process import RayProcess
from ws.verify import programs

pytestmark = [pytest.mark.slow]

RAY_CLIENT = "ray://{}:{}".format(*CLIENT)


@pytest.fixture
def both(head: str, worker: RayProcess, environ: dict[str, str]) -> str:
    """The GCS' address, once both nodes are alive."""

    def alive() -> bool:
        told = events("watch", {"address": head}, environ, timeout=5)
        return {node["name"] for event in told if event["event"] == "nodes" for node in event["nodes"] if node["alive"]} == {
            NAME,
            WORKER,
        }

    soon("both nodes", alive, timeout=120)
    return head


def links(address: str, environ: dict[str, str], *nodes: str, **more: object) -> dict[tuple[str, str], Event]:
    told = events("links", {"address": address, "nodes": nodes, **more}, environ)
    assert told[-1] == {"event": "done"}, told
    return {(event["source"], event["target"]): event for event in told if event["event"] == "link"}


def test_links_in_both_directions_and_a_node_that_is_not_there(both: str, environ: dict[str, str]) -> None:
    found = links(both, environ, NAME, WORKER, "ray-gone", pair_timeout=30, start_timeout=60)
    assert len(found) == 6
    for pair in ((NAME, WORKER), (WORKER, NAME)):
        link = found.pop(pair)
        assert link["trouble"] == ""
        assert link["calls"] == 200
        assert 0 < link["median_ms"] <= link["p99_ms"]
        assert link["bytes"] == 32 << 20
        assert link["bandwidth"] > 0
    assert {link["trouble"] for link in found.values()} == {"ray-gone is not alive"}
    assert {link["median_ms"] for link in found.values()} == {None}


def test_a_link_that_carries_nothing_is_told_and_the_others_go_on(
    both: str, worker: RayProcess, environ: dict[str, str]
) -> None:
    raylet = next(pid for pid, name in processes(worker) if name == "raylet")
    signalled(raylet, signal.SIGSTOP)
    try:
        found = links(both, environ, NAME, WORKER, pair_timeout=1, start_timeout=3)
    finally:
        signalled(raylet, signal.SIGCONT)
    assert {link["trouble"] for link in found.values()} == {f"no actor started on {WORKER} within 3 s"}


def test_a_file_goes_in_across_and_out(both: str, environ: dict[str, str]) -> None:
    told = events("transfer", {"address": RAY_CLIENT, "nodes": [NAME, WORKER]}, environ)
    file, *hops, done = [event for event in told if event["event"] != "connecting"]
    assert done == {"event": "done"}
    assert file["bytes"] == 16 << 20
    assert [(hop["source"], hop["target"]) for hop in hops] == [("outside", NAME), (NAME, WORKER), (WORKER, "outside")]
    assert all(hop["ok"] and hop["sha256"] == file["sha256"] and hop["seconds"] > 0 for hop in hops), hops


def test_a_file_for_a_node_that_is_not_there(head: str, environ: dict[str, str]) -> None:
    told = events("transfer", {"address": RAY_CLIENT, "nodes": [NAME, "ray-gone"], "size": 1000}, environ)
    (hop,) = [event for event in told if event["event"] == "hop"]
    assert (hop["ok"], hop["sha256"], hop["source"], hop["target"]) == (False, None, "outside", NAME)
    assert hop["detail"] == "starting an actor on each node: LookupError: not alive: ray-gone"


@pytest.fixture
def watching(both: str, environ: dict[str, str]) -> Iterator[list[Event]]:
    """What a watch says, as it comes."""
    process = Local(environ).spawn("here", programs.argv("watch", {"address": both, "pulse": True}))
    coming = programs.events(process)
    yield iter(coming.get, None)  # type: ignore[misc]
    programs.leave(process, done=False)


def test_a_gcs_that_pauses_is_lost_and_found_again(watching: Iterator[Event], head: str) -> None:
    next(watching)
    port = head.rpartition(":")[2]
    found = subprocess.run(["pgrep", "-f", f"gcs_server.*gcs_server_port={port}"], capture_output=True, check=True)
    pid = int(found.stdout)
    signalled(pid, signal.SIGSTOP)
    try:
        lost = next(event for event in watching if event["event"] == "lost")
    finally:
        signalled(pid, signal.SIGCONT)
    assert "DEADLINE_EXCEEDED" in lost["why"]
    assert next(event for event in watching if event["event"] == "nodes")["nodes"]


def test_a_watch_where_nobody_answers_and_one_that_is_refused(head: str, environ: dict[str, str]) -> None:
    told = events("watch", {"address": f"{ADDRESS}:{free_port()}", "interval": 0.1}, environ, timeout=8)
    assert [event["event"] for event in told] == ["lost", "timeout"]
    told = events("watch", {"address": head}, {**environ, "RAY_AUTH_TOKEN": "another"}, timeout=8)
    assert "UNAUTHENTICATED" in told[0]["why"]


def test_the_death_of_a_node_is_told_which_is_the_last_of_these_tests(watching: Iterator[Event], worker: RayProcess) -> None:
    first = next(watching)
    ours = {node["name"]: node for node in first["nodes"] if node["alive"]}
    assert ours.keys() == {NAME, WORKER}
    assert (ours[NAME]["head"], ours[NAME]["address"], ours[NAME]["cpus"]) == (True, ADDRESS, 1.0)
    assert next(watching) == {"event": "same"}
    worker.stop(politely=False)
    told = next(event for event in watching if event["event"] == "nodes")
    (dead,) = [node for node in told["nodes"] if node["id"] == ours[WORKER]["id"]]
    assert dead["alive"] is False
    assert dead["why"]


def processes(node: RayProcess) -> list[tuple[int, str]]:
    return node._processes()


def signalled(pid: int, number: signal.Signals) -> None:
    subprocess.run(["kill", f"-{number.name.removeprefix('SIG')}", str(pid)], check=True)
