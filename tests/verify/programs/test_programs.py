"""Programs as text, and asking them; made-up programs of this machine."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.stage import soon
from tests.verify.programs.local import Event, Local
from ws.errors import EnvironmentProblem
from ws.verify import programs
from ws.verify.programs import FOLDER, ask, text

MODULES = {"common", "child", "identity", "around"}
PROGRAMS = sorted({path.stem for path in FOLDER.glob("[!_]*.py")} - MODULES)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    names = {"program", "program's end"}
    soon("the end of the threads", lambda: not names & {thread.name for thread in threading.enumerate()})


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Asks a program that is made up, beside the real modules that all share."""
    for module in MODULES:
        (tmp_path / f"{module}.py").symlink_to(FOLDER / f"{module}.py")
    monkeypatch.setattr(programs, "FOLDER", tmp_path)
    text.cache_clear()
    local = Local()

    def play(source: str, timeout: float = 60, **params: object) -> list[Event]:
        text.cache_clear()
        (tmp_path / "made_up.py").write_text(textwrap.dedent(source), encoding="utf-8")
        return ask(local, "here", "made_up", params, timeout)

    yield play
    text.cache_clear()
    soon("the end of every program", lambda: all(process.poll() is not None for process in local.spawned))


def test_what_they_share_is_there_without_files(heard) -> None:
    source = """
    from child import step
    from common import emit, parameters
    from identity import identity
    from around import check
    emit("heard", **parameters())
    emit("done")
    """
    assert heard(source, name="ray-cpu") == [{"event": "heard", "name": "ray-cpu"}, {"event": "done"}]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_as_text_fits_a_command_line_and_ends_when_nobody_listens(name: str) -> None:
    argv = programs.argv(name, {"address": "127.0.0.1:1", "targets": [], "nodes": [], "timeout": 1, "entries": []})
    assert argv[:3] == ["python3", "-u", "-c"]
    assert len(argv[3]) < 100_000  # Linux takes 128 KiB for one argument
    compile(argv[3], name, "exec")
    done = subprocess.run([sys.executable, *argv[1:]], input="", capture_output=True, text=True, timeout=60, check=False)
    assert "SyntaxError" not in done.stderr
    assert "ImportError" not in done.stderr


def test_a_program_as_file_finds_what_it_shares() -> None:
    argv = [sys.executable, str(FOLDER / "netprobe.py"), '{"targets": []}']
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.read() == '{"event": "done"}\n'


def test_a_program_that_hangs_is_ended_and_what_it_said_stays(heard) -> None:
    began = time.monotonic()
    told = heard("from common import emit\nimport time\nemit('first')\ntime.sleep(3600)", timeout=1.5)
    assert told == [{"event": "first"}, {"event": "timeout", "after": 1.5}]
    assert time.monotonic() - began < 30


def test_a_program_that_breaks_says_why_in_its_telling_line(heard) -> None:
    source = """
    import sys
    print("a warning of somebody", file=sys.stderr)
    print("[1]"); print("7")
    raise ConnectionError("nobody there")
    """
    assert heard(source) == [{"event": "broken", "why": "ConnectionError: nobody there"}]


def test_a_program_that_breaks_after_an_event_is_broken_too(heard) -> None:
    told = heard("from common import emit\nemit('first')\nimport os, sys\nprint('noise')\nsys.stdout.flush()\nos.abort()")
    assert told == [{"event": "first"}, {"event": "broken", "why": "noise"}]


def test_a_program_that_says_nothing_at_all_is_broken(heard) -> None:
    assert heard("pass") == [{"event": "broken", "why": "it ended without a word"}]


def test_what_docker_says_of_a_container_that_does_not_run_is_the_reason() -> None:
    class Stopped(Local):
        def spawn(self, node, argv):  # type: ignore[no-untyped-def]
            return super().spawn(node, ["sh", "-c", "echo 'Error response from daemon: container 1 is not running'; exit 1"])

    assert ask(Stopped(), "ray-cpu", "netprobe", {}, 60) == [
        {"event": "broken", "why": "Error response from daemon: container 1 is not running"}
    ]


def test_what_can_not_be_started_is_an_error() -> None:
    class Nowhere(Local):
        def spawn(self, node, argv):  # type: ignore[no-untyped-def]
            raise EnvironmentProblem("there is no Docker")

    with pytest.raises(EnvironmentProblem):
        ask(Nowhere(), "ray-cpu", "netprobe", {}, 60)


def test_its_stdin_is_open_while_it_is_listened_to(heard) -> None:
    source = """
    import time
    from common import emit, parameters
    parameters()
    time.sleep(0.5)  # in which an end of stdin would have ended it
    emit("done")
    """
    assert heard(source) == [{"event": "done"}]
