"""Who can reach what the config publishes."""

from __future__ import annotations

from ws.config.models import Config

_PRIVATE = ("loopback", "gateway", "none", "127.0.0.1")


def warnings(config: Config) -> list[str]:
    """One line for each address beyond loopback and the bridge gateway that the config opens."""
    network = config.network
    opened: dict[str, list[str]] = {}
    for place in network.publish_entries:
        opened.setdefault(str(place), []).append("entries (head, dashboard, Ray Client, health)")
    opened.setdefault(str(network.publish_blocks), []).append("port blocks")
    return [
        f"{' and '.join(what)} are published on {place}: whoever reaches that address and has the token can run code "
        "on the cluster; the traffic is not encrypted"
        for place, what in opened.items()
        if place not in _PRIVATE
    ]
