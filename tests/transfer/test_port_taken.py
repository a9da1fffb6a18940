"""A node whose transfer port somebody else has: it takes part by another one, and the route tells."""

from __future__ import annotations

from tests.transfer.faulty import FIRST, RECIPIENTS, SENDER, assert_all_have, give, send
from tests.transfer.parties import Cluster
from ws.transfer.events import Event, Planned
from ws.transfer.onnode.serving import Server


def test_a_port_that_is_taken_is_told_for_whoever_it_concerns(cluster: Cluster) -> None:
    content = give(cluster)
    other = Server("127.0.0.1")
    cluster.ports = {FIRST: other.port}
    planned: list[Planned] = []

    def note(event: Event) -> None:
        if isinstance(event, Planned):
            planned.append(event)

    outcome = send(cluster, note)
    other.close()
    assert_all_have(cluster, outcome, content)
    (host, port), *_ = cluster.remotes[FIRST].addresses
    words = f"{FIRST}'s transfer port {other.port} is taken there, it listens at {port}"
    told = {route.recipient: words in route.why for route in planned[0].routes}
    concerned = {route.recipient for route in planned[0].routes if FIRST in route.path[-2:]}
    assert FIRST in concerned
    assert told == {node: node in concerned for node in RECIPIENTS}
    assert cluster.remotes[SENDER].addresses[0][0] == host
