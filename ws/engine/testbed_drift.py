"""What runs compared with what config.yaml says now, in words."""

from __future__ import annotations

from collections.abc import Iterator

from ws.config.fields import looks_secret
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.environment import node_environment, resolved
from ws.engine.machine import in_effect
from ws.engine.render import SETTINGS_LABEL, settings_marks
from ws.engine.testbed_docker import translated

_MOST_DETAILS = 5
_LONG = {"WS_NODE_PORTS": "the ports of its block differ", "WS_CANDIDATES": "the candidates or their ports differ"}


@translated()
def drift(engine: ComposeEngine, project: Project) -> list[str]:
    """How the running cluster differs from the configuration: nodes missing, nodes that it does not name, other settings."""
    running = [state.name for state in engine.nodes(project)]
    marks = settings_marks(project)
    found = [f"{name} is in the configuration, and there is no container for it" for name in marks if name not in running]
    found += [f"{name} is there, and the configuration does not name it" for name in running if name not in marks]
    for name in running:
        if name in marks:
            found += _changed(engine, project, name, marks[name])
    return found


def _changed(engine: ComposeEngine, project: Project, name: str, mark: str) -> list[str]:
    container = engine.client.containers.get(f"{project.plan.project}-{name}")
    if container.labels.get(SETTINGS_LABEL) == mark:
        return []
    config = container.attrs["Config"]
    details = []
    if name != "health":
        has = dict(entry.split("=", 1) for entry in config["Env"] if "=" in entry)
        node = project.plan.node(name)
        if config["Image"] not in (node.image, node.gpu_image):
            details.append(f"its image is {config['Image']}, now {node.image}")
        details += _variables(engine, project, name, has)
    shown = "; ".join(details[:_MOST_DETAILS]) or "its ports, mounts, names of other hosts or limits"
    more = f"; and {len(details) - _MOST_DETAILS} more" if len(details) > _MOST_DETAILS else ""
    return [f"{name} was started with other settings: {shown}{more}"]


def _variables(engine: ComposeEngine, project: Project, name: str, has: dict[str, str]) -> Iterator[str]:
    """Each variable of the node's environment that the configuration gives another value."""
    values = in_effect(project, engine.machine)
    for variable, text in node_environment(project.config, project.plan, project.plan.node(name)).items():
        wanted = resolved(text, values)
        if variable != "WS_NUM_GPUS" and has.get(variable) != wanted:
            yield _LONG.get(variable) or _difference(variable, has.get(variable), wanted)


def _difference(variable: str, has: str | None, wanted: str) -> str:
    if looks_secret(variable):
        return f"{variable} is missing, now ***" if has is None else f"{variable} is ***, now another"
    return f"{variable} is {'missing' if has is None else f'{has!r:.80}'}, now {wanted!r:.80}"
