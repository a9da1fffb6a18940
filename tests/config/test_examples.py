from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from ws.config.load import Loaded, load
from ws.config.models import Config
from ws.config.plan import plan
from ws.config.show import schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def example(name: str) -> Loaded:
    return load(ROOT / "examples" / f"{name}.yaml", {})


def test_every_way_of_running_has_an_example() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "single-node",
        "cpu-gpu",
        "replicas-20",
        "three-candidates",
        "open-to-lan",
        "custom-image",
        "local-engine",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_loads_and_says_what_it_is(path: Path) -> None:
    loaded = load(path, {})
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert plan(loaded.config).candidates
    assert bool(loaded.warnings) == (path.stem == "open-to-lan")


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *EXAMPLES], ids=lambda path: path.stem)
def test_editors_accept_what_loads(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(data)


def test_the_config_of_the_project_holds_the_defaults() -> None:
    loaded = load(ROOT / "config.yaml", {})
    assert loaded.config == Config()
    assert loaded.warnings == ()


def test_the_config_of_the_project_shows_every_section() -> None:
    data = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    assert list(data) == list(Config.model_fields)


def test_cpu_gpu_is_the_default() -> None:
    assert example("cpu-gpu").config == Config()


def test_twenty_replicas_publish_no_block() -> None:
    cluster = plan(example("replicas-20").config)
    assert len(cluster.nodes) == 20
    assert [node.hostname for node in cluster.candidates] == ["ray-cpu", "ray-cpu-2"]
    assert all(node.block.workers is None for node in cluster.nodes)
    assert cluster.external == ()


def test_opening_to_the_local_network_is_said() -> None:
    warnings = example("open-to-lan").warnings
    assert [warning.path for warning in warnings] == ["network.publish_entries[1]", "network.publish_blocks"]
    assert all("every machine that reaches 192.168.1.10" in warning.what for warning in warnings)
