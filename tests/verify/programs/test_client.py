"""The client's tests, with Ray and with all that can be wrong before Ray is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.verify.programs.local import ADDRESS, BASE, CLIENT, DASHBOARD, NAME, Event, events, server, silent
from ws.verify.causes import TITLES
from ws.verify.programs import FOLDER

CLIENT_PORT = CLIENT[1]
RAY_CHECKS = ["init", "resources", "tasks", "actor", "object"]


def checks(environ: dict[str, str] | None = None, **params: object) -> dict[str, Event]:
    """Each check by its name; of several entries the last one's."""
    told = events("client", params, environ)
    assert told[-1] == {"event": "done"}
    found = {event["check"]: event for event in told if event["event"] == "check"}
    for event in found.values():
        assert (event["cause"] in TITLES) is not event["ok"]
        assert event["detail"]
        assert event["seconds"] >= 0
    return found


def entry(name: str = ADDRESS, **ports: int) -> list[dict[str, object]]:
    return [{"name": name, **ports}]


def causes(found: dict[str, Event]) -> dict[str, str]:
    return {name: event["cause"] for name, event in found.items() if not event["ok"]}


def test_a_name_that_does_not_resolve() -> None:
    found = checks(entries=entry("no-such-host.invalid", gcs=1, client=2), environ=None)
    assert causes(found) == {"resolve": "name-unknown"}
    assert list(found) == ["resolve"]


def test_closed_ports() -> None:
    port = free_port()
    found = checks(entries=entry("127.0.0.1", gcs=port, client=port))
    assert causes(found) == {"gcs-port": "entry-dead", "client-port": "entry-dead"}
    assert f"port {port}" in found["gcs-port"]["detail"]
    assert found["gcs-port"]["evidence"]["outcome"] == "refused"


def test_ports_where_something_else_answers_or_nobody() -> None:
    with server(silent) as mute, server(lambda c: c.sendall(b"SSH-2.0-OpenSSH\r\n")) as other:
        found = checks(entries=entry("127.0.0.1", gcs=mute, client=other))
    assert causes(found) == {"gcs-port": "entry-dead", "client-port": "wrong-port"}


def test_the_health_server_down_and_up() -> None:
    (down,) = checks(entries=[], health=f"127.0.0.1:{free_port()}").values()
    assert (down["ok"], down["cause"]) == (False, "health-down")
    with server(lambda c: (c.recv(4096), c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK\n"))) as port:
        (up,) = checks(entries=[], health=f"127.0.0.1:{port}").values()
    assert up["ok"]
    assert up["detail"].endswith("answers 200")


def test_without_a_token_where_nobody_answers_nothing_was_seen() -> None:
    told = events("client", {"entries": entry("127.0.0.1", client=free_port()), "without_token": True})
    assert [event["event"] for event in told] == ["refused", "done"]
    assert told[0]["ok"] is None
    assert told[0]["how"].startswith("UNAVAILABLE")


def test_as_main_program_of_a_container_it_prints_lines_and_stays() -> None:
    port = free_port()
    entries = json.dumps([{"name": "127.0.0.1", "gcs": port}])
    environ = {**os.environ, "WS_CLIENT_ENTRIES": entries}
    argv, null = [sys.executable, "-u", str(FOLDER / "client.py")], subprocess.DEVNULL
    with subprocess.Popen(argv, env=environ, stdin=null, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = [process.stdout.readline().rstrip() for _ in range(6)]
        assert lines[1] == "→ 127.0.0.1 resolves to 127.0.0.1"
        assert lines[2].startswith("✓ 127.0.0.1 answers")
        assert lines[3].startswith(f"✗ port {port} (GCS entry) of 127.0.0.1")
        assert lines[4].startswith("→ Ray ")
        assert lines[5].startswith("✗ 1 of 3 tests failed")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


@pytest.mark.slow
class TestRay:
    def test_all_is_well(self, head: str, environ: dict[str, str]) -> None:
        told = events("client", {"entries": entry(gcs=BASE, client=CLIENT_PORT), "nodes": [NAME]}, environ)
        made = [event["check"] for event in told if event["event"] == "check" and event["ok"]]
        assert made == ["resolve", "ping", "gcs-port", "client-port", *RAY_CHECKS], told
        (versions,) = [event for event in told if event["event"] == "versions"]
        assert versions["mine"] == versions["cluster"]
        places = [event.get("check", event["event"]) for event in told]
        assert places.index("versions") < places.index("init")
        assert next(e for e in told if e.get("check") == "tasks")["evidence"]["nodes"].keys() == {NAME}

    def test_a_node_that_is_missing_is_named(self, head: str, environ: dict[str, str]) -> None:
        found = checks(environ, entries=entry(client=CLIENT_PORT), nodes=[NAME, "ray-gone"])
        assert causes(found) == {"resources": "ray-error"}
        assert "not alive: ray-gone" in found["resources"]["detail"]

    def test_ports_that_are_swapped_are_told_before_ray_hangs(self, head: str, environ: dict[str, str]) -> None:
        found = checks(environ, entries=entry(gcs=CLIENT_PORT, client=BASE))
        assert causes(found) == {"gcs-port": "wrong-port-client", "client-port": "wrong-port-gcs"}
        found = checks(environ, entries=entry(DASHBOARD[0], client=DASHBOARD[1]))
        assert causes(found) == {"client-port": "wrong-port"}
        assert "the dashboard answers there" in found["client-port"]["detail"]

    @pytest.mark.parametrize(
        ("told", "cause"),
        [({"RAY_AUTH_TOKEN": "another"}, "token-wrong"), ({"RAY_AUTH_TOKEN_PATH": "/nowhere"}, "token-missing")],
    )
    def test_a_token_that_is_refused(self, head: str, environ: dict[str, str], told: dict[str, str], cause: str) -> None:
        found = checks({**environ, "HOME": "/nowhere", **told}, entries=entry(gcs=BASE, client=CLIENT_PORT))
        assert causes(found) == {"gcs-port": cause, "client-port": cause}
        assert "init" not in found

    def test_other_versions_are_told_without_an_attempt(self, head: str, environ: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text("import platform\nplatform.python_version = lambda: '3.9.1'\n")
        found = checks({**environ, "PYTHONPATH": str(tmp_path)}, entries=entry(gcs=BASE, client=CLIENT_PORT))
        assert causes(found) == {"init": "python-version"}
        assert "Python 3.9.1 here" in found["init"]["detail"]

    def test_without_a_token_it_is_refused_and_nothing_hangs(self, head: str, environ: dict[str, str]) -> None:
        began = time.monotonic()
        told = events("client", {"entries": entry(gcs=BASE, client=CLIENT_PORT), "without_token": True}, environ)
        assert told[0]["ok"] is True, told
        assert "UNAUTHENTICATED" in told[0]["how"]
        assert time.monotonic() - began < 60
