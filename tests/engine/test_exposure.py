"""Warnings for each address that the config opens beyond this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import make_project
from ws.engine.exposure import warnings

PRIVATE = {
    "default": "",
    "none": "network: {publish_entries: [], publish_blocks: none}",
    "loopback": "network: {publish_entries: [loopback, 127.0.0.1, 127.0.0.53], publish_blocks: loopback}",
    "the bridge by its address": "host: {ip_address: 172.17.0.1}",
}
OPEN = {
    "an address": ("network: {publish_entries: [loopback, 192.168.1.10]}", ["192.168.1.10"]),
    "all": ("network: {publish_entries: [0.0.0.0]}", ["every address of this machine"]),
    "two": (
        "network: {publish_entries: [192.168.1.10], publish_blocks: 10.1.1.1}",
        ["192.168.1.10", "10.1.1.1"],
    ),
    "the gateway is the host's address": ("host: {ip_address: 192.168.1.10}", ["192.168.1.10"]),
}


@pytest.mark.parametrize("config", PRIVATE.values(), ids=PRIVATE.keys())
def test_this_machine_and_its_containers_alone_are_no_exposure(tmp_path: Path, config: str) -> None:
    assert warnings(make_project(tmp_path, config).config) == []


@pytest.mark.parametrize(("config", "places"), OPEN.values(), ids=OPEN.keys())
def test_each_opened_address_is_named_once(tmp_path: Path, config: str, places: list[str]) -> None:
    found = warnings(make_project(tmp_path, config).config)
    assert len(found) == len(places)
    for place, warning in zip(places, found, strict=True):
        assert f"are published on {place}:" in warning
        assert "can run code" in warning


def test_what_is_open_there_is_told(tmp_path: Path) -> None:
    (warning,) = warnings(make_project(tmp_path, "host: {ip_address: 192.168.1.10}").config)
    assert warning.startswith("entries (head, dashboard, Ray Client, health) and port blocks are published")
    blocks = "network: {publish_entries: [loopback], publish_blocks: 0.0.0.0}"
    (warning,) = warnings(make_project(tmp_path, blocks).config)
    assert warning.startswith("port blocks are published")
