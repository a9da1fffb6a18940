"""`ws verify` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from ws.cli.verify import discovered
from ws.cluster.records import ClusterRecord, Kind
from ws.errors import UsageError
from ws.verify.outside import SCENARIOS


def ws(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ws", "-C", str(folder), "verify", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_scenarios_are_listed(tmp_path: Path) -> None:
    listed = ws(tmp_path, "--list")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [scenario.name for scenario in SCENARIOS]
    assert [row["name"] for row in json.loads(ws(tmp_path, "--list", "--json").stdout)] == [one.name for one in SCENARIOS]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "no address of a Ray cluster"),
        (["ray://127.0.0.1:1", "--scenario", "linx"], "did you mean links?"),
        (["ray://127.0.0.1:1", "--dashboard", "127.0.0.1:8265"], "no URL of a dashboard"),
        (["ray://127.0.0.1:1", "--token-file", "/nonexistent"], "the token file /nonexistent can't be read"),
        (["ray://127.0.0.1:1", "--window", "-1"], "window"),
    ],
)
def test_wrong_use_says_what_would_be_right(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = ws(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / ".ws").exists()


def test_without_an_address_that_of_the_environment_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    assert "'nonsense' is no address" in ws(tmp_path).stderr


def test_without_any_address_the_most_reliable_cluster_that_is_alive_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = ClusterRecord("gone", addresses={Kind.client: ["127.0.0.1:1"]})
    inner = ClusterRecord("inner", addresses={Kind.gcs: ["127.0.0.1:2"]}, alive=True)
    outer = ClusterRecord("outer", addresses={Kind.client: ["127.0.0.1:3"], Kind.gcs: ["127.0.0.1:4"]}, alive=True)
    for found, taken in (([dead, inner, outer], "ray://127.0.0.1:3"), ([dead, inner], "127.0.0.1:2")):
        monkeypatch.setattr("ws.cluster.discover.discover", lambda found=found: found)
        assert discovered() == taken
        assert taken in capsys.readouterr().err
    monkeypatch.setattr("ws.cluster.discover.discover", lambda: [dead])
    with pytest.raises(UsageError, match="no cluster can be found"):
        discovered()


def test_a_dead_port_fails_with_cause_mend_and_a_report(tmp_path: Path) -> None:
    port = free_port()
    done = ws(tmp_path, f"ray://127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"cause: nobody answers at 127.0.0.1:{port}" in done.stdout
    assert "not tried: token, versions" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (tmp_path / ".ws" / "runs" / "latest" / "report.html").exists()


def test_programs_get_json(tmp_path: Path) -> None:
    done = ws(tmp_path, f"127.0.0.1:{free_port()}", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert (report["verdict"], report["exit_code"]) == ("fail", 1)
    assert report["scenarios"][0]["checks"][0]["causes"][0]["key"] == "entry-dead"
    assert Path(report["report"]).name == "report.html"
