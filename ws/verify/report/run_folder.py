"""The folders of runs in `<project>/.ws/runs`: one for each run, the link `latest`, and the newest 20."""

from __future__ import annotations

import re
import shutil
from itertools import count
from pathlib import Path
from time import localtime, strftime

KEPT = 20
_RUN = re.compile(r"(\d{8}-\d{6})(?:-(\d+))?")


def make(project: Path, started: float) -> Path:
    """A new folder named for the local time of the start, `20261121-150405`; a second one of that second ends in `-2`.

    Raises OSError.
    """
    runs = project / ".ws" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    stamp = strftime("%Y%m%d-%H%M%S", localtime(started))
    for number in count(1):
        folder = runs / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() never ends")


def finish(folder: Path) -> None:
    """Point `latest` at it, and remove what is older than the newest runs. Raises OSError where the link can't be made."""
    _point_latest(folder)
    others = [path for path in folder.parent.iterdir() if path != folder and _is_run(path)]
    for old in sorted(others, key=_age)[: -(KEPT - 1)]:
        # One that can't be removed is in nobody's way.
        shutil.rmtree(old, ignore_errors=True)


def _point_latest(folder: Path) -> None:
    link = folder.with_name(f".latest-{folder.name}")
    link.symlink_to(folder.name)
    try:
        link.replace(folder.with_name("latest"))
    except OSError:
        link.unlink()
        raise


def _is_run(path: Path) -> bool:
    return _RUN.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()


def _age(path: Path) -> tuple[str, int]:
    found = _RUN.fullmatch(path.name)
    assert found
    return found[1], int(found[2] or 1)
