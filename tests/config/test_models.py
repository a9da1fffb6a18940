from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from ws.config.models import Config, NodeSettings, RaySettings
from ws.config.show import dump, schema


def test_the_default_cluster_is_cpu_and_gpu() -> None:
    nodes = Config().services.ray.nodes
    assert list(nodes) == ["cpu", "gpu"]
    assert [(node.cpus, node.memory, node.gpus) for node in nodes.values()] == [(4, "8g", 0), (4, "8g", 1)]
    cpu, gpu = nodes.values()
    assert (cpu.head_port, cpu.dashboard_port, cpu.client_port) == (6379, 8265, 10001)
    assert (gpu.head_port, gpu.dashboard_port, gpu.client_port) == (6380, 8266, 10002)


def test_naming_one_node_leaves_the_other_out() -> None:
    ray = RaySettings.model_validate({"cpu": {"cpus": 2}})
    assert list(ray.nodes) == ["cpu"]
    assert (ray.nodes["cpu"].cpus, ray.nodes["cpu"].head_port) == (2, 6379)


def test_shared_settings_alone_keep_the_default_nodes() -> None:
    assert list(RaySettings.model_validate({"image": "my-ray:1.0"}).nodes) == ["cpu", "gpu"]


def test_other_nodes_start_from_the_plain_settings() -> None:
    assert RaySettings.model_validate({"big": {}}).nodes["big"] == NodeSettings()


@pytest.mark.parametrize("key", ["c_pu", "Cpu", "2cpu", "cpu-", "a--b", "x" * 41])
def test_a_node_key_must_make_a_hostname(key: str) -> None:
    with pytest.raises(ValidationError, match="not a name for a node"):
        RaySettings.model_validate({key: {}})


def test_more_node_keys_than_anyone_writes_are_refused() -> None:
    with pytest.raises(ValidationError, match="names 65 nodes"):
        RaySettings.model_validate({f"n{number}": {} for number in range(65)})


def test_nothing_can_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Config().project.name = "other"


def test_memory_may_be_a_number_of_bytes() -> None:
    assert NodeSettings.model_validate({"memory": 8589934592}).memory == "8589934592"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("project", "name", "Upper"),
        ("project", "name", ""),
        ("host", "ip_address", "300.1.1.1"),
        ("host", "ip_address", "::1"),
        ("host", "ip_address", "0.0.0.0"),
        ("host", "gpu", 1),
        ("host", "gpu", "yes please"),
        ("network", "subnet", "172.28.0.0"),
        ("network", "subnet", "fd00::/64"),
        ("network", "subnet", "172.28.0.1/16"),
        ("network", "subnet", "127.0.0.0/8"),
        ("network", "subnet", "172.28.0.0/33"),
        ("network", "port_base", 1023),
        ("network", "port_base", True),
        ("network", "port_base", "31000"),
        ("network", "publish_entries", ["none"]),
        ("network", "publish_blocks", "lan"),
        ("network", "external_nodes", ["a b"]),
        ("nodes", "head_whitelist", []),
        ("nodes", "head_whitelist", ["-x"]),
        ("nodes", "head_address", "ray-cpu"),
        ("nodes", "head_address", "ray-cpu:0"),
        ("nodes", "head_address", "ray-cpu:70000"),
        ("nodes", "head_address", "user:secret@ray-cpu:6379"),
    ],
)
def test_values_that_cannot_work_are_refused(section: str, key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({section: {key: value}})
    assert caught.value.errors()[0]["loc"][:2] == (section, key)


@pytest.mark.parametrize(
    "url", ["health:8080", "https://health:8080", "http://health", "http://u:p@health:8080", "http://h:8080/x"]
)
def test_the_health_url_is_host_and_port(url: str) -> None:
    with pytest.raises(ValidationError, match="http://host:port"):
        Config.model_validate({"nodes": {"health_service": {"url": url}}})


@pytest.mark.parametrize("value", [0, -1, 3601, float("nan"), float("inf"), True, "1"])
def test_seconds_are_positive_and_bounded(value: object) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"nodes": {"cluster": {"wait_for_head": value}}})


