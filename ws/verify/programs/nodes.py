"""The nodes of a cluster as a driver, or a Ray Client, sees them; runs until its stdin ends.

PARAMS: {"address": as for `ray.init`, "interval", "patience"}: seconds between two looks, and seconds within which another
attempt to connect is begun, because a head may be slow to start a server for a client.

Events:  {"event": "connected", "ray", "python", "dashboard"}: the cluster's versions, and the dashboard's address as the
         head knows it, null where it has none.
         {"event": "refused", "why"}: connecting failed for good, in Ray's own words; it ends.
         {"event": "nodes", "nodes"}: as the program `watch` says it, at the start and whenever any of it has changed.
         {"event": "lost", "why"}: the connection broke; it ends.
"""

import sys
import time

from common import brief, emit, parameters

HEAD = "node:__internal_head__"


def connect(ray, address, deadline):
    while True:
        try:
            # No working_dir and no other runtime_env: a cluster may be somebody else's (DESIGN decision 8).
            return ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:
            if "Version mismatch" in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def look(ray):
    return sorted((described(node) for node in ray.nodes()), key=lambda node: node["id"])


def described(node):
    return {
        "name": node["NodeName"],
        "id": node["NodeID"],
        "alive": node["Alive"],
        "head": HEAD in node["Resources"],
        "address": node["NodeManagerAddress"],
        "cpus": node["Resources"].get("CPU", 0.0),
        "why": node.get("DeathReasonMessage") or "",
    }


def main():
    params = parameters()
    import ray

    try:
        context = connect(ray, params["address"], time.monotonic() + params["patience"])
    except Exception as error:
        emit("refused", why=f"{type(error).__name__}: {error}"[-3000:])
        return 1
    emit("connected", ray=context.ray_version, python=context.python_version, dashboard=context.dashboard_url or None)
    last = None
    while True:
        try:
            nodes = look(ray)
        except Exception as error:
            emit("lost", why=brief(error))
            return 1
        if nodes != last:
            emit("nodes", nodes=nodes)
        last = nodes
        time.sleep(params["interval"])


if __name__ == "__main__":
    sys.exit(main())
