"""The types of single values in config.yaml, each with its own words for what is wrong and what would be right."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from ws.config.memory import parse_memory

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
NODE_KEY_PATTERN = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"

_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_ADDRESS = re.compile(rf"{_HOSTNAME.pattern}:(?P<port>[0-9]{{1,5}})")
_URL = re.compile(rf"http://{_ADDRESS.pattern}/?")
_NODE_KEY = re.compile(NODE_KEY_PATTERN)
_PROJECT = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DOCKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|(^|_)(TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY)$", re.IGNORECASE)
_PLACE_OF_SECRET = re.compile(r"_(FILE|PATH|DIR)$", re.IGNORECASE)

# What the node agent is told through its environment; a user's value would make it disagree with the plan.
_AGENT_SETTINGS = frozenset(
    {
        "HEAD_WHITELIST",
        "HEALTH_URL",
        "HEALTH_TIMEOUT",
        "HEALTH_MAX_RETRIES",
        "HEALTH_RETRY_INTERVAL",
        "LEASE_TTL",
        "HEAD_ADDRESS_CFG",
        "DISCOVERY_TIMEOUT",
        "WAIT_FOR_HEAD",
        "RAY_HEAD_PORT",
        "RAY_DASHBOARD_PORT",
        "RAY_CLIENT_PORT",
        "RAY_NUM_CPUS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
    }
)


def shown(value: object) -> str:
    """A value for people: short, printable, and never one that may hold a password (`user:password@host`)."""
    text = str(value)
    if "@" in text:
        return "this value"
    return ascii(text[:60] + "…") if len(text) > 60 else ascii(text)


def looks_secret(name: str) -> bool:
    """Whether an environment variable's name is that of a secret."""
    return bool(_SECRET.search(name)) and not _PLACE_OF_SECRET.search(name)


def wrong(what: str, mend: str) -> PydanticCustomError:
    return PydanticCustomError("plain", "{what}", {"what": what, "mend": mend})


def _match(pattern: re.Pattern[str], what: str, mend: str, longest: int = 255) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > longest or not pattern.fullmatch(value):
            raise wrong(f"{shown(value)} is not {what}", mend)
        return value

    return AfterValidator(check)


