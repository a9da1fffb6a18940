"""Ports that are open for as long as somebody listens to the program."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from tests.node.stage import soon
from ws.verify import programs


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_its_ports_accept_until_its_stdin_ends() -> None:
    argv = [sys.executable, *programs.argv("listener", {"ports": 2})[1:]]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        said = json.loads(process.stdout.readline())
        assert said["event"] == "listening"
        assert len(set(said["ports"])) == 2
        assert all(accepts(port) for port in said["ports"])
        process.stdin.close()
        process.wait(timeout=30)
    soon("the ports to close", lambda: not any(accepts(port) for port in said["ports"]))


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_as_wanted(count: int) -> None:
    argv = [sys.executable, *programs.argv("listener", {"ports": count})[1:]]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        assert len(json.loads(process.stdout.readline())["ports"]) == count
        process.stdin.close()
