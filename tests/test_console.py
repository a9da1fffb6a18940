"""What a command shows, and where."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from tests.terminal import Terminal
from ws import console
from ws.console import Progress, table
from ws.errors import WsError

ESCAPE = "\x1b["


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_step_is_one_line_with_its_duration() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)
    with progress.step("Doing it"):
        progress.note("halfway")
    first, second = stream.getvalue().splitlines()
    assert first == "  halfway"
    assert re.fullmatch(r"✓ Doing it \(\d+\.\d s\)", second)


def test_a_step_that_fails_is_marked_and_its_error_goes_on() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(stream=stream).step("Doing it"):
        raise KeyboardInterrupt
    assert stream.getvalue().startswith("✗ Doing it (")


def test_quiet_shows_warnings_alone() -> None:
    stream = io.StringIO()
    progress = Progress(quiet=True, stream=stream)
    with progress.step("Doing it"):
        progress.note("halfway")
    progress.warn("beware")
    assert stream.getvalue() == "! beware\n"


def test_elsewhere_than_on_a_terminal_there_is_no_colour() -> None:
    stream = io.StringIO()
    with Progress(stream=stream).step("Doing it"):
        pass
    assert ESCAPE not in stream.getvalue()


def test_on_a_terminal_there_is_colour() -> None:
    stream = Terminal()
    Progress(stream=stream).warn("beware")
    assert stream.getvalue() == "\x1b[33m!\x1b[0m beware\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    stream = Terminal()
    Progress(stream=stream).warn("beware")
    assert stream.getvalue() == "! beware\n"


def test_lines_within_a_step_stand_above_the_spinner_unchanged() -> None:
    stream = Terminal()
    with Progress(stream=stream).step("Doing [it]"):
        Progress(stream=stream).note("[red]no markup[/red] 1234")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "[red]no markup[/red] 1234" in text
    assert "✓ Doing [it] (" in text


def test_results_go_to_stdout_and_progress_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().step("Doing it"):
        console.result("the result")
    console.result_json({"name": "ü", "none": None})
    captured = capsys.readouterr()
    assert captured.out.startswith("the result\n")
    assert json.loads(captured.out.partition("\n")[2]) == {"name": "ü", "none": None}
    assert "Doing it" in captured.err


def test_a_table_is_plain_text_without_trailing_blanks() -> None:
    assert table(["NAME", "N"], [["ray-cpu", "1"], ["x", ""]]) == "NAME     N\nray-cpu  1\nx"
    assert table(["NAME"], []) == "NAME"


def test_an_error_is_what_why_and_mend(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error(WsError("it broke", "first\nsecond", "ws mend"))
    captured = capsys.readouterr()
    assert captured.err == "✗ it broke\n  first\n  second\n→ ws mend\n"
    assert captured.out == ""
    console.show_error(WsError("it broke"))
    assert capsys.readouterr().err == "✗ it broke\n"


def test_a_bug_leaves_its_traceback_in_a_private_file(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise KeyError("unforeseen")
    except KeyError as error:
        console.show_bug(error)
    told = capsys.readouterr().err
    path = Path(re.findall(r"(/\S+ws-bug-\S+\.txt)", told)[0])
    try:
        text = path.read_text(encoding="utf-8")
        assert "Traceback" in text
        assert "KeyError: 'unforeseen'" in text
        assert path.stat().st_mode & 0o077 == 0
    finally:
        path.unlink()
    assert told.startswith("✗ a bug in ws: KeyError: 'unforeseen'\n")
    assert "Traceback" not in told
