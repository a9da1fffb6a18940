"""Compose files from the plan: pure, the same on every machine, tested on exact output.

What belongs to one machine is left to variables with defaults, which `.env` sets (`ws.engine.machine`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ws.config.models import HEALTH_NAME, Config
from ws.config.plan import JOINER_CPUS, ClusterPlan, ExternalPlan, NodePlan, official_image
from ws.engine.base import Project
from ws.engine.environment import external_environment, node_environment, testbed_sizes, testbed_variable, variable
from ws.errors import EnvironmentProblem, UsageError
from ws.resources import find

LABEL = "org.cslr-exp-platform.project"
SETTINGS_LABEL = "org.cslr-exp-platform.settings"
TEST_LABEL = "org.cslr-exp-platform.test"
_MARKS = ("Rendered by `ws render`", LABEL)
DEFAULT_GATEWAY = "172.17.0.1"
GATEWAY = f"${{WS_GATEWAY:-{DEFAULT_GATEWAY}}}"
EVERYWHERE = "0.0.0.0"
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
COMPOSE_FILE = "compose.yaml"
GPU_FILE = "compose.gpu.yaml"
TEST_FILE = "cluster-test.compose.yaml"


def render(project: Project) -> dict[str, str]:
    """The rendered files by name: `compose.yaml`; where a node wants GPUs, `compose.gpu.yaml`; and the cluster test's."""
    context = main_context(project)
    files = {COMPOSE_FILE: _fill(project, COMPOSE_FILE, context)}
    gpu_nodes = [node for node in project.plan.nodes if node.gpus]
    if gpu_nodes:
        files[GPU_FILE] = _fill(project, GPU_FILE, {"nodes": gpu_nodes})
    if project.config.cluster_test.enabled:
        files[TEST_FILE] = _fill(project, TEST_FILE, testbed_context(project))
    return files


def outdated(project: Project) -> list[str]:
    """Names of rendered files that are missing, or that differ from what would be rendered now."""
    return _outdated(project, render(project))


def _outdated(project: Project, files: Mapping[str, str]) -> list[str]:
    return [
        name
        for name, text in files.items()
        if not (path := project.folder / name).exists() or path.read_text(encoding="utf-8") != text
    ]


def write_rendered(project: Project) -> list[str]:
    """Write the rendered files that are not in step; returns their names.

    Raises EnvironmentProblem rather than overwrite a file of the same name that is somebody else's.
    """
    files = render(project)
    stale = _outdated(project, files)
    for name, text in files.items():
        path = project.folder / name
        if name in stale and path.exists() and not any(mark in path.read_text(encoding="utf-8") for mark in _MARKS):
            raise EnvironmentProblem(
                f"{path} is there already, and not ours",
                "ws would overwrite it with the Compose file that it renders",
                "use a folder of its own: ws -C DIR …; or move that file away",
            )
        if name in stale:
            path.write_text(text, encoding="utf-8")
    return stale


def is_ours(path: Path, project: str) -> bool:
    """Whether this is a Compose file that was rendered for the project of that name."""
    return path.exists() and f"{LABEL}: {project}" in path.read_text(encoding="utf-8", errors="replace")


