"""What a node agent is told: its environment, read once and checked.

The variables are the contract between the engines and the agent; `docs/networking.md` lists them.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ws.node.secret import Secret


class SettingsError(Exception):
    """An environment variable is missing or can't be understood; the text names it and what would be right."""


@dataclass(frozen=True)
class Candidate:
    """A node of the whitelist and where it is reached.

    `address` is a host name or IP without a port; the ports are those of its entries and of its agent.
    """

    name: str
    address: str
    head_port: int
    dashboard_port: int
    client_port: int
    agent_port: int

    @property
    def head_address(self) -> str:
        return f"{self.address}:{self.head_port}"

    @property
    def agent_url(self) -> str:
        return f"http://{self.address}:{self.agent_port}"


@dataclass(frozen=True)
class Settings:
    """Everything that the agent decides by. Times are seconds, sizes bytes; 0 or "" stands for "not given".

    `health_patience` is how long the health server may be silent at the start before it counts as down.
    """

    name: str
    address: str
    whitelist: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    ports: Mapping[str, int]
    worker_ports: tuple[int, int] | None
    health_url: str
    health_timeout: float
    health_patience: float
    health_max_retries: int
    health_retry_interval: float
    lease_ttl: float
    head_address: str
    head_address_cfg: str
    discovery_timeout: float
    wait_for_head: float
    head_port: int
    dashboard_port: int
    client_port: int
    dashboard_host: str
    bind_host: str
    num_cpus: int
    num_gpus: int
    memory: int
    object_store_memory: int
    token_path: str
    temp_dir: str

    @property
    def is_candidate(self) -> bool:
        return self.name in self.whitelist

    @property
    def me(self) -> Candidate | None:
        return next((candidate for candidate in self.candidates if candidate.name == self.name), None)

    def token(self) -> Secret:
        """The cluster's token, empty where authentication is off."""
        if not self.token_path:
            return Secret()
        try:
            with open(self.token_path, encoding="utf-8") as file:
                token = file.read().strip()
        except OSError as error:
            raise SettingsError(f"RAY_AUTH_TOKEN_PATH={self.token_path} can't be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise SettingsError(f"RAY_AUTH_TOKEN_PATH={self.token_path} is no text") from None
        if not token:
            raise SettingsError(f"RAY_AUTH_TOKEN_PATH={self.token_path} is empty")
        return Secret(token)


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str, default: str = "") -> str:
        return self.environ.get(name, "").strip() or default

    def number(self, name: str, default: float) -> float:
        raw = self.text(name)
        try:
            value = float(raw) if raw else default
        except ValueError:
            raise SettingsError(f"{name}={raw!r} is not a number of seconds; for example {name}={default:g}") from None
        if not 0 <= value < 1e15:
            raise SettingsError(f"{name}={raw!r} is out of range; for example {name}={default:g}")
        return value

    def above_zero(self, name: str, default: float) -> float:
        value = self.number(name, default)
        if not value:
            raise SettingsError(f"{name}={self.text(name)!r} must be above 0; for example {name}={default:g}")
        return value

    def whole(self, name: str, default: int) -> int:
        raw = self.text(name)
        if raw and not _is_whole(raw):
            raise SettingsError(f"{name}={raw!r} is not a whole number; for example {name}={default}")
        return int(raw) if raw else default

    def port(self, name: str, default: int) -> int:
        value = self.whole(name, default)
        if not _is_port(value):
            raise SettingsError(f"{name}={value} is not a port; ports go from 1 to 65535")
        return value


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the agent's settings from environment variables; raises SettingsError for the first that is wrong."""
    read = _Reader(environ)
    name = read.text("WS_NODE_NAME", socket.gethostname())
    ports, worker_ports = _read_ports(read.text("WS_NODE_PORTS"))
    health_timeout = read.above_zero("HEALTH_TIMEOUT", 1)
    retries, interval = read.whole("HEALTH_MAX_RETRIES", 3), read.number("HEALTH_RETRY_INTERVAL", 1)
    return Settings(
        name=name,
        address=read.text("WS_NODE_ADDRESS", name),
        whitelist=tuple(part.strip() for part in read.text("HEAD_WHITELIST").split(",") if part.strip()),
        candidates=_read_candidates(read.text("WS_CANDIDATES", "[]")),
        ports=ports,
        worker_ports=worker_ports,
        health_url=read.text("HEALTH_URL").rstrip("/"),
        health_timeout=health_timeout,
        health_patience=retries * (health_timeout + interval),
        health_max_retries=max(1, retries),
        health_retry_interval=interval,
        lease_ttl=read.above_zero("LEASE_TTL", 10),
        head_address=_read_address(read, "HEAD_ADDRESS"),
        head_address_cfg=_read_address(read, "HEAD_ADDRESS_CFG"),
        discovery_timeout=read.number("DISCOVERY_TIMEOUT", 30),
        wait_for_head=read.number("WAIT_FOR_HEAD", 120),
        head_port=read.port("RAY_HEAD_PORT", 6379),
        dashboard_port=read.port("RAY_DASHBOARD_PORT", 8265),
        client_port=read.port("RAY_CLIENT_PORT", 10001),
        dashboard_host=read.text("WS_DASHBOARD_HOST", "0.0.0.0"),
        bind_host=read.text("WS_BIND_HOST", "0.0.0.0"),
        num_cpus=read.whole("RAY_NUM_CPUS", 1),
        num_gpus=read.whole("WS_NUM_GPUS", 0),
        memory=read.whole("WS_MEMORY", 0),
        object_store_memory=read.whole("WS_OBJECT_STORE_MEMORY", 0),
        token_path=read.text("RAY_AUTH_TOKEN_PATH"),
        temp_dir=read.text("WS_TEMP_DIR"),
    )


def _read_address(read: _Reader, name: str) -> str:
    value = read.text(name)
    host, colon, port = value.rpartition(":")
    if value and not (colon and host and _is_whole(port) and _is_port(int(port))):
        raise SettingsError(f"{name}={value!r} is not host:port; for example {name}=ray-cpu:6379")
    return value


def _read_ports(text: str) -> tuple[dict[str, int], tuple[int, int] | None]:
    """Parse WS_NODE_PORTS, `name=port,…,workers=first-last`."""
    ports: dict[str, int] = {}
    workers: tuple[int, int] | None = None
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        try:
            if name == "workers":
                first, last = value.split("-")
                workers = (_port(first), _port(last))
            else:
                ports[name] = _port(value)
        except ValueError:
            raise SettingsError(f"WS_NODE_PORTS has {part!r}; expected name=port or workers=first-last") from None
    return ports, workers


def _read_candidates(text: str) -> tuple[Candidate, ...]:
    try:
        return tuple(_read_candidate(entry) for entry in json.loads(text))
    except (ValueError, TypeError) as error:
        raise SettingsError(f"WS_CANDIDATES is not a JSON list of candidates ({error})") from None


def _read_candidate(entry: Mapping[str, Any]) -> Candidate:
    candidate = Candidate(**entry)
    for name, value in vars(candidate).items():
        right = _is_port(value) if name.endswith("_port") else isinstance(value, str) and value
        if not right:
            raise ValueError(f"{name} is {value!r}")
    return candidate


def _port(text: str) -> int:
    if not _is_port(int(text)):
        raise ValueError(text)
    return int(text)


def _is_port(value: object) -> bool:
    return isinstance(value, int) and 1 <= value <= 65535


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()
