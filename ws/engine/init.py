"""`ws init`: the files that a user may edit, put into an empty folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ws.config.show import schema
from ws.engine.token import ensure_state
from ws.resources import packaged

_FOLDERS = ("template", "images")
SCHEMA = ".ws/config.schema.json"


def write_project(folder: Path, *, force: bool) -> Iterator[tuple[str, bool]]:
    """Copy the packaged files; yields (name, whether it was written). What is there is kept without `force`."""
    yield "config.yaml", _copy(packaged("config.yaml"), folder / "config.yaml", force)
    for name in _FOLDERS:
        source = packaged(name)
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            relative = Path(name) / file.relative_to(source)
            yield str(relative), _copy(file, folder / relative, force)
    write_schema(folder)
    yield SCHEMA, True


def write_schema(folder: Path) -> None:
    """Write what the first line of config.yaml leads editors to."""
    ensure_state(folder / ".ws")
    text = json.dumps(schema(), indent=2)
    path = folder / SCHEMA
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _copy(source: Path, target: Path, force: bool) -> bool:
    if target.exists() and not force:
        return False
    if source.resolve() == target.resolve():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    # Not the source's mode: an unpacked wheel may have lost it.
    target.chmod(0o755 if source.suffix == ".sh" else 0o644)
    return True
