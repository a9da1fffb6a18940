"""A place where something may answer: host and port."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit


class Endpoint(NamedTuple):
    """A host (name or IP address, IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (self.ip is not None and self.ip.is_loopback)


def parse_endpoint(text: str) -> Endpoint | None:
    """The endpoint in `host:port`, `[v6]:port` or a URL of any scheme; None where there is none."""
    try:
        parts = urlsplit(text.strip() if "://" in text else f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return Endpoint(host, port) if host and port else None
