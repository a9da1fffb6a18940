"""The folder that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.verify.report.made_up import failing, passing
from ws.errors import EnvironmentProblem
from ws.verify.report import write
from ws.verify.report.log_names import log_names

FILES = {"config.yaml": "project: {name: p}\n", "compose.yaml": "services: {}\n"}


def test_everything_is_there(tmp_path: Path) -> None:
    page = write(failing(), tmp_path, FILES)
    run = page.parent
    assert page == run / "report.html"
    assert run.parent == tmp_path / ".ws" / "runs"
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    logs = {f"logs/{name}.log" for name in failing().logs}
    assert found == {"report.html", "report.json", "junit.xml", *FILES, *logs}
    assert json.loads((run / "report.json").read_text(encoding="utf-8"))["verdict"] == "fail"
    assert ElementTree.parse(run / "junit.xml").getroot().get("failures") == "2"
    assert (run / "config.yaml").read_text() == FILES["config.yaml"]
    assert (run / "logs" / "ray-cpu.log").read_text() == "Mode: head\n"
    assert (run.parent / "latest" / "report.html").samefile(page)


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    report = passing()
    odd = b"\xff\x1b[0m\r\n\x00".decode("utf-8", "surrogateescape")
    report.logs["ray-cpu"] = report.scenarios[0].checks[0].evidence = odd
    page = write(report, tmp_path, {})
    read = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert read["scenarios"][0]["checks"][0]["evidence"] == odd
    assert (page.parent / "logs" / "ray-cpu.log").read_bytes() == b"\\udcff\x1b[0m\r\n\x00"
    ElementTree.parse(page.parent / "junit.xml")


def test_a_folder_that_cannot_be_written_is_an_error_with_its_mend(tmp_path: Path) -> None:
    (tmp_path / ".ws").write_text("a file where a folder should be")
    with pytest.raises(EnvironmentProblem, match="the report can't be written") as caught:
        write(passing(), tmp_path, {})
    assert str(tmp_path / ".ws" / "runs") in str(caught.value.mend)


def test_logs_stay_in_their_folder_and_none_covers_another() -> None:
    assert log_names(["ray-cpu", "../../etc", "a/b", "a b", "a_b-2"]) == {
        "ray-cpu": "logs/ray-cpu.log",
        "../../etc": "logs/.._.._etc.log",
        "a/b": "logs/a_b.log",
        "a b": "logs/a_b-2.log",
        "a_b-2": "logs/a_b-2-2.log",
    }