@pytest.mark.parametrize("name", ["WS_NODE_NAME", "HEAD_WHITELIST", "RAY_AUTH_TOKEN", "1X", "A B"])
def test_env_cannot_take_what_the_agent_is_told(name: str) -> None:
    with pytest.raises(ValidationError):
        RaySettings.model_validate({"env": {name: "x"}})


@pytest.mark.parametrize("volume", ["/data", "a:b", ":/data", "a:/b:ro:x"])
def test_volumes_have_a_source_and_an_absolute_target(volume: str) -> None:
    with pytest.raises(ValidationError, match="source:target"):
        RaySettings.model_validate({"volumes": [volume]})


@pytest.mark.parametrize("root", ["data", "", "./data", "~me/data", "/a/../b", "/a:/b", "/a\n"])
def test_roots_are_whole_paths_of_a_node(root: str) -> None:
    with pytest.raises(ValidationError, match="path"):
        RaySettings.model_validate({"transfer_roots": [root]})


@pytest.mark.parametrize("root", ["/", "/data", "~", "~/data", "/a b/$c"])
def test_a_root_may_be_in_the_home(root: str) -> None:
    assert RaySettings.model_validate({"transfer_roots": [root]}).transfer_roots == (root,)


def models() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = [Config]
    for model in found:
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found.append(field.annotation)
    return [*found, NodeSettings]


@pytest.mark.parametrize("model", models(), ids=lambda model: model.__name__)
def test_every_key_says_what_it_is(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_the_schema_is_one_and_takes_what_the_models_take() -> None:
    described = schema()
    validator = jsonschema.Draft202012Validator
    validator.check_schema(described)
    assert described["title"].startswith("config.yaml")
    assert validator(described).is_valid(yaml.safe_load(dump(Config())))
    assert validator(described).is_valid({"network": None, "services": {"ray": {"big-node": None, "image": "a:1"}}})


@pytest.mark.parametrize(
    "data",
    [
        {"netwrok": {}},
        {"services": {"ray": {"my_node": {}}}},
        {"services": {"ray": {"cpu": {"cpu": 4}}}},
        {"services": {"ray": {"image": {}}}},
        {"network": {"port_base": 99999}},
    ],
)
def test_the_schema_refuses_what_the_models_refuse(data: object) -> None:
    assert not jsonschema.Draft202012Validator(schema()).is_valid(data)
    with pytest.raises(ValidationError):
        Config.model_validate(data)


def test_what_is_shown_is_the_same_configuration() -> None:
    config = Config.model_validate({"services": {"ray": {"big": {"env": {"A": "010", "B": "yes"}}}}})
    assert Config.model_validate(yaml.safe_load(dump(config))) == config


def test_secrets_are_not_shown() -> None:
    env = {"HF_TOKEN": "hunter2", "DB_PASSWORD": "hunter2", "TOKENIZERS_PARALLELISM": "false", "SECRET_FILE": "/s"}
    config = Config.model_validate({"services": {"ray": {"env": env, "cpu": {"env": env}}}})
    text = dump(config)
    assert "hunter2" not in text
    assert text.count("'***'") == 4
    assert text.count("TOKENIZERS_PARALLELISM: 'false'") == text.count("SECRET_FILE: /s") == 2


def test_the_configuration_loads_without_ray() -> None:
    script = "import sys; from ws.config import load, plan, show; load.load(None, {}); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_package_itself_imports_nothing() -> None:
    script = "import sys, ws.config; print(sorted(name for name in ('pydantic', 'yaml', 'ray') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def keys_with_defaults(model: type[BaseModel], prefix: str) -> list[tuple[str, str]]:
    """Every key with its default as YAML writes it; None is null."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += keys_with_defaults(field.annotation, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        plain = list(default) if isinstance(default, tuple) else default
        text = f"{plain:g}" if isinstance(plain, float) else yaml.safe_dump(plain, default_flow_style=True)
        found.append((prefix + name, text.removesuffix("\n").removesuffix("\n...")))
    return found


def test_the_reference_has_every_key_with_its_default() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "config.md").read_text(encoding="utf-8")
    keys = keys_with_defaults(Config, "") + keys_with_defaults(NodeSettings, "services.ray.KEY.")
    assert len(keys) > 40
    assert [key for key, default in keys if f"| `{key}` | `{default}` |" not in reference] == []
