"""The token: made once, random, and nobody else's to read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ws.engine.token import ensure_state, ensure_token
from ws.errors import EnvironmentProblem

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_long_random_and_made_once(tmp_path: Path) -> None:
    one, another = tmp_path / "one" / "token", tmp_path / "another" / "token"
    assert ensure_token(one) is True
    assert ensure_token(another) is True
    text = one.read_text(encoding="utf-8")
    assert len(bytes.fromhex(text)) == 32
    assert text != another.read_text(encoding="utf-8")
    assert ensure_token(one) is False
    assert one.read_text(encoding="utf-8") == text


def test_the_folder_keeps_others_out_and_containers_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / ".ws" / "token"
    before = os.umask(0o077)
    try:
        ensure_token(path)
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert mode(path) == 0o644


def test_modes_that_were_changed_are_mended(tmp_path: Path) -> None:
    path = tmp_path / ".ws" / "token"
    ensure_token(path)
    path.chmod(0o600)
    path.parent.chmod(0o755)
    assert ensure_token(path) is False
    assert (mode(path.parent), mode(path)) == (0o700, 0o644)


def test_a_token_of_the_users_own_is_kept_and_an_empty_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("of-my-own\n", encoding="utf-8")
    assert ensure_token(path) is False
    assert path.read_text(encoding="utf-8") == "of-my-own\n"
    path.write_text(" \n", encoding="utf-8")
    assert ensure_token(path) is True
    assert len(path.read_text(encoding="utf-8")) == 64


def test_git_never_sees_the_state_folder(tmp_path: Path) -> None:
    ensure_state(tmp_path / ".ws")
    ensure_token(tmp_path / ".ws" / "token")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True, timeout=30)
    status = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=tmp_path,
        check=True,
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert status.stdout == ""


@pytest.mark.parametrize("in_the_way", ["token", ".ws"])
def test_something_else_in_its_place_is_named(tmp_path: Path, in_the_way: str) -> None:
    path = tmp_path / ".ws" / "token"
    if in_the_way == "token":
        path.mkdir(parents=True)
    else:
        path.parent.write_text("", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="is in the way") as caught:
        ensure_token(path)
    assert f"/{in_the_way} is in the way" in caught.value.what


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_folder_is_an_error_with_its_mend(open_folder: Path) -> None:
    path = open_folder / ".ws" / "token"
    ensure_token(path)
    program = f"""
import os
from pathlib import Path
from ws.engine.token import ensure_token
from ws.errors import EnvironmentProblem
os.setuid({NOBODY})
try:
    ensure_token(Path({str(path)!r}))
except EnvironmentProblem as problem:
    print(problem.what, problem.mend, sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.splitlines() == [
        f"{path.parent} can't be used by this user",
        f'sudo chown -R "$USER" {path.parent}',
    ], done.stderr
