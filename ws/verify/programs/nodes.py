"""The nodes of a cluster as a driver, or a Ray Client, sees them; runs until its stdin ends.

PARAMS: {"address": as for `ray.init`, "interval", "patience", "pulse"}: seconds between two looks, and seconds within which
another attempt to connect is begun, because a head may be slow to start a server for a client; `pulse` as of `watch`.

Events:  {"event": "connected", "ray", "python", "dashboard"}: the cluster's versions, and the dashboard's address as the
         head knows it, null where it has none.
         {"event": "refused", "why"}: connecting failed for good, in Ray's own words; it ends.
         {"event": "settings", "environment"}: the settings of Ray's health check as the head's workers have them, under the
         names of the variables that set them; once, where a task on the head can tell.
         {"event": "nodes", "nodes"}: as the program `watch` says it, at the start and whenever any of it has changed.
         {"event": "same"}, with "pulse": the nodes were asked for again, and nothing has changed.
         {"event": "lost", "why"}: the connection broke; it ends.
"""

import sys
import time

from common import brief, emit, parameters

# A plain head fails one Ray Client in ten on a busy machine, and is slow in saying so; the next attempt is a new chance.
# https://github.com/ray-project/ray/issues/63202
NOT_SERVED, MOST_UNSERVED = "Starting Ray client server failed", 3
HEAD = "node:__internal_head__"
# Of Ray's `NodeDeathInfo.Reason`: a node that was told to end, or that its autoscaler had no more work for.
WANTED_ENDS = ("EXPECTED_TERMINATION", "AUTOSCALER_DRAIN_IDLE")


def connect(ray, address, deadline):
    unserved = 0
    while True:
        try:
            # No working_dir and no other runtime_env: a cluster may be somebody else's (DESIGN decision 8).
            return ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except Exception as error:
            unserved += NOT_SERVED in str(error)
            late = time.monotonic() > deadline and (not unserved or unserved >= MOST_UNSERVED)
            if "Version mismatch" in str(error) or late:
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
        "wanted": reason(node.get("DeathReason")) in WANTED_ENDS,
    }


def reason(number):
    """The name of a reason for a node's death."""
    from ray.core.generated.common_pb2 import NodeDeathInfo

    return NodeDeathInfo.Reason.Name(number or 0) if number in NodeDeathInfo.Reason.values() else ""


def ask_settings(ray):
    """A task on the head that tells its settings; None where it can't be asked for."""

    def tell():
        try:
            from ray._raylet import Config

            names = ("health_check_period_ms", "health_check_timeout_ms", "health_check_failure_threshold")
            return {f"RAY_{name}": str(getattr(Config, name)()) for name in names}
        except (ImportError, AttributeError):
            return {}  # not part of Ray's public interface

    try:
        return ray.remote(num_cpus=0, resources={HEAD: 0.001}, max_retries=0)(tell).remote()
    except Exception:
        return None


def settings(ray, asked):
    """(what is still waited for, the answer or None); never blocks."""
    try:
        if ray.wait([asked], timeout=0)[0]:
            return None, ray.get(asked, timeout=1)
    except Exception:
        return None, None
    return asked, None


def main():
    params = parameters()
    import ray

    try:
        context = connect(ray, params["address"], time.monotonic() + params["patience"])
    except Exception as error:
        emit("refused", why=f"{type(error).__name__}: {error}"[-3000:])
        return 1
    emit("connected", ray=context.ray_version, python=context.python_version, dashboard=context.dashboard_url or None)
    last, asked = None, ask_settings(ray)
    while True:
        try:
            nodes = look(ray)
        except Exception as error:
            emit("lost", why=brief(error))
            return 1
        if nodes != last:
            emit("nodes", nodes=nodes)
        elif params.get("pulse"):
            emit("same")
        last = nodes
        if asked is not None:
            asked, told = settings(ray, asked)
            if told:
                emit("settings", environment=told)
        time.sleep(params["interval"])


if __name__ == "__main__":
    sys.exit(main())
