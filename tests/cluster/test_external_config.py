"""`config_external_cluster.json`: what is right, and every problem at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ws.cluster.connect import choose
from ws.cluster.external_config import ExternalConfig, load_external_config
from ws.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "config_external_cluster.json"


def written(folder: Path, value: Any) -> Path:
    path = folder / "config_external_cluster.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def problems(folder: Path, value: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_external_config(written(folder, value), {})
    return [f"{problem.path}: {problem.what}; {problem.mend}" for problem in caught.value.problems]


def test_the_example_is_the_one_of_the_guide() -> None:
    config = load_external_config(EXAMPLE, {})
    assert config.ray_cluster.address == "ray://127.0.0.1:10001"
    assert (config.ray_cluster.namespace, config.ray_cluster.external_cluster) == ("castray", True)
    assert (config.web_server.host, config.web_server.port) == ("127.0.0.1", 28823)


def test_without_a_file_nothing_is_started_and_nothing_made() -> None:
    cluster = load_external_config(None, {}).ray_cluster
    assert cluster.address is None
    assert not (cluster.allow_local_start or cluster.allow_local_fallback or cluster.create_demo_nodes)


def test_the_variable_names_the_file_and_a_path_wins_over_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"ray_cluster": {"address": "10.30.2.11:6379"}})
    assert load_external_config(None, {"CASTRAY_CONFIG": str(path)}).ray_cluster.address == "10.30.2.11:6379"
    assert load_external_config(EXAMPLE, {"CASTRAY_CONFIG": str(path)}) == load_external_config(EXAMPLE, {})


def test_the_environment_wins_over_the_file_and_a_given_address_over_both() -> None:
    environ = {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert choose("10.0.0.2:6379", environ, "10.0.0.3:6379") == ("10.0.0.2:6379", "--address")
    assert choose(None, environ, "10.0.0.3:6379") == ("10.0.0.1:6379", "RAY_ADDRESS")
    assert choose(None, {"RAY_ADDRESS": " "}, "10.0.0.3:6379") == ("10.0.0.3:6379", "the config")
    assert choose(None, {}, None) == (None, "discovery")
    assert choose("auto", environ, None)[0] is None


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        {
            "ray_cluster": {"address": "http//x:y", "namespace": "", "create_demo_nodes": "yes", "adress": 1},
            "web_server": {"host": "a b", "port": 70000},
            "webserver": {},
        },
    )
    assert len(told) == 7
    text = "\n".join(told)
    assert "ray_cluster.address: 'http//x:y' is no address; write host:port" in text
    assert "ray_cluster.adress: there is no such key; did you mean address?" in text
    assert "webserver: there is no such key; did you mean web_server?" in text
    assert "web_server.host: is no host to listen at" in text
    for key in ("namespace", "create_demo_nodes"):
        assert f"ray_cluster.{key}: " in text


@pytest.mark.parametrize("value", ["[]", "3", '"x"', '{"ray_cluster": 3}', '{"web_server": []}'])
def test_what_is_no_object_is_named(tmp_path: Path, value: str) -> None:
    (told,) = problems(tmp_path, value)
    assert "must be an object with keys and values" in told


def test_what_is_no_json_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no JSON") as caught:
        load_external_config(written(tmp_path, '{\n "ray_cluster": {,}\n}'), {})
    assert caught.value.problems[0].line == 2
    with pytest.raises(ConfigError, match="can't be read"):
        load_external_config(tmp_path / "missing.json", {})
    with pytest.raises(ConfigError, match="is no JSON"):
        load_external_config(written(tmp_path, "[" * 100_000), {})


def test_starting_one_here_contradicts_somebody_elses_cluster(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, {"ray_cluster": {"allow_local_start": True}})
    assert "contradicts external_cluster" in told
    allowed = {"ray_cluster": {"allow_local_start": True, "external_cluster": False}}
    assert load_external_config(written(tmp_path, allowed), {}).ray_cluster.allow_local_start


def test_a_secret_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, {"ray_cluster": {"address": "ray://user:hunter2@host:10001"}})
    assert "hunter2" not in told


def test_a_config_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ExternalConfig().web_server.port = 1