def _fill(project: Project, name: str, context: dict[str, Any]) -> str:
    source = find(project.folder, f"template/{name}.jinja2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701 (no HTML)
    environment.filters |= {"quoted": quoted, "plain": plain}
    try:
        return environment.from_string(source).render(context)
    except jinja2.TemplateError as error:
        raise _broken_template(project, name, error) from None


def _broken_template(project: Project, name: str, error: jinja2.TemplateError) -> UsageError:
    line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
    path = find(project.folder, f"template/{name}.jinja2")
    return UsageError(
        f"{path}{line} can't be rendered", str(error), "correct it; where there is none, the packaged template is taken"
    )


def quoted(value: object) -> str:
    """A value as a double-quoted YAML string; `$` is doubled, so that Compose leaves it as it is."""
    text = str(value)
    if not text.startswith("${WS_"):
        text = text.replace("$", "$$")
    return json.dumps(text, ensure_ascii=False)


def plain(value: object) -> str:
    """A name as YAML, quoted only where YAML would take it for a number, a truth value or nothing."""
    text = str(value)
    is_name = re.fullmatch(r"[A-Za-z][\w./-]*(:[\w.-]+)?", text) and text.lower() not in _YAML_WORDS
    return text if is_name else quoted(text)


def settings_marks(project: Project) -> dict[str, str]:
    """For the health server and each node, a short hash of all that its container is made from.

    It stands in the container's label, and tells whether one that runs is still as the config wants it. Compose's own hash
    cannot: it differs with the names that a command gives.
    """
    context = main_context(project)
    return {"health": context["health"]["settings"], **{node["hostname"]: node["settings"] for node in context["nodes"]}}


def main_context(project: Project) -> dict[str, Any]:
    """What the cluster's template is filled with."""
    config, plan = project.config, project.plan
    context = _unmarked_context(config, plan)
    shared = [context["project"], context["extra_hosts"], config.network.model_dump(mode="json")]
    for service in (context["health"], *context["nodes"]):
        text = json.dumps([service, shared], sort_keys=True, default=str)
        service["settings"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return context


def _unmarked_context(config: Config, plan: ClusterPlan) -> dict[str, Any]:
    entry_addresses = published_on(config)
    return {
        "project": plan.project,
        "network": config.network,
        "extra_hosts": {external.hostname: host_address(config) for external in plan.external},
        "health": {
            "image": config.services.health.image,
            "port": plan.health_port,
            "whitelist": ",".join(config.nodes.head_whitelist),
            "lease_ttl": f"{config.nodes.health_service.lease_ttl:g}",
            "address": plan.health_address,
            "ports": _published(entry_addresses, plan.health_port),
        },
        "nodes": [_node(config, plan, node, entry_addresses) for node in plan.nodes],
    }


def host_address(config: Config) -> str:
    """What `extra_hosts` gives for this host: Docker's own word for the bridge gateway, or the configured address."""
    return "host-gateway" if config.host.ip_address == "auto" else str(config.host.ip_address)


def address_of(config: Config, place: str) -> str:
    """The address to publish on, for "loopback", "gateway" or an IP address."""
    if place == "loopback":
        return "127.0.0.1"
    if place == "gateway":
        return GATEWAY if config.host.ip_address == "auto" else str(config.host.ip_address)
    return str(ipaddress.ip_address(place))


def published_on(config: Config) -> list[str]:
    """The addresses that entries are published on, each once: Docker refuses a second publishing of the same port."""
    addresses = list(dict.fromkeys(address_of(config, place) for place in config.network.publish_entries))
    return [EVERYWHERE] if EVERYWHERE in addresses else addresses


def _published(addresses: Sequence[str], *ports: int) -> list[str]:
    return [f"{address}:{port}:{port}" for port in ports for address in addresses]


def _node(config: Config, plan: ClusterPlan, node: NodePlan, entry_addresses: list[str]) -> dict[str, Any]:
    ports = _published(entry_addresses, node.entry.head, node.entry.dashboard, node.entry.client) if node.candidate else []
    if config.network.publish_blocks != "none":
        address = address_of(config, str(config.network.publish_blocks))
        ports.append(f"{address}:{node.block.first}-{node.block.last}:{node.block.first}-{node.block.last}")
    before = [other.hostname for other in plan.candidates[:1] if other is not node]
    return {
        "hostname": node.hostname,
        "container": node.container,
        "image": node.image,
        "environment": node_environment(config, plan, node),
        "volumes": config.services.ray.volumes,
        "ports": ports,
        "address": node.address,
        "depends_on": ["health", *before],
        "cpu_limit": f"${{{variable(node.key, 'CPU_LIMIT')}:-0}}",
        "memory_limit": f"${{{variable(node.key, 'MEMORY')}:-{node.memory}}}",
        "shm_size": f"${{{variable(node.key, 'SHM')}:-{node.shm_size}}}",
    }


def testbed_containers(project: Project) -> dict[str, str]:
    """The containers of the cluster test by hostname: client, worker, joiner."""
    test, name = project.config.cluster_test, project.plan.project
    hostnames = {"client": test.client.hostname, "worker": test.worker.hostname, "joiner": test.joiner.hostname}
    return {hostname: f"{name}-test-{part}" for part, hostname in hostnames.items()}


def default_entry(config: Config, plan: ClusterPlan) -> str:
    """The entry that the test's worker joins by, `host:port`: the first candidate's."""
    for node in plan.candidates:
        return f"{node.hostname}:{node.entry.head}"
    return config.nodes.head_address or ""


def testbed_context(project: Project) -> dict[str, Any]:
    """What the cluster test's template is filled with."""
    config, plan = project.config, project.plan
    host = host_address(config)
    containers = testbed_containers(project)
    client, worker, joiner = containers
    names = [HEALTH_NAME, *(node.hostname for node in plan.nodes)]
    names += [node.hostname for node in plan.external if node.hostname not in containers]
    of_worker = f"${{WS_TEST_HEAD_ADDRESS:-{default_entry(config, plan)}}}"
    of_joiner = "${WS_TEST_JOINER_HEAD_ADDRESS:-}"
    configured = f"${{WS_TEST_JOINER_HEAD_ADDRESS_CFG:-{config.nodes.head_address or ''}}}"
    planned = {node.hostname: node for node in plan.external}
    return {
        "project": plan.project,
        "network": config.cluster_test.network,
        "image": config.services.ray.image or official_image(),
        "volumes": config.services.ray.volumes,
        "extra_hosts": dict.fromkeys(names, host),
        "client": {
            "hostname": client,
            "container": containers[client],
            "entries": _client_entries(plan),
            "health": config.health_url.removeprefix("http://"),
        },
        "nodes": [
            {
                **_external(project, planned[worker], containers[worker]),
                "profile": "",
                "environment": external_environment(
                    config, plan, planned[worker], cpus=config.cluster_test.worker.cpus, head=of_worker
                ),
            },
            {
                **_external(project, planned[joiner], containers[joiner]),
                "profile": "joiner",
                "environment": {
                    **external_environment(config, plan, planned[joiner], cpus=JOINER_CPUS, head=of_joiner),
                    "HEAD_ADDRESS_CFG": configured,
                },
            },
        ],
    }


def _external(project: Project, node: ExternalPlan, container: str) -> dict[str, Any]:
    target = str(project.config.network.publish_blocks)
    block = f"{node.block.first}-{node.block.last}"
    memory, shm_size, _ = testbed_sizes(project.config)
    return {
        "hostname": node.hostname,
        "container": container,
        "ports": [] if target == "none" else [f"{address_of(project.config, target)}:{block}:{block}"],
        "cpu_limit": f"${{{testbed_variable('CPU_LIMIT')}:-0}}",
        "memory_limit": f"${{{testbed_variable('MEMORY')}:-{memory}}}",
        "shm_size": f"${{{testbed_variable('SHM')}:-{shm_size}}}",
    }


def _client_entries(plan: ClusterPlan) -> str:
    entries = [
        {"name": node.hostname, "gcs": node.entry.head, "client": node.entry.client, "dashboard": node.entry.dashboard}
        for node in plan.candidates
    ]
    return json.dumps(entries, separators=(",", ":"))
