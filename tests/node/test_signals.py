"""Ending on signals, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

WAITS = """
import threading
from ws.node.signals import set_on_signal
ended = threading.Event()
set_on_signal(ended)
print("ready", flush=True)
while not ended.wait(0.0005): pass
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 200])
def test_a_signal_sets_the_event(number: signal.Signals, times: int) -> None:
    """Many of them, too: one may come while the main thread holds the event's lock."""
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for _ in range(times):
            if process.poll() is None:
                process.send_signal(number)
        assert process.stdout.readline() == "ended\n"
