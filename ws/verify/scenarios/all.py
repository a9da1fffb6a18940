"""The scenarios of `ws test`, in the order in which they are shown."""

from __future__ import annotations

from ws.verify.scenarios import (
    election,
    external_worker,
    head_override,
    injection,
    isolation,
    links,
    path,
    ray_client,
    services,
    stability,
    transfer,
)

ALL = (
    election.SCENARIO,
    external_worker.SCENARIO,
    ray_client.SCENARIO,
    head_override.SCENARIO,
    injection.SCENARIO,
    services.SCENARIO,
    path.SCENARIO,
    isolation.SCENARIO,
    links.SCENARIO,
    transfer.SCENARIO,
    stability.STABILITY,
)
