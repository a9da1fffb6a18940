"""What an agent reads from its environment, and what it says of a variable that is wrong."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.projects import make_project
from ws.engine.environment import node_environment
from ws.node.secret import Secret
from ws.node.settings import Candidate, SettingsError, read_settings

CPU = {
    "name": "ray-cpu",
    "address": "host.of.it",
    "head_port": 6379,
    "dashboard_port": 8265,
    "client_port": 10001,
    "agent_port": 31007,
}


def test_without_variables_there_are_defaults() -> None:
    settings = read_settings({})
    assert settings.name == settings.address == socket.gethostname()
    assert (settings.whitelist, settings.candidates, settings.ports, settings.worker_ports) == ((), (), {}, None)
    assert (settings.head_port, settings.dashboard_port, settings.client_port) == (6379, 8265, 10001)
    assert (settings.lease_ttl, settings.health_timeout, settings.health_patience) == (10, 1, 6)
    assert (settings.discovery_timeout, settings.wait_for_head) == (30, 120)
    assert (settings.num_cpus, settings.num_gpus, settings.memory, settings.object_store_memory) == (1, 0, 0, 0)
    assert (settings.health_url, settings.head_address, settings.head_address_cfg, settings.temp_dir) == ("",) * 4
    assert (settings.bind_host, settings.dashboard_host) == ("0.0.0.0", "0.0.0.0")
    assert not settings.is_candidate
    assert settings.me is None
    assert settings.token() == Secret("")


def test_an_empty_variable_is_one_that_is_not_given() -> None:
    names = ["HEAD_ADDRESS", "HEAD_ADDRESS_CFG", "RAY_HEAD_PORT", "LEASE_TTL", "WS_MEMORY", "WS_NODE_NAME", "WS_CANDIDATES"]
    assert read_settings(dict.fromkeys(names, " ")) == read_settings({})


def test_all_that_the_engines_tell_is_understood(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    for node in project.plan.nodes:
        told = node_environment(project.config, project.plan, node)
        # Compose puts the machine's values in place of these.
        told = {name: re.sub(r"^\$\{\w+:-(\w+)\}$", r"\1", value) for name, value in told.items()}
        settings = read_settings({**told, "WS_NODE_NAME": node.hostname})
        assert settings.is_candidate == node.candidate
        assert settings.whitelist == ("ray-cpu", "ray-gpu")
        assert [candidate.name for candidate in settings.candidates] == ["ray-cpu", "ray-gpu"]
        assert settings.me
        assert settings.me.head_port == settings.head_port == node.entry.head
        assert settings.ports["agent"] == settings.me.agent_port == node.block.agent
        assert settings.worker_ports == node.block.workers
        assert (settings.memory, settings.object_store_memory) == (node.memory, node.object_store_memory)
        assert settings.health_url == "http://health:8080"


def test_the_port_block() -> None:
    settings = read_settings({"WS_NODE_PORTS": " node_manager=31000, agent=31007 ,workers=31008-31023,"})
    assert settings.ports == {"node_manager": 31000, "agent": 31007}
    assert settings.worker_ports == (31008, 31023)


def test_a_candidate_finds_itself() -> None:
    variables = {"WS_NODE_NAME": "ray-cpu", "HEAD_WHITELIST": " ray-gpu , ray-cpu,", "WS_CANDIDATES": json.dumps([CPU])}
    settings = read_settings(variables)
    assert settings.whitelist == ("ray-gpu", "ray-cpu")
    assert settings.is_candidate
    assert settings.me == Candidate(**CPU)
    assert settings.me.head_address == "host.of.it:6379"
    assert settings.me.agent_url == "http://host.of.it:31007"


def test_the_patience_with_the_health_server_follows_from_its_retries() -> None:
    told = {"HEALTH_MAX_RETRIES": "5", "HEALTH_TIMEOUT": "0.5", "HEALTH_RETRY_INTERVAL": "1.5"}
    assert read_settings(told).health_patience == 10


def test_a_slash_behind_the_health_url_does_no_harm() -> None:
    assert read_settings({"HEALTH_URL": "http://health:8080/"}).health_url == "http://health:8080"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("LEASE_TTL", "soon", "LEASE_TTL='soon' is not a number of seconds; for example LEASE_TTL=10"),
        ("LEASE_TTL", "0", "LEASE_TTL='0' must be above 0; for example LEASE_TTL=10"),
        ("HEALTH_TIMEOUT", "0", "HEALTH_TIMEOUT='0' must be above 0; for example HEALTH_TIMEOUT=1"),
        ("WAIT_FOR_HEAD", "-1", "WAIT_FOR_HEAD='-1' is out of range; for example WAIT_FOR_HEAD=120"),
        ("WAIT_FOR_HEAD", "nan", "WAIT_FOR_HEAD='nan' is out of range"),
        ("DISCOVERY_TIMEOUT", "inf", "DISCOVERY_TIMEOUT='inf' is out of range"),
        ("RAY_NUM_CPUS", "1.5", "RAY_NUM_CPUS='1.5' is not a whole number; for example RAY_NUM_CPUS=1"),
        ("RAY_NUM_CPUS", "²", "RAY_NUM_CPUS='²' is not a whole number"),
        ("WS_MEMORY", "8g", "WS_MEMORY='8g' is not a whole number; for example WS_MEMORY=0"),
        ("RAY_HEAD_PORT", "0", "RAY_HEAD_PORT=0 is not a port; ports go from 1 to 65535"),
        ("RAY_CLIENT_PORT", "65536", "RAY_CLIENT_PORT=65536 is not a port"),
        ("RAY_DASHBOARD_PORT", "-1", "RAY_DASHBOARD_PORT='-1' is not a whole number"),
        ("HEAD_ADDRESS", "ray-cpu", "HEAD_ADDRESS='ray-cpu' is not host:port; for example HEAD_ADDRESS=ray-cpu:6379"),
        ("HEAD_ADDRESS", ":6379", "HEAD_ADDRESS=':6379' is not host:port"),
        ("HEAD_ADDRESS", "ray-cpu:0", "HEAD_ADDRESS='ray-cpu:0' is not host:port"),
        ("HEAD_ADDRESS", "ray-cpu:²", "HEAD_ADDRESS='ray-cpu:²' is not host:port"),
        ("HEAD_ADDRESS_CFG", "ray-cpu:port", "HEAD_ADDRESS_CFG='ray-cpu:port' is not host:port"),
        ("WS_NODE_PORTS", "agent", "WS_NODE_PORTS has 'agent'; expected name=port or workers=first-last"),
        ("WS_NODE_PORTS", "workers=1", "WS_NODE_PORTS has 'workers=1'"),
        ("WS_NODE_PORTS", "agent=70000", "WS_NODE_PORTS has 'agent=70000'"),
        ("WS_CANDIDATES", "[", "WS_CANDIDATES is not a JSON list of candidates"),
        ("WS_CANDIDATES", "7", "WS_CANDIDATES is not a JSON list of candidates"),
        ("WS_CANDIDATES", '{"name": 1}', "WS_CANDIDATES is not a JSON list of candidates"),
        ("WS_CANDIDATES", '[{"name": "ray-cpu"}]', "WS_CANDIDATES is not a JSON list of candidates"),
        ("WS_CANDIDATES", json.dumps([{**CPU, "head_port": "6379"}]), "WS_CANDIDATES is not a JSON list of candidates"),
    ],
)
def test_a_variable_that_is_wrong_is_named(name: str, value: str, text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        read_settings({name: value})


@pytest.mark.parametrize(
    ("content", "text"), [(None, "can't be read (No such file"), (b" \n", "is empty"), (b"\xff\xfe", "is no text")]
)
def test_a_token_file_that_is_no_good_is_named(tmp_path: Path, content: Any, text: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(f"RAY_AUTH_TOKEN_PATH={path} {text}")):
        read_settings({"RAY_AUTH_TOKEN_PATH": str(path)}).token()


def test_the_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n", encoding="utf-8")
    assert read_settings({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}).token() == Secret("secret")
