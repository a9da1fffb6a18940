"""Hints and sightings made by hand; the rules by which they become clusters."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ws.cluster.endpoint import Endpoint
from ws.cluster.hints import Hint, Way
from ws.cluster.merge import merge
from ws.cluster.protocol import RAY, Sighting, Speaks
from ws.cluster.records import ClusterRecord, Kind, TokenNeed

ONE, TWO = "1a" * 28, "2b" * 28
NODE, NODE2 = "0c" * 28, "0d" * 28
S1, S2 = "session_2026-11-21_10-00-00_000001_1", "session_2026-11-21_11-00-00_000001_2"
HERE = "127.0.0.1"


def gcs(port: int, cluster: str | None = ONE, session: str | None = S1, host: str = HERE, **more: Any) -> Sighting:
    told = {"nodes": 2, "ray_version": "2.60.0", "node_ids": frozenset({NODE})} if cluster == ONE else {}
    return Sighting(Endpoint(host, port), Speaks.gcs, cluster_id=cluster, session=session, **{**told, **more})


def dashboard(port: int, session: str | None = S1, host: str = HERE, **more: Any) -> Sighting:
    return Sighting(Endpoint(host, port), Speaks.dashboard, session=session, **more)


def client(port: int, *node_ids: str, host: str = HERE, **more: Any) -> Sighting:
    return Sighting(Endpoint(host, port), Speaks.client, node_ids=frozenset(node_ids), **more)


def merged(hints: list[Hint], *sightings: Sighting) -> list[ClusterRecord]:
    return merge(hints, {sighting.endpoint: sighting for sighting in sightings})


def at(*ports: int, host: str = HERE) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(host, port) for port in ports)


def test_nothing_is_nothing() -> None:
    assert merged([Hint(Way.ports, at(8265, 6379))], Sighting(Endpoint(HERE, 6379), Speaks.closed)) == []
    assert merged([Hint(Way.ports, at(8265))], Sighting(Endpoint(HERE, 8265), Speaks.http)) == []


def test_one_cluster_by_its_id_session_and_nodes_whatever_its_addresses() -> None:
    (record,) = merged(
        [Hint(Way.ports, at(6379, 8265, 10001))],
        gcs(6379),
        gcs(6379, host="192.0.2.2"),
        dashboard(8265),
        client(10001, NODE),
    )
    assert (record.id, record.session, record.nodes, record.ray_version) == (ONE, S1, 2, "2.60.0")
    assert record.addresses == {
        Kind.gcs: ["127.0.0.1:6379", "192.0.2.2:6379"],
        Kind.dashboard: ["127.0.0.1:8265"],
        Kind.client: ["127.0.0.1:10001"],
    }
    assert (record.alive, record.stale, record.found_by, record.reliability) == (True, None, ["ports"], 1.0)


def test_two_clusters_on_neighbouring_ports_stay_two() -> None:
    found = merged([], gcs(6379), gcs(6380, TWO, S2), dashboard(8265, S2), dashboard(8266, S1), client(10001, NODE))
    addresses = {record.id: record.addresses for record in found}
    assert addresses[ONE][Kind.dashboard] == ["127.0.0.1:8266"]
    assert addresses[TWO] == {Kind.gcs: ["127.0.0.1:6380"], Kind.dashboard: ["127.0.0.1:8265"]}


def test_a_process_tells_whose_a_port_is_that_says_nothing_without_a_token() -> None:
    shut = {"token": TokenNeed.needed}
    (record,) = merged(
        [
            Hint(Way.processes, at(6379), session=S1, node_id=NODE, runs=True, claims=True),
            Hint(Way.processes, at(8265), session=S1, cluster_id=ONE, claims=True),
            Hint(Way.processes, at(10001), node_id=NODE, claims=True),
        ],
        gcs(6379, None, None, **shut),
        dashboard(8265, None, **shut),
        client(10001, **shut),
    )
    assert (record.id, record.session, record.token) == (ONE, S1, TokenNeed.needed)
    assert set(record.addresses) == set(Kind)
    assert record.reliability < 1


def test_a_file_does_not_tell_whose_a_port_is() -> None:
    """The cluster that left the file is dead, and another one took its port."""
    alive, stale = merged(
        [Hint(Way.files, at(6379), session=S1), Hint(Way.ports, at(6379))], gcs(6379, None, None, token=TokenNeed.needed)
    )
    assert (alive.id, alive.found_by) == ("127.0.0.1:6379", ["ports"])
    assert (stale.session, stale.alive) == (S1, False)
    assert stale.stale == "no process of it runs here; 127.0.0.1:6379 asks for a token"


def test_strangers_of_one_host_are_one_cluster_if_they_may_be() -> None:
    shut = {"token": TokenNeed.needed, "host": "far"}
    (record,) = merged([], gcs(6379, None, None, **shut), dashboard(8265, None, **shut), client(10001, **shut))
    assert (record.id, set(record.addresses)) == ("far:6379", set(Kind))
    found = merged([], gcs(6379, None, None, **shut), dashboard(8265, None, **shut), dashboard(8266, None, **shut))
    assert len(found) == 3
    found = merged([], gcs(6379, None, None, **shut), dashboard(8265, None, **{**shut, "host": "near"}))
    assert len(found) == 2


def test_a_stale_session_folder_is_no_cluster() -> None:
    folder = Path("/tmp/ray") / S1
    closed = Sighting(Endpoint(HERE, 6379), Speaks.closed)
    (record,) = merged([Hint(Way.files, at(6379), session=S1, folder=folder)], closed)
    assert (record.id, record.alive, record.reliability, record.found_by) == (S1, False, 0.0, ["files"])
    assert record.stale == "no process of it runs here; nothing listens at 127.0.0.1:6379"
    assert record.notes == [f"its files: {folder}"]


def test_a_session_whose_port_another_cluster_has_taken() -> None:
    alive, stale = merged([Hint(Way.files, at(6379), session=S2)], gcs(6379))
    assert (alive.id, stale.id) == (ONE, S2)
    assert stale.stale == "no process of it runs here; another cluster answers at 127.0.0.1:6379"


def test_the_current_cluster_and_its_session_are_one_leftover() -> None:
    hints = [
        Hint(Way.files, at(6379), session=S1, folder=Path("/tmp/ray") / S1),
        Hint(Way.files, at(6379, host="192.0.2.2"), session=S1),
    ]
    (record,) = merged(hints)
    assert record.stale == (
        "no process of it runs here; nothing listens at 127.0.0.1:6379, nothing listens at 192.0.2.2:6379"
    )


def test_a_head_that_hangs() -> None:
    silent = Sighting(Endpoint(HERE, 6379), Speaks.silent)
    hint = Hint(Way.processes, at(6379), session=S1, runs=True, claims=True, place="gcs_server, process 7")
    (record,) = merged([hint], silent)
    assert record.stale == "gcs_server, process 7 still runs; 127.0.0.1:6379 accepts connections and does not answer"


def test_workers_whose_head_is_gone() -> None:
    hint = Hint(Way.processes, at(6379, host="far"), cluster_id=ONE, runs=True, claims=True, place="raylet, process 7")
    (record,) = merged([hint])
    assert (record.id, record.alive) == (ONE, False)
    assert record.stale == "raylet, process 7 still runs; nothing listens at far:6379"


def test_a_dashboard_that_has_lost_its_gcs_is_no_cluster() -> None:
    (record,) = merged([], dashboard(8265, healthy=False))
    assert (record.alive, record.addresses) == (False, {})
    assert record.stale == "its dashboard still answers at 127.0.0.1:8265, its GCS does not"


def test_one_in_a_container_that_publishes_nothing_is_told_as_such() -> None:
    (record,) = merged([Hint(Way.processes, session=S1, runs=True, claims=False)])
    assert (record.id, record.alive, record.addresses) == (S1, True, {})
    assert record.notes == ["it runs in a container of this machine, and no address that leads in was found"]


def test_a_process_that_tells_no_name_and_answers_nowhere_is_left_out() -> None:
    assert merged([Hint(Way.processes, at(10001), claims=True)]) == []


def test_a_ray_address_that_leads_nowhere_is_told() -> None:
    (record,) = merged([Hint(Way.address, at(6379, host="far"))])
    assert (record.id, record.found_by, record.alive) == ("far:6379", ["RAY_ADDRESS"], False)


def test_a_refused_token_is_noted() -> None:
    (record,) = merged([], gcs(6379, None, None, token=TokenNeed.refused), dashboard(8265, None, token=TokenNeed.needed))
    assert record.token is TokenNeed.refused
    assert record.notes == ["the token that was given is not this cluster's"]


def test_containers_of_a_project_with_two_heads_do_not_make_two_clusters_one() -> None:
    hint = Hint(Way.containers, at(6379, 6380), runs=True, claims=True)
    assert [record.found_by for record in merged([hint], gcs(6379), gcs(6380, TWO, S2))] == [["containers"], ["containers"]]


def test_the_order_is_that_of_reliability() -> None:
    meant = Hint(Way.address, at(6381))
    found = merged(
        [meant, Hint(Way.files, session="session_2026-01-01_00-00-00_0_0")],
        client(1, host="a"),
        dashboard(8265, "s3", host="b"),
        gcs(6380, "3c" * 28, "s4", host="c"),
        gcs(6381, "4d" * 28, "s5"),
        gcs(6379, None, None, host="e", token=TokenNeed.needed),
    )
    assert found[0].addresses == {Kind.gcs: ["127.0.0.1:6381"]}
    assert [record.reliability for record in found] == [1.0, 1.0, 0.8, 0.8, 0.3, 0.0]


def test_a_record_is_plain_data() -> None:
    (record,) = merged([Hint(Way.ports, at(6379))], gcs(6379, token=TokenNeed.not_needed))
    data = record.as_json()
    assert (data["token"], data["addresses"], data["found_by"]) == ("not needed", {"gcs": ["127.0.0.1:6379"]}, ["ports"])
    assert {type(data["token"]), *map(type, data["found_by"]), *map(type, data["addresses"])} == {str}


ports = st.integers(1, 6)
sightings = st.builds(
    lambda port, speaks, cluster, session, node: Sighting(
        Endpoint(HERE, port), speaks, cluster_id=cluster, session=session, node_ids=frozenset(node)
    ),
    ports,
    st.sampled_from(list(Speaks)),
    st.sampled_from([None, ONE, TWO]),
    st.sampled_from([None, S1, S2]),
    st.sets(st.sampled_from([NODE, NODE2]), max_size=1),
)
hints = st.builds(
    lambda way, found, session, cluster, runs, claims: Hint(way, at(*found), session, cluster, runs=runs, claims=claims),
    st.sampled_from(list(Way)),
    st.lists(ports, max_size=3),
    st.sampled_from([None, S1, S2]),
    st.sampled_from([None, ONE, TWO]),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(hints, max_size=5), st.lists(sightings, max_size=6), st.randoms(use_true_random=False))
def test_whatever_is_found(given_hints: list[Hint], given_sightings: list[Sighting], shuffle: random.Random) -> None:
    """Every healthy address stands in one record; each record is alive or stale; what came first does not matter."""
    seen = {sighting.endpoint: sighting for sighting in given_sightings}
    records = merge(given_hints, seen)
    listed = [address for record in records for found in record.addresses.values() for address in found]
    assert sorted(listed) == sorted(str(sighting.endpoint) for sighting in seen.values() if sighting.speaks in RAY)
    assert all(record.alive is (record.stale is None) for record in records)
    assert [record.alive for record in records] == sorted((record.alive for record in records), reverse=True)
    assert len({record.id for record in records}) == len(records)
    shuffle.shuffle(given_hints)
    again = merge(given_hints, dict(sorted(seen.items(), reverse=True)))
    assert sorted(map(addresses_of, again)) == sorted(map(addresses_of, records))


def addresses_of(record: ClusterRecord) -> list[str]:
    return [address for kind in Kind for address in record.addresses.get(kind, ())]
