"""Temp dirs as Ray 2.60 (and, without port files, 2.40) leaves them."""

from __future__ import annotations

from pathlib import Path

from ws.cluster.endpoint import Endpoint
from ws.cluster.find_files import find_by_files, temp_dirs

OLD, NEW = "session_2026-11-20_10-00-00_000001_4711", "session_2026-11-21_10-00-00_000001_815"


def session(folder: Path, name: str, port: str | None = None) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    if port is not None:
        (made / f"gcs_server_port_{'ab' * 28}").write_text(port)
    return made


def test_session_folders_newest_first_with_the_port_of_their_gcs(tmp_path: Path) -> None:
    session(tmp_path, OLD)
    new = session(tmp_path, NEW, "6379")
    first, second = find_by_files([tmp_path])
    assert (first.session, first.endpoints, first.folder) == (NEW, (Endpoint("127.0.0.1", 6379),), new)
    assert (second.session, second.endpoints) == (OLD, ())
    assert not first.runs and not first.claims


def test_the_current_cluster_belongs_to_the_latest_session(tmp_path: Path) -> None:
    (tmp_path / "session_latest").symlink_to(session(tmp_path, NEW))
    (tmp_path / "ray_current_cluster").write_text("192.0.2.9:6380")
    found = find_by_files([tmp_path])
    assert [(hint.session, hint.endpoints) for hint in found] == [(NEW, ()), (NEW, (Endpoint("192.0.2.9", 6380),))]


def test_files_that_are_broken_or_somebody_elses(tmp_path: Path) -> None:
    session(tmp_path, NEW, "no port")
    session(tmp_path, "session_backup")
    (tmp_path / "ray_current_cluster").write_bytes(b"\xff\xfe")
    (tmp_path / "session_latest").symlink_to(tmp_path / "gone")
    assert [hint.endpoints for hint in find_by_files([tmp_path, tmp_path / "gone", tmp_path / "ray_current_cluster"])] == [
        ()
    ]


def test_of_many_session_folders_the_newest_are_looked_at(tmp_path: Path) -> None:
    for day in range(1, 31):
        session(tmp_path, f"session_2026-10-{day:02}_10-00-00_000001_1")
    found = find_by_files([tmp_path])
    assert len(found) == 20
    assert found[0].session == "session_2026-10-30_10-00-00_000001_1"


def test_where_ray_keeps_its_files(tmp_path: Path) -> None:
    found = temp_dirs([tmp_path, tmp_path], {"RAY_TMPDIR": "/fast"})
    assert found[:2] == [tmp_path, Path("/fast/ray")]
    assert len(found) == len(set(found))
