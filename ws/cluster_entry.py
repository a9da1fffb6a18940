"""Whether a GCS answers at an entry, before anything is started that should join by it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ws.cluster_site import ProjectSite
from ws.config.plan import ClusterPlan
from ws.engine.testbed import TestBed
from ws.engine.testbed_head import entries, first_entry
from ws.errors import CheckFailed
from ws.verify.outside_local import HERE, Credentials, LocalRuns
from ws.verify.programs import ask

_TIMEOUT = 2.0  # seconds to connect
_LIMIT = 20.0  # seconds for all of it
_OTHERS = {"client": "a Ray Client server", "dashboard": "a dashboard", "health": "a health server"}


def require_entry(bed: TestBed, site: ProjectSite, head: str) -> None:
    """Raise CheckFailed where no GCS answers at the entry `head` (host:port), reached as the test network reaches it."""
    plan = bed.project.plan
    host, port = head.rsplit(":", 1)
    ours = any(node.hostname == host for node in plan.nodes)
    place = site.host_address if ours else host
    here = LocalRuns(Credentials(site.lookout.token(), "the project's token"))
    params = {"targets": [[place, int(port)]], "timeout": _TIMEOUT, "identify": True}
    answers = ask(here, HERE, "netprobe", params, _LIMIT)
    found = next((event for event in answers if event["event"] == "target"), {})
    if found.get("speaks") == "gcs":
        return
    leader = site.lookout.leader()
    leads = f"{leader.name} leads (epoch {leader.epoch})" if leader else "nobody leads right now"
    raise CheckFailed(
        f"nobody answers at the entry {head}",
        f"{_obstacle(found, host, f'{place}:{port}', plan)}\n{leads}; entries: {entries(plan)}",
        f"ws test --up --head {first_entry(plan)}",
    )


def _obstacle(found: Mapping[str, Any], host: str, place: str, plan: ClusterPlan) -> str:
    outcome = found.get("outcome", "unknown")
    if outcome == "unresolved":
        near = difflib.get_close_matches(host, [node.hostname for node in plan.nodes], n=1)
        return f"{host} is no node of this cluster, and no name that resolves{f'; did you mean {near[0]}?' if near else ''}"
    if outcome == "refused":
        return f"{place} refuses the connection: no entry is published there, or the node behind it does not lead to a head"
    if outcome == "open":
        what = _OTHERS.get(found["speaks"], f"no GCS ({found['detail']})")
        return f"what answers at {place} is {what}"
    return f"{place} can't be reached from this machine: {found.get('detail') or outcome}"
