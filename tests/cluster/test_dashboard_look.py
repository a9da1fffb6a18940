"""Looks by the dashboard, from answers as Ray 2.60 gives them, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.fake_engine import answering
from ws.cluster.dashboard import NoDashboard, TokenRefused
from ws.cluster.look import DashboardSource, Identity
from ws.cluster.nodes import Actor
from ws.errors import EnvironmentProblem


def listed(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"result": True, "data": {"result": {"result": list(rows)}}}


def node(node_id: str, *, alive: bool = True, head: bool = False) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "node_name": f"name-{node_id}",
        "node_ip": "10.0.0.7",
        "state": "ALIVE" if alive else "DEAD",
        "is_head_node": head,
        "resources_total": {"CPU": 4.0, "object_store_memory": 100.0, "my_own_resource": 2.0} if alive else {},
        "labels": {"ray.io/node-id": node_id},
    }


def answers(*rows: dict[str, Any]) -> dict[str, Any]:
    usage = {"CPU": [1.5, 4.0], "objectStoreMemory": [40.0, 100.0]}
    raylets = [
        {"raylet": {"nodeId": row["node_id"], "nodeManagerHostname": "machine", "nodeManagerPort": 7000}} for row in rows
    ]
    actor = {"actor_id": "a1", "class_name": "m.CastingNode", "name": None, "ray_namespace": "n", "node_id": "head"}
    return {
        "/api/version": {"version": "4", "ray_version": "2.60.0", "session_name": "session_1"},
        "/api/v0/cluster_metadata": {"result": True, "data": {"rayVersion": "2.60.0", "pythonVersion": "3.11.7"}},
        "/api/gcs_healthz": b"success",
        "/api/v0/nodes": listed(*rows),
        "/api/v0/actors": listed(actor),
        "/nodes": {"result": True, "data": {"summary": [*raylets, {"raylet": {}}]}},
        "/api/cluster_status": {"data": {"clusterStatus": {"loadMetricsReport": {"usageByNode": {"head": usage}}}}},
    }


def test_a_look_shows_all_that_the_dashboard_knows() -> None:
    with answering(answers(node("head", head=True), node("old", alive=False)), "secret") as url:
        source = DashboardSource(url, "secret")
        seen = source.look()
        source.close()
    assert source.where == url
    assert seen.cluster == Identity("session_1", "2.60.0", "3.11.7")
    assert seen.actors == (Actor("a1", "m.CastingNode", "", "n", "head"),)
    head, old = seen.nodes
    assert (head.name, head.address, head.alive, head.head, head.hostname) == (
        "name-head",
        "10.0.0.7",
        True,
        True,
        "machine",
    )
    assert head.endpoint == ("10.0.0.7", 7000)
    assert head.free == {"CPU": 2.5, "object_store_memory": 60.0, "my_own_resource": 2.0}
    assert head.labels == {"ray.io/node-id": "head"}
    assert (old.alive, old.free) == (False, None)


def test_where_a_node_runs_is_asked_only_when_a_node_is_new() -> None:
    there = answers(node("head", head=True))
    with answering(there) as url:
        source = DashboardSource(url, "")
        source.look()
        del there["/nodes"]
        assert source.look().nodes[0].port == 7000
        there["/api/v0/nodes"] = listed(node("head", head=True), node("new"))
        assert [each.port for each in source.look().nodes] == [7000, None]
        source.close()


def test_a_new_session_is_another_identity() -> None:
    there = answers(node("head", head=True))
    with answering(there) as url:
        source = DashboardSource(url, "")
        assert source.look().cluster.session == "session_1"
        there["/api/version"] = {"ray_version": "2.61.0", "session_name": "session_2"}
        assert source.look().cluster == Identity("session_2", "2.61.0", "3.11.7")
        source.close()


@pytest.mark.parametrize("path", ["/api/v0/actors", "/api/cluster_status", "/nodes", "/api/v0/cluster_metadata"])
def test_what_a_busy_or_older_head_does_not_tell_is_unknown_and_no_failure(path: str) -> None:
    with answering({**answers(node("head", head=True)), path: 500}) as url:
        source = DashboardSource(url, "")
        seen = source.look()
        source.close()
    assert [each.node_id for each in seen.nodes] == ["head"]
    unknown = {
        "/api/v0/actors": seen.actors is None,
        "/api/cluster_status": seen.nodes[0].free is None,
        "/nodes": seen.nodes[0].port is None,
        "/api/v0/cluster_metadata": seen.cluster.python_version == "",
    }
    assert [key for key, missing in unknown.items() if missing] == [path]


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"/api/version": 401}, TokenRefused),
        ({"/api/version": 404}, NoDashboard),
        ({"/api/version": b"<html>"}, NoDashboard),
        ({"/api/version": {"hello": "there"}}, NoDashboard),
        ({"/api/v0/nodes": {"data": {"result": {"result": [{}]}}}}, NoDashboard),
        ({"/api/v0/nodes": 500}, EnvironmentProblem),
    ],
)
def test_a_look_that_fails_says_how(change: dict[str, Any], kind: type[EnvironmentProblem]) -> None:
    with answering({**answers(node("head")), **change}) as url:
        source = DashboardSource(url, "")
        with pytest.raises(kind) as caught:
            source.look()
        source.close()
    assert type(caught.value) is kind
