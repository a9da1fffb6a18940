"""The environment of each node's container, by which the agent decides (`ws.node.settings`).

What depends on the machine is a variable with the config's value as its default; `.env` sets it (`ws.engine.machine`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ws.config.models import Config, NodeSettings
from ws.config.plan import ClusterPlan, ExternalPlan, NodePlan, PortBlock, sizes

AUTHENTICATION = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token"}


def variable(key: str, what: str) -> str:
    """The name of a node's variable in `.env`, for example WS_CPU_MEMORY for the key `cpu`."""
    return f"WS_{key.upper().replace('-', '_')}_{what}"


def resolved(text: str, values: Mapping[str, str]) -> str:
    """A value of a rendered file as Compose fills it in: `${WS_…:-default}`, where an empty variable counts as not set."""
    if not text.startswith("${WS_"):
        return text
    return re.sub(r"\$\{(WS_\w+):-([^}]*)\}", lambda found: values.get(found[1]) or found[2], text)


def testbed_variable(what: str) -> str:
    """The same for the workers of the cluster test: WS_MEMORY_TEST, which is no node's."""
    return f"WS_{what}_TEST"


def testbed_sizes(config: Config) -> tuple[int, int, int]:
    """Bytes of memory, /dev/shm and object store of each worker of the cluster test."""
    return sizes(NodeSettings(memory=config.cluster_test.worker.memory))


def node_environment(config: Config, plan: ClusterPlan, node: NodePlan) -> dict[str, str]:
    """The environment of a node of the main network."""
    memory = f"${{{variable(node.key, 'MEMORY')}:-{node.memory}}}"
    store = f"${{{variable(node.key, 'STORE')}:-{node.object_store_memory}}}"
    return {
        **_guidance(config),
        "RAY_HEAD_PORT": str(node.entry.head),
        "RAY_DASHBOARD_PORT": str(node.entry.dashboard),
        "RAY_CLIENT_PORT": str(node.entry.client),
        **_offer(plan, node.block, node.cpus, memory, store),
        **_roots(node.transfer_roots),
        **node.env,
    }


def external_environment(config: Config, plan: ClusterPlan, node: ExternalPlan, *, cpus: int, head: str) -> dict[str, str]:
    """The environment of a worker of the cluster test, which joins the entry `head` (host:port), if there is one."""
    memory, _, store = testbed_sizes(config)
    return {
        "HEAD_ADDRESS": head,
        **_guidance(config),
        **_offer(
            plan,
            node.block,
            cpus,
            f"${{{testbed_variable('MEMORY')}:-{memory}}}",
            f"${{{testbed_variable('STORE')}:-{store}}}",
        ),
        **_roots(config.services.ray.transfer_roots),
        **config.services.ray.env,
    }


def _guidance(config: Config) -> dict[str, str]:
    """What every node goes by when it looks for its part and for the head."""
    health = config.nodes.health_service
    seconds = "{:g}".format
    return {
        "HEAD_WHITELIST": ",".join(config.nodes.head_whitelist),
        "HEALTH_URL": config.health_url,
        "HEALTH_TIMEOUT": seconds(health.timeout),
        "HEALTH_MAX_RETRIES": str(health.max_retries),
        "HEALTH_RETRY_INTERVAL": seconds(health.retry_interval),
        "LEASE_TTL": seconds(health.lease_ttl),
        "HEAD_ADDRESS_CFG": config.nodes.head_address or "",
        "DISCOVERY_TIMEOUT": seconds(config.nodes.cluster.discovery_timeout),
        "WAIT_FOR_HEAD": seconds(config.nodes.cluster.wait_for_head),
    }


def _offer(plan: ClusterPlan, block: PortBlock, cpus: int, memory: str, store: str) -> dict[str, str]:
    """What a node brings along, and where it and the candidates are."""
    return {
        "RAY_NUM_CPUS": str(cpus),
        "WS_NUM_GPUS": "0",
        "WS_MEMORY": memory,
        "WS_OBJECT_STORE_MEMORY": store,
        "WS_NODE_PORTS": block.as_environment(),
        "WS_CANDIDATES": plan.candidates_json(),
        **AUTHENTICATION,
    }


def _roots(folders: Sequence[str]) -> dict[str, str]:
    """Below what a node serves and accepts files; none: its own default (`ws.transfer.onnode.names`)."""
    return {"WS_TRANSFER_ROOTS": ":".join(folders)} if folders else {}
