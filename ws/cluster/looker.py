"""Looks at a cluster where no dashboard can be reached, one JSON object per line on stdout. Ray and standard library alone.

It is run as text, by `python -u -c TEXT PARAMS`, in a process of its own: Ray's connections belong to a whole process, and
can hang or abort it. Its stdin is a pipe that whoever started it holds open: when that ends, so does this.
PARAMS is a JSON object: `way` ("gcs": a GcsClient at `address`, no driver; "client": Ray Client at `address`; "local":
start a Ray of its own, which ends with this process), `ray` and `python` (versions that it must not differ from), `every`
(seconds from look to look), `init` (arguments of `ray.init`).

Lines:  {"look": {"session", "ray", "python", "dashboard", "nodes": [...], "actors": [...] or null}}
        {"problem": "why the look failed"}   {"mismatch": {"ray", "python"}}
A node: {"node_id", "name", "address", "alive", "head", "total", "free" or null, "labels", "hostname", "port"}
"""

import asyncio
import json
import os
import platform
import re
import sys
import threading
import time

TIMEOUT = 2  # seconds for one question
SHUTDOWN = 15  # seconds for taking down a Ray of our own
ALIVE = 0  # GcsNodeInfo.ALIVE
# Plain heads fail one Ray Client in ten on a busy machine: https://github.com/ray-project/ray/issues/63202
NOT_SERVED, ATTEMPTS = "Starting Ray client server failed", 3
# Ray Client's words (ray/_private/utils.py, check_version_info)
REFUSED = re.compile(r"cluster was started with:\s*Ray: (\S+)\s*Python: (\S+)")


def emit(**line):
    print(json.dumps(line), flush=True)


def brief(error):
    """The telling line of a Ray error, whose text may be a page long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:500]


class Mismatch(Exception):
    """The cluster's versions are not ours; what they are."""


class GcsEyes:
    """Looks by a GcsClient: no driver, no job, nothing that the cluster's users would see."""

    def __init__(self, params):
        from ray._raylet import GcsClient

        self.gcs = GcsClient(address=params["address"])
        self.versions = self.read_versions()
        if self.versions.get("ray_version", params["ray"]) != params["ray"]:
            raise Mismatch(self.versions["ray_version"], self.versions.get("python_version", ""))

    def read_versions(self):
        text = self.gcs.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=TIMEOUT) or self.gcs.internal_kv_get(
            b"CLUSTER_METADATA", None, timeout=TIMEOUT
        )
        return json.loads(text) if text else {}

    def known(self, key, namespace):
        return (self.gcs.internal_kv_get(key, namespace, timeout=TIMEOUT) or b"").decode()

    def look(self):
        free = self.free()
        return {
            "session": self.known(b"session_name", b"session"),
            "ray": self.versions.get("ray_version", ""),
            "python": self.versions.get("python_version", ""),
            "dashboard": self.known(b"dashboard", b"dashboard") or None,
            "nodes": [self.node(info, free) for info in self.gcs.get_all_node_info(timeout=TIMEOUT).values()],
            "actors": self.actors(),
        }

    def node(self, info, free):
        node_id, total = info.node_id.hex(), dict(info.resources_total)
        available = free.get(node_id)
        return {
            "node_id": node_id,
            "name": info.node_name or info.node_manager_address,
            "address": info.node_manager_address,
            "alive": info.state == ALIVE,
            "head": info.is_head_node,
            "total": total,
            # Ray leaves out what is all in use.
            "free": None if available is None else {name: available.get(name, 0.0) for name in total},
            "labels": dict(info.labels),
            "hostname": info.node_manager_hostname,
            "port": info.node_manager_port,
        }

    def free(self):
        try:
            usage = self.gcs.get_all_resource_usage(timeout=TIMEOUT).resource_usage_data.batch
            return {each.node_id.hex(): dict(each.resources_available) for each in usage}
        except Exception:  # not part of Ray's public interface: without it, free resources are unknown
            return {}

    def actors(self):
        try:
            found = asyncio.run(self.ask_for_actors())
        except Exception:  # as above
            return None
        return [self.actor(info) for info in found.values() if info.state == info.ALIVE]

    async def ask_for_actors(self):
        """There is no blocking form of this question."""
        return await self.gcs.async_get_all_actor_info(timeout=TIMEOUT)

    def actor(self, info):
        return {
            "actor_id": info.actor_id.hex(),
            "class_name": info.class_name,
            "name": info.name,
            "namespace": info.ray_namespace,
            "node_id": info.address.node_id.hex(),
        }


class DriverEyes:
    """Looks by `ray.init`: through Ray Client, or at a Ray that it starts itself."""

    def __init__(self, params):
        import ray

        self.ray = ray
        address = f"ray://{params['address']}" if params["way"] == "client" else "local"
        context = self.connect(address, params["init"])
        self.versions = {"ray": ray.__version__, "python": context.python_version or platform.python_version()}
        self.dashboard = (context.dashboard_url or "").removeprefix("http://").rstrip("/") or None

    def connect(self, address, init):
        attempt = 0
        while True:
            attempt += 1
            try:
                return self.ray.init(address, log_to_driver=False, logging_level="ERROR", **init)
            except ConnectionError as error:
                if attempt == ATTEMPTS or NOT_SERVED not in str(error):
                    raise

    def look(self):
        return {
            "session": "",
            **self.versions,
            "dashboard": self.dashboard,
            "nodes": [self.node(info) for info in self.ray.nodes()],
            "actors": None,
        }

    def node(self, info):
        return {
            "node_id": info["NodeID"],
            "name": info.get("NodeName") or info["NodeManagerAddress"],
            "address": info["NodeManagerAddress"],
            "alive": info["Alive"],
            "head": "node:__internal_head__" in info["Resources"],
            "total": info["Resources"],
            "free": None,
            "labels": info.get("Labels") or {},
            "hostname": info.get("NodeManagerHostname"),
            "port": info.get("NodeManagerPort"),
        }


def end_with_parent():
    """Nobody listens any more once stdin has ended, even where the one that started us was killed."""

    def wait():
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main():
    params = json.loads(sys.argv[1])
    if params["way"] != "local":  # a Ray of our own must be taken down in good order
        end_with_parent()
    # Under `uv run`, Ray would have every worker of the cluster run by uv, with this folder uploaded.
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    # A call after the connection broke would have Ray start a cluster here, and tell of that.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    try:
        eyes = GcsEyes(params) if params["way"] == "gcs" else DriverEyes(params)
    except Mismatch as mismatch:
        ray_version, python_version = mismatch.args
        emit(mismatch={"ray": ray_version, "python": python_version})
        return 1
    except Exception as error:
        refused = REFUSED.search(str(error))
        emit(mismatch={"ray": refused[1], "python": refused[2]}) if refused else emit(problem=brief(error))
        return 1
    if params["way"] == "local":
        watch_in_thread(eyes, params["every"])
        sys.stdin.read()
        deadline = threading.Timer(SHUTDOWN, os._exit, (1,))
        deadline.daemon = True
        deadline.start()
        eyes.ray.shutdown()
        return 0
    watch(eyes, params["every"])
    return 0


def watch(eyes, every):
    while True:
        began = time.monotonic()
        try:
            emit(look=eyes.look())
        except Exception as error:
            emit(problem=brief(error))
        time.sleep(max(0.1, every - (time.monotonic() - began)))


def watch_in_thread(eyes, every):
    threading.Thread(target=watch, args=(eyes, every), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
