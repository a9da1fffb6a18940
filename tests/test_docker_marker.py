"""What becomes of tests marked `docker` where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKED = "tests/engine/test_docker_client.py::test_a_real_engine_answers"


@pytest.mark.parametrize(
    ("required", "code", "told"),
    [("", 0, "1 skipped"), ("0", 0, "1 skipped"), ("1", 1, "WS_REQUIRE_DOCKER is set, and there are no containers here")],
)
def test_they_are_skipped_with_the_reason_or_fail(required: str, code: int, told: str) -> None:
    environment = {**os.environ, "DOCKER_HOST": "unix:///nonexistent", "WS_REQUIRE_DOCKER": required}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", MARKED],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout
    assert told in done.stdout
    assert "no Docker daemon answers at unix:///nonexistent" in done.stdout
    assert "docker: no Docker daemon answers" in done.stdout
