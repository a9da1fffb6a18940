"""What a user reads of a transfer, on a terminal and in a pipe."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from tests.terminal import Terminal
from tests.transfer.made_up import ID, MIB, planned, progress, receipt, started, whole
from ws.cli.transfer_live import Live
from ws.cli.transfer_view import JsonView, PeopleView
from ws.transfer.events import Cancelled, Event, Finished, Paused, RecipientDone, RecipientFailed, Resumed, Retry


def shown(capsys: pytest.CaptureFixture[str], *events: Event) -> tuple[str, str]:
    """Standard output and error of a view that has a second from each event to the next."""
    seconds = iter(range(1000))
    stream = io.StringIO()
    with PeopleView(stream, clock=lambda: float(next(seconds))) as view:
        for event in events:
            view.show(event)
    captured = capsys.readouterr()
    return captured.out, stream.getvalue() + captured.err


def test_every_line_of_a_transfer_that_goes_wrong_in_part(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(capsys, *whole())
    assert err.splitlines() == [
        "here:/home/me/model.bin (1 file, 100.0 MiB) to ray_node_2, ray_node_3, transfer 01234567",
        "  ray_node_2: stream, its port answers",
        "  ray_node_3: object store, no port of it answers",
        "  ray_node_2: 50.0 MiB of 100.0 MiB (50 %), 50.0 MiB/s, 1 s left",
        "  ray_node_2: again in 0.5 s (attempt 1): the link was cut",
        "  ray_node_3: failed: no space on /data",
        "→ `ws transfers resume 01234567` tries again for who does not have it",
        "✗ ray_node_3: no space on /data",
        "  needs 4.0 GiB, 1.2 GiB free",
        "→ free 2.8 GiB there",
    ]
    assert out.splitlines() == [
        "✓ ray_node_2: 100.0 MiB in 2.00 s (50.0 MiB/s, stream), 1 retry: /home/ray/data/model.bin",
        "1 of 2 recipients has it, in 2.00 s (50.0 MiB/s in all), 1 retry",
        f"SHA-256 {'ab' * 32}",
    ]


def test_a_quick_transfer_to_one_is_two_lines_of_results(capsys: pytest.CaptureFixture[str]) -> None:
    done = RecipientDone(transfer=ID, recipient="ray_node_2", receipt=receipt())
    end = Finished(transfer=ID, state="done", root_hash="ab" * 32, algorithm="sha256", done=("ray_node_2",))
    out, err = shown(capsys, started(recipients=("ray_node_2",)), progress(0), done, end)
    assert len(err.splitlines()) == 1
    assert out.splitlines() == [
        "✓ ray_node_2: 100.0 MiB in 2.00 s (50.0 MiB/s, stream): /home/ray/data/model.bin",
        f"SHA-256 {'ab' * 32}",
    ]


def test_progress_is_a_line_a_second_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    stream = io.StringIO()
    with PeopleView(stream, clock=lambda: now) as view:
        view.show(started())
        for tenth in range(31):
            now = tenth / 10
            view.show(progress(tenth * MIB))
            view.show(progress(tenth * MIB, "ray_node_3"))
    lines = stream.getvalue().splitlines()[1:]
    assert [line.split()[1] for line in lines if "ray_node_2" in line] == ["10.0", "20.0", "30.0"]
    assert len(lines) == 6
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"had": 100 * MIB}, "in 2.00 s, all of it was there before: /home"),
        ({"had": 40 * MIB}, "(30.0 MiB/s, stream), 40.0 MiB of it was there before: /home"),
        ({"retries": 2, "place": ""}, "(50.0 MiB/s, stream), 2 retries"),
    ],
)
def test_what_a_receipt_says(capsys: pytest.CaptureFixture[str], fields: dict[str, object], told: str) -> None:
    done = RecipientDone(transfer=ID, recipient="ray_node_2", receipt=receipt(**fields))
    out, _ = shown(capsys, started(), done, Finished(transfer=ID, state="done", done=("ray_node_2",)))
    assert told in out


def test_files_that_were_kept_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    done = RecipientDone(transfer=ID, recipient="ray_node_2", receipt=receipt(kept=tuple("abcdefg")))
    _, err = shown(capsys, started(), done, Finished(transfer=ID, state="done", done=("ray_node_2",)))
    assert "! ray_node_2: 7 files there differ and were kept: a, b, c, d, e …; --overwrite replaces them" in err


def test_pausing_resuming_cancelling(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = shown(capsys, started(), Paused(transfer=ID), Resumed(transfer=ID), Cancelled(transfer=ID))
    assert err.splitlines()[1:] == [
        "paused; `ws transfers resume 01234567` goes on",
        "goes on",
        "! cancelled: nothing unfinished is left at the recipients",
    ]
    assert out == ""
    _, err = shown(capsys, started(), Cancelled(transfer=ID, left_at=("ray_node_3",)))
    assert "! cancelled: ray_node_3 did not confirm that nothing is left: look for NAME.part there" in err
    _, err = shown(capsys, started(), Cancelled(transfer=ID, kept_partial=True))
    assert "what came so far stays; `ws transfers resume 01234567` goes on from it" in err


def test_a_transfer_that_could_not_begin(capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"code": "no-such-file", "what": "there is no 'x'", "why": "", "mend": "look at the name"}
    out, err = shown(capsys, started(), Finished(transfer=ID, state="failed", problem=problem))
    assert err.splitlines()[1:] == ["✗ there is no 'x'", "→ look at the name"]
    assert out == ""


def test_names_can_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "a\x1b]0;title\x07\n\udcff"
    problem = {"code": "lost", "what": evil, "why": evil, "mend": evil}
    events: list[Event] = [
        started(source=evil, recipients=(evil,)),
        Retry(transfer=ID, recipient=evil, attempt=1, why=evil),
        RecipientDone(transfer=ID, recipient=evil, receipt=receipt(place=evil, kept=(evil,))),
        RecipientFailed(transfer=ID, recipient=evil, problem=problem),
        Finished(transfer=ID, state="failed", done=(evil,), failed=(evil,)),
    ]
    out, err = shown(capsys, *events)
    assert "\x1b" not in out + err
    assert "\udcff" not in out + err
    assert "\\x1b]0;title\\x07" in out + err


def test_json_is_an_event_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonView() as view:
        for event in [*whole(), started(source="here:/\udcff")]:
            view.show(event)
        view.note("for people")
    captured = capsys.readouterr()
    assert captured.err == ""
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert [event["event"] for event in told[:3]] == ["started", "planned", "progress"]
    assert captured.out.isascii()


# On a terminal


def screen(*events: Event, height: int = 25) -> list[str]:
    """The live lines as they stand after these events."""
    console = Console(file=io.StringIO(), width=120, height=height, force_terminal=True, color_system=None)
    live = Live(io.StringIO(), console)
    for event in events:
        live.show(event)
    with console.capture() as capture:
        console.print(live.table())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_line_for_each_recipient() -> None:
    first, second = screen(*whole()[:4])
    assert re.fullmatch(r" +ray_node_2 +━+╸? *━* +50 % +50\.0 MiB of 100\.0 MiB +50\.0 MiB/s +1 s left", first)
    assert re.fullmatch(r" +ray_node_3 +0 % +0 B of 100\.0 MiB", second)


def test_ends_and_troubles_show_in_the_lines() -> None:
    first, second = screen(*whole()[:5])
    assert "attempt 1" in first
    first, second = screen(*whole()[:7])
    assert first.startswith("✓")
    assert "100 %" in first
    assert re.fullmatch(r"✗ +ray_node_3 +no space on /data", second.rstrip()) or "no space on /data" in second
    first, _ = screen(*whole()[:4], Paused(transfer=ID))
    assert "paused" in first
    assert "MiB/s" not in first


def test_more_recipients_than_lines_are_counted() -> None:
    many = tuple(f"ray_node_{number}" for number in range(1, 51))
    done = RecipientDone(transfer=ID, recipient="ray_node_1", receipt=receipt())
    lines = screen(started(recipients=many), planned(), progress(MIB, "ray_node_50"), done, height=10)
    assert len(lines) == 8
    assert "ray_node_2" in lines[0]
    assert any("ray_node_50" in line for line in lines)
    assert lines[-1].strip() == "and 43 more: 42 waiting, 1 done"


def test_a_terminal_gets_its_lines_cleared_and_the_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with PeopleView(terminal) as view:
        for event in whole():
            view.show(event)
    written = terminal.getvalue()
    assert "\x1b[?25l" in written  # the cursor goes
    assert "\x1b[?25h" in written  # and comes back
    assert "ray_node_3: object store, no port of it answers" in written
    assert "✓ ray_node_2: 100.0 MiB in 2.00 s" in capsys.readouterr().out
