"""Project folders for tests that start nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ws.config.load import load
from ws.config.plan import plan
from ws.engine.base import Project


def make_project(
    folder: Path, config: str = "", environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Project:
    """A project in `folder` with this config.yaml; without a text, there is no file and all are defaults."""
    path = folder / "config.yaml"
    if config:
        path.write_text(textwrap.dedent(config), encoding="utf-8")
    loaded = load(path if config else None, environ or {}, overrides or {})
    return Project(folder, loaded.config, plan(loaded.config))
