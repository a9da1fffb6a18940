"""By which hosts nodes may be reached from here."""

from __future__ import annotations

from ws.transfer.entrance import Entrance


def test_this_machines_own_addresses_count_where_the_cluster_is_entered_here() -> None:
    gateways = Entrance("ray://127.0.0.1:10001", wants_token=False).gateways()
    assert gateways[0] == "127.0.0.1"
    assert len(set(gateways)) == len(gateways)
    assert Entrance("ray://localhost:10001", wants_token=False).gateways()[1:] == gateways


def test_another_host_stands_for_itself_alone() -> None:
    assert Entrance("ray://head.example:10001", wants_token=True).gateways() == ("head.example",)
    assert Entrance("[2001:db8::1]:6379", wants_token=True).gateways() == ("2001:db8::1",)
