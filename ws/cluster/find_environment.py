"""The cluster that RAY_ADDRESS leads to."""

from __future__ import annotations

from collections.abc import Mapping

from ws.cluster.endpoint import parse_endpoint
from ws.cluster.hints import Hint, Way


def find_by_environment(environ: Mapping[str, str]) -> list[Hint]:
    """RAY_ADDRESS as `ray.init` takes it, with or without a scheme; "auto" and "local" name no address."""
    endpoint = parse_endpoint(environ.get("RAY_ADDRESS", ""))
    return [Hint(Way.address, (endpoint,), place="RAY_ADDRESS")] if endpoint else []
