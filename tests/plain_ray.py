"""How tests start Ray as a user would, but for what fails at random, or depends on how the tests were started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Else one Ray Client connection in ten fails: https://github.com/ray-project/ray/issues/63202
_FORKING = {"GRPC_ENABLE_FORK_SUPPORT": "0"}
AS_PLAIN_RAY = [part for name, value in _FORKING.items() for part in ("--env", f"{name}={value}")]
"""What `docker run` is given for a head that a test starts by plain `ray start`."""


def plain_ray_environ(**more: str) -> dict[str, str]:
    """This process's environment without its own RAY_… variables, with Ray's programs on the PATH, and `more`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **inherited,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Tests may run below `uv run`, and Ray would have every worker of such a head run by uv.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        **_FORKING,
        **more,
    }
