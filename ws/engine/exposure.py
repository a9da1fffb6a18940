"""Who can reach what the config publishes."""

from __future__ import annotations

import ipaddress

from ws.config.models import Config
from ws.engine.render import DEFAULT_GATEWAY, GATEWAY, address_of


def warnings(config: Config) -> list[str]:
    """One line for each address beyond loopback and the bridge gateway that the config opens."""
    return [
        f"{' and '.join(what)} are published on {_place(address)}: whoever reaches that and has the token can run code "
        "on the cluster; the traffic is not encrypted"
        for address, what in _opened(config).items()
    ]


def _opened(config: Config) -> dict[str, list[str]]:
    network = config.network
    opened: dict[str, list[str]] = {}
    entries = {address_of(config, place) for place in network.publish_entries}
    blocks = set() if network.publish_blocks == "none" else {address_of(config, str(network.publish_blocks))}
    for addresses, what in ((entries, "entries (head, dashboard, Ray Client, health)"), (blocks, "port blocks")):
        for address in sorted(addresses):
            if not _private(address):
                opened.setdefault(address, []).append(what)
    return opened


def _private(address: str) -> bool:
    """Whether this machine and its containers alone reach it; `gateway` may be another address, host.ip_address."""
    return address in (GATEWAY, DEFAULT_GATEWAY) or ipaddress.ip_address(address).is_loopback


def _place(address: str) -> str:
    return "every address of this machine" if ipaddress.ip_address(address).is_unspecified else address
