"""The folders of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ws.verify.report import run_folder

STARTED = 1_795_273_445.0


def test_a_second_run_of_one_second_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second, third = (run_folder.make(tmp_path, STARTED) for _ in range(3))
    assert first.parent == tmp_path / ".ws" / "runs"
    assert (second.name, third.name) == (f"{first.name}-2", f"{first.name}-3")


def test_latest_leads_to_the_run_that_ended_last(tmp_path: Path) -> None:
    for seconds in range(3):
        folder = run_folder.make(tmp_path, STARTED + seconds)
        run_folder.finish(folder)
        assert (folder.parent / "latest").resolve() == folder.resolve()
        assert not (folder.parent / "latest").readlink().is_absolute()


def test_the_newest_runs_are_kept_and_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    runs = tmp_path / ".ws" / "runs"
    for name in ("notes", "20250101-000000-mine", "20250101"):
        (runs / name).mkdir(parents=True)
    (runs / "20250101-000001").write_text("a file")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (runs / "20250101-000002").symlink_to(elsewhere)
    made = [run_folder.make(tmp_path, STARTED + number // 12) for number in range(24)]
    (made[0] / "report.html").write_text("old")
    run_folder.finish(made[-1])
    assert [folder.exists() for folder in made] == [False] * 4 + [True] * 20
    assert elsewhere.exists()
    assert {path.name for path in runs.iterdir()} - {folder.name for folder in made} == {
        "notes",
        "20250101-000000-mine",
        "20250101",
        "20250101-000001",
        "20250101-000002",
        "latest",
    }


def test_a_run_is_kept_even_where_the_clock_was_put_back(tmp_path: Path) -> None:
    for number in range(run_folder.KEPT):
        run_folder.make(tmp_path, STARTED + number)
    old = run_folder.make(tmp_path, STARTED - 1000)
    run_folder.finish(old)
    assert old.exists()


def test_a_folder_named_latest_is_not_replaced(tmp_path: Path) -> None:
    folder = run_folder.make(tmp_path, STARTED)
    (folder.parent / "latest").mkdir()
    with pytest.raises(OSError, match="latest"):
        run_folder.finish(folder)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "latest"}
