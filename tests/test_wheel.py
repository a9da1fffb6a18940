"""The wheel by itself: what a user without a checkout gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from this tree, unpacked where nothing of the checkout is in reach."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = shutil.which("uv") or str(ROOT / ".ws" / "uv" / "bin" / "uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def ws(site: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ws", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_init_and_render_work_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    ws(unpacked, tmp_path, "init")
    assert (tmp_path / "config.yaml").read_text() == (ROOT / "config.yaml").read_text()
    assert os.access(tmp_path / "template" / "ray-ep.sh", os.X_OK)
    ws(unpacked, tmp_path, "render")
    assert (tmp_path / "compose.yaml").read_text() == (ROOT / "compose.yaml").read_text()
    assert ws(unpacked, tmp_path, "render", "--check").strip() == "in step"


def test_the_node_agent_is_in_it(unpacked: Path) -> None:
    names = {path.name for path in (ROOT / "ws" / "node").glob("*.py")}
    assert names == {path.name for path in (unpacked / "ws" / "node").glob("*.py")}
