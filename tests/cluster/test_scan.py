"""Discovery against real clusters of `ray start`, and against what is none."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.heads import Head, head
from tests.cluster.strangers import TOKEN, dashboard_answers, dripping, http, silence, tcp
from tests.ports import free_port
from ws.cluster.discover import Scan, Search, discover, scan
from ws.cluster.endpoint import Endpoint
from ws.cluster.protocol import Sighting, Speaks, look
from ws.cluster.records import ClusterRecord, Kind, TokenNeed

PATIENT = 5.0
"""Seconds for each answer: the machine may be hard at work."""


def search(**wanted: object) -> Scan:
    return scan(Search(**{"timeout": PATIENT, "environ": {}, **wanted}))  # type: ignore[arg-type]


def record_of(session: str, found: Scan) -> ClusterRecord:
    (record,) = [record for record in found.records if record.session == session]
    return record


def seen(endpoint: Endpoint, token: str = "") -> Sighting:
    return asyncio.run(look(endpoint, token, timeout=PATIENT))


class TestWithoutRay:
    def test_strangers_are_no_clusters_and_hold_nothing_up(self) -> None:
        with tcp(silence) as silent, tcp(dripping) as drips, http({"/": "hello"}) as web:
            strangers = [silent.port, drips.port, web.port]
            began = time.monotonic()
            found = search(ports=strangers, timeout=0.5)
            assert time.monotonic() - began < 20
        addresses = [address for record in found.records for each in record.addresses.values() for address in each]
        assert not {f"127.0.0.1:{port}" for port in strangers} & set(addresses)

    def test_a_dashboard_on_a_given_port_of_another_ray(self) -> None:
        with http(dashboard_answers("session_x", "2.9.3")) as endpoint:
            record = record_of("session_x", search(ports=[endpoint.port]))
        assert (record.id, record.ray_version, record.nodes) == ("session_x", "2.9.3", 2)
        assert (record.addresses, record.found_by) == ({Kind.dashboard: [str(endpoint)]}, ["ports"])

    def test_a_given_host_and_a_network(self) -> None:
        with http(dashboard_answers("session_x")) as endpoint:
            by_name = record_of("session_x", search(hosts=["localhost"], ports=[endpoint.port]))
            by_network = record_of("session_x", search(cidrs=["127.0.0.1/32"], ports=[endpoint.port]))
        assert by_name.addresses[Kind.dashboard] == [str(endpoint), f"localhost:{endpoint.port}"]
        assert by_network.addresses[Kind.dashboard] == [str(endpoint)]

    def test_a_host_that_is_not_there_is_told(self) -> None:
        assert "no-such-host.invalid: there is no such host" in search(hosts=["no-such-host.invalid"]).problems

    def test_a_network_is_asked_no_faster_than_its_bound(self) -> None:
        """30 hosts, 7 ports, 500 connections a second."""
        assert search(cidrs=["127.0.0.0/27"], timeout=1.0).seconds > 30 * 7 / 500 - 0.05

    def test_ray_address_is_looked_at(self) -> None:
        with http(dashboard_answers("session_x")) as endpoint:
            record = record_of("session_x", search(environ={"RAY_ADDRESS": f"http://{endpoint}"}))
        assert record.found_by == ["RAY_ADDRESS"]

    def test_a_ray_address_that_leads_nowhere_is_stale(self) -> None:
        nowhere = f"127.0.0.1:{free_port()}"
        (record,) = [each for each in search(environ={"RAY_ADDRESS": nowhere}).records if each.id == nowhere]
        assert (record.alive, record.stale) == (False, f"no process of it runs here; nothing listens at {nowhere}")

    def test_a_stale_session_folder(self, tmp_path: Path) -> None:
        name = "session_2026-01-01_00-00-00_000001_1"
        (tmp_path / name).mkdir()
        record = record_of(name, search(temp_dirs=[tmp_path]))
        assert (record.alive, record.stale, record.found_by) == (False, "no process of it runs here", ["files"])

    def test_a_way_that_can_not_be_gone_is_told_and_keeps_no_other_from_being_gone(self, tmp_path: Path) -> None:
        with (
            socket.socket(socket.AF_UNIX) as daemon,
            http(dashboard_answers("session_x")) as endpoint,
        ):
            daemon.bind(str(tmp_path / "s"))
            daemon.listen()
            found = search(ports=[endpoint.port], timeout=1.0, environ={"DOCKER_HOST": f"unix://{tmp_path}/s"})
        told = f"containers: the Docker daemon at {tmp_path}/s can't be asked"
        assert any(problem.startswith(told) for problem in found.problems)
        assert record_of("session_x", found).alive


@pytest.fixture(scope="module")
def heads() -> Iterator[tuple[Head, Head]]:
    """A cluster without a token and one with, at once."""
    # One after the other: a start storm kills nodes (FACTS 12).
    with head() as plain, head(TOKEN) as guarded:
        yield plain, guarded


@pytest.mark.slow
class TestWithRay:
    def test_two_clusters_at_once_each_with_all_its_addresses(self, heads: tuple[Head, Head]) -> None:
        found = search()
        for each, need in zip(heads, (TokenNeed.not_needed, TokenNeed.needed), strict=True):
            record = record_of(each.session, found)
            assert (record.alive, record.nodes, record.token, record.reliability) == (True, 1, need, 1.0)
            assert (len(record.id), record.found_by) == (56, ["processes"])
            assert record.ray_version and record.python_version
            for kind, endpoint in ((Kind.gcs, each.gcs), (Kind.dashboard, each.dashboard), (Kind.client, each.client)):
                assert record.first(kind) == str(endpoint)
        assert found.seconds < 4 * PATIENT

    def test_three_clusters_at_once(self, heads: tuple[Head, Head]) -> None:
        with head() as third:
            found = search()
            three = (*heads, third)
            records = [record_of(each.session, found) for each in three]
            assert [record.first(Kind.gcs) for record in records] == [str(each.gcs) for each in three]
            assert all(record.alive and record.nodes == 1 for record in records)
            assert len({record.id for record in records}) == 3

    def test_by_the_files_of_a_given_temp_dir(self, heads: tuple[Head, Head]) -> None:
        record = record_of(heads[0].session, search(temp_dirs=[each.temp_dir for each in heads]))
        assert (record.alive, record.found_by) == (True, ["processes", "files"])

    def test_as_the_library_call(self, heads: tuple[Head, Head]) -> None:
        sessions = [record.session for record in discover(timeout=PATIENT)]
        assert all(sessions.count(each.session) == 1 for each in heads)

    def test_each_protocol_with_no_a_wrong_and_the_right_token(self, heads: tuple[Head, Head]) -> None:
        guarded = heads[1]
        for endpoint, speaks in (
            (guarded.gcs, Speaks.gcs),
            (guarded.dashboard, Speaks.dashboard),
            (guarded.client, Speaks.client),
        ):
            without, wrong, right = seen(endpoint), seen(endpoint, "f" * 32), seen(endpoint, TOKEN)
            assert [without.speaks, wrong.speaks, right.speaks] == [speaks] * 3
            assert [without.token, wrong.token, right.token] == [TokenNeed.needed, TokenNeed.refused, TokenNeed.needed]
            assert [without.is_named, wrong.is_named, right.is_named] == [False, False, True]

    def test_a_wrong_token_is_told_and_the_cluster_known_by_its_processes(self, heads: tuple[Head, Head]) -> None:
        record = record_of(heads[1].session, search(token="f" * 32))
        assert (record.alive, record.token) == (True, TokenNeed.refused)
        assert "the token that was given is not this cluster's" in record.notes

    def test_ports_of_a_node_that_are_no_way_in(self, heads: tuple[Head, Head]) -> None:
        node_manager = Endpoint("127.0.0.1", heads[0].base + 7)
        assert seen(node_manager).speaks is Speaks.unknown

    def test_a_head_that_hangs_is_no_cluster_until_it_goes_on(self, heads: tuple[Head, Head]) -> None:
        plain = heads[0]
        gcs = plain.gcs_process
        gcs.send_signal(signal.SIGSTOP)
        try:
            record = record_of(plain.session, search(timeout=2.0))
        finally:
            gcs.send_signal(signal.SIGCONT)
        assert not record.alive
        assert record.stale
        plain.await_answers()
        assert record_of(plain.session, search()).alive

    def test_a_killed_cluster_is_a_leftover_and_the_other_one_lives(self, heads: tuple[Head, Head]) -> None:
        """The last test: it ends the first cluster."""
        plain, guarded = heads
        session = plain.session
        plain.kill()
        found = search(temp_dirs=[plain.temp_dir])
        record = record_of(session, found)
        assert (record.alive, record.found_by, record.addresses) == (False, ["files"], {})
        assert record.stale and record.stale.startswith(f"no process of it runs here; nothing listens at {plain.gcs}")
        assert record.notes == [f"its files: {plain.temp_dir / session}"]
        assert record_of(guarded.session, found).alive
