"""The configuration for people (YAML) and for editors (JSON schema)."""

from __future__ import annotations

from typing import Any

import yaml

from ws.config.fields import NODE_KEY_PATTERN, looks_secret
from ws.config.models import Config

_HIDDEN = "***"


def dump(config: Config) -> str:
    """The effective configuration as YAML. Environment variables that look like secrets are shown as ***."""
    return yaml.safe_dump(as_data(config), sort_keys=False, allow_unicode=True)


def as_data(config: Config) -> dict[str, Any]:
    """The effective configuration as plain data, with *** for the same variables."""
    data: dict[str, Any] = _hidden(config.model_dump(mode="json"))
    return data


def schema() -> dict[str, Any]:
    """The JSON schema of config.yaml, by which editors complete and check it."""
    generated = Config.model_json_schema()
    ray = generated["$defs"]["RaySettings"]
    # pydantic describes a node's settings but not what a node may be called.
    shared = "|".join(ray["properties"])
    node = {"anyOf": [ray["additionalProperties"], {"type": "null"}]}
    ray["patternProperties"] = {f"^(?!({shared})$){NODE_KEY_PATTERN[1:]}": node}
    ray["additionalProperties"] = False
    _allow_empty(generated)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **generated,
        "title": "config.yaml of cslr-exp-platform",
    }


def _hidden(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    return {
        key: _masked(value) if key == "env" and isinstance(value, dict) else _hidden(value) for key, value in data.items()
    }


def _masked(env: dict[str, str]) -> dict[str, str]:
    return {name: _HIDDEN if looks_secret(name) else value for name, value in env.items()}


def _allow_empty(generated: dict[str, Any]) -> None:
    """A section, list or mapping without a value means its default, to `load` and so to editors."""
    for model in (generated, *generated["$defs"].values()):
        for described in model["properties"].values():
            reference = described.pop("$ref", None)
            if reference:
                described["anyOf"] = [{"$ref": reference}, {"type": "null"}]
            elif described.get("type") in ("array", "object"):
                described["type"] = [described["type"], "null"]