def parse_ipv4(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except AddressValueError:
        return None


def _memory_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_memory(value: str) -> str:
    try:
        size = parse_memory(value)
    except ValueError:
        raise wrong(f"{shown(value)} is not a memory size", "write a number with b, k, m or g, such as 512m or 8g") from None
    if not 1024**2 <= size <= 1024**5:
        raise wrong(f"{shown(value)} is out of range", "write a size from 1m to 1048576g")
    return value


def _check_subnet(value: str) -> str:
    if ":" in value:
        raise wrong(f"{shown(value)} is IPv6; the networks here are IPv4", "write one such as 172.28.0.0/16")
    if "/" not in value:
        raise wrong(f"{shown(value)} has no prefix length", "write one such as 172.28.0.0/16")
    try:
        network = IPv4Network(value, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        raise wrong(f"{shown(value)} is not a subnet", "write one such as 172.28.0.0/16") from None
    if str(network.network_address) != value.partition("/")[0]:
        raise wrong(f"{shown(value)} is an address within a subnet, not the subnet", f"write {network}")
    if network.is_loopback or network.is_multicast or network.is_reserved or network.is_unspecified:
        raise wrong(f"{shown(value)} cannot be a container network", "write one such as 172.28.0.0/16")
    return value


def _check_host_address(value: str) -> str:
    address = parse_ipv4(value)
    if value != "auto" and address is None:
        raise wrong(f"{shown(value)} is not an IPv4 address", "write auto, or an address such as 172.17.0.1")
    if address is not None and (address.is_loopback or address.is_unspecified):
        raise wrong(
            f"{shown(value)} means the container itself when used within one",
            "write auto, or an address of this host that containers reach",
        )
    return value


def _check_gpu(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):
        raise wrong("must be auto, true or false", "write auto to use GPUs where there are any")
    return value


def _check_target(*words: str) -> AfterValidator:
    choices = ", ".join(words)

    def check(value: str) -> str:
        if value not in words and parse_ipv4(value) is None:
            raise wrong(f"{shown(value)} is not an address to publish on", f"write {choices} or an IPv4 address")
        return value

    return AfterValidator(check)


def _check_head_address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise wrong(f"{shown(value)} is not host:port", "write one such as ray-cpu:6379")
    return value


def _check_health_url(value: str) -> str:
    mend = "write http://host:port, such as http://health:8080"
    match = _URL.fullmatch(value)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise wrong(f"{shown(value)} is not http://host:port", mend)
    return value


def _check_volume(value: str) -> str:
    parts = value.split(":")
    fits = len(parts) in (2, 3) and all(parts) and parts[1].startswith("/") and value.isprintable()
    if not fits:
        raise wrong(f"{shown(value)} is not source:target[:mode]", "write one such as ./data:/data:ro")
    return value


def _check_root(value: str) -> str:
    mend = "write one such as /data, or ~/data in the home of the node's user"
    if not value.startswith("/") and value != "~" and not value.startswith("~/"):
        raise wrong(f"{shown(value)} is not an absolute path", mend)
    if ":" in value or ".." in value.split("/") or not value.isprintable():
        raise wrong(f"{shown(value)} is not a path that nodes can be told: it has a colon, .. or a control character", mend)
    return value


def _check_env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise wrong("is not a name of an environment variable", "use letters, digits and _ only")
    if value in _AGENT_SETTINGS or value.startswith("WS_"):
        raise wrong("is set for every node from the rest of this file", "remove it here")
    return value


def _check_env_value(value: str) -> str:
    if "\0" in value:
        raise wrong("holds a NUL character", "remove it")
    return value


def _check_node_key(value: str) -> str:
    if not _NODE_KEY.fullmatch(value) or len(value) > 40:
        raise wrong(
            "is not a name for a node",
            "use up to 40 small letters, digits and single hyphens, such as cpu or big-gpu",
        )
    return value


Port = Annotated[int, Field(strict=True, ge=1024, le=65535)]
"""A port of Ray, which refuses those below 1024."""
AnyPort = Annotated[int, Field(strict=True, ge=1, le=65535)]
Seconds = Annotated[float, Field(strict=True, gt=0, le=3600, allow_inf_nan=False)]
Memory = Annotated[
    str,
    BeforeValidator(_memory_as_text),
    AfterValidator(_check_memory),
    WithJsonSchema({"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)? ?(b|B|[kmgKMG][bB]?)?$"}),
]
Subnet = Annotated[str, AfterValidator(_check_subnet)]
HostAddress = Annotated[str, AfterValidator(_check_host_address)]
Gpu = Annotated[Literal["auto"] | bool, BeforeValidator(_check_gpu)]
EntryTarget = Annotated[str, _check_target("loopback", "gateway")]
BlockTarget = Annotated[str, _check_target("gateway", "loopback", "none")]
HeadAddress = Annotated[str, AfterValidator(_check_head_address)]
HealthUrl = Annotated[str, AfterValidator(_check_health_url)]
HostName = Annotated[str, _match(_HOSTNAME, "a hostname", "use letters, digits, hyphens and dots, such as ray-cpu", 63)]
ProjectName = Annotated[
    str,
    _match(
        _PROJECT,
        "a Compose project name",
        "use small letters, digits, - and _, starting with a letter or digit",
        63,
    ),
]
NetworkName = Annotated[
    str, _match(_DOCKER_NAME, "a network name", "use letters, digits, - _ and ., such as ray-network", 63)
]
Image = Annotated[str, _match(_IMAGE, "an image name", "write one such as my-ray:1.0")]
Volume = Annotated[str, AfterValidator(_check_volume)]
Root = Annotated[str, AfterValidator(_check_root), WithJsonSchema({"type": "string", "pattern": r"^(/|~$|~/)[^:]*$"})]
"""A folder of a node; several are told with a colon between them."""
Roots = Annotated[tuple[Root, ...], Field(max_length=32)]
NodeKey = Annotated[str, AfterValidator(_check_node_key)]
Environment = Annotated[
    dict[
        Annotated[str, AfterValidator(_check_env_name)],
        Annotated[str, AfterValidator(_check_env_value), WithJsonSchema({"type": ["string", "number", "boolean"]})],
    ],
    Field(max_length=200),
]
