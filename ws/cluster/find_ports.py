"""The sweep: Ray's usual ports, and given ones, on this machine, on given hosts, and on the hosts of a CIDR."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from ws.cluster.endpoint import Endpoint
from ws.errors import UsageError

USUAL_PORTS = (8265, 8266, 8267, 8268, 8269, 6379, 10001)
"""Dashboards (Ray takes the next port where 8265 is taken), GCS, Ray Client."""
MOST_HOSTS = 1024
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")


def sweep(hosts: Sequence[str], ports: Sequence[int]) -> list[Endpoint]:
    """Each port of each host, this machine first; raises UsageError for what is no host."""
    for host in hosts:
        if not _is_host(host):
            raise UsageError(f"{host!r} is no host", mend="give a name or an IP address alone, and its port by --port")
    wanted = dict.fromkeys([*ports, *USUAL_PORTS])
    return [Endpoint(host, port) for host in dict.fromkeys(["127.0.0.1", *hosts]) for port in wanted]


def _is_host(text: str) -> bool:
    endpoint = Endpoint(text, 0)
    return endpoint.ip is not None or _NAME.fullmatch(text) is not None


def hosts_of(cidrs: Iterable[str]) -> list[str]:
    """The hosts of networks such as 10.0.0.0/24, each once.

    Raises UsageError for what is no network, and for more than `MOST_HOSTS` hosts in all: before any of them is asked.
    """
    found: dict[str, None] = {}
    for cidr in cidrs:
        try:
            network = ipaddress.ip_network(cidr, strict=False)
        except ValueError as error:
            raise UsageError(f"{cidr!r} is no network", str(error), "write it as 10.0.0.0/24") from None
        if network.num_addresses + len(found) > MOST_HOSTS:
            raise UsageError(
                f"{cidr} has {network.num_addresses} addresses: too many to ask each",
                f"a scan asks {MOST_HOSTS} hosts at most",
                "give a smaller network, or the hosts by --host",
            )
        found.update(dict.fromkeys(str(host) for host in network.hosts()))
    return list(found)
