from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ws.config.load import Loaded, load
from ws.config.models import Config
from ws.errors import ConfigError, Problem


class Folder:
    """A place for config.yaml, and what loading it says."""

    def __init__(self, path: Path) -> None:
        self.file = path / "config.yaml"

    def load(self, text: str | bytes, environ: dict[str, str] | None = None, **overrides: Any) -> Loaded:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(self.file, environ or {}, overrides)

    def problems(self, text: str | bytes, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, environ)
        return caught.value.problems

    def problem(self, text: str | bytes, environ: dict[str, str] | None = None) -> Problem:
        (only,) = self.problems(text, environ)
        return only


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def ray(settings: str) -> str:
    return f"services:\n  ray:\n    cpu: {{{settings}}}\nnodes: {{head_whitelist: [ray-cpu]}}\n"


# Layers


def test_without_anything_the_defaults_hold() -> None:
    assert load(None, {}) == Loaded(Config(), None, ())


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "network:\n", "network:\n  external_nodes:\n", "services: {ray: {env: }}\n"]
)
def test_an_empty_file_or_section_means_the_defaults(folder: Folder, text: str) -> None:
    assert folder.load(text).config == Config()


def test_file_then_environment_then_flags(folder: Folder) -> None:
    text = "network: {name: file, port_base: 20000}\nproject: {name: file}\n"
    environ = {"WS_NETWORK__NAME": "environ", "WS_PROJECT__NAME": "environ"}
    config = folder.load(text, environ, project={"name": "flag"}).config
    assert (config.network.port_base, config.network.name, config.project.name) == (20000, "environ", "flag")


def test_a_variable_overrides_a_default_node_without_any_file() -> None:
    nodes = load(None, {"WS_SERVICES__RAY__CPU__HEAD_PORT": "7000"}).config.services.ray.nodes
    assert list(nodes) == ["cpu", "gpu"]
    assert (nodes["cpu"].head_port, nodes["cpu"].client_port, nodes["gpu"].head_port) == (7000, 10001, 6380)


def test_a_variable_overrides_a_default_node_that_the_file_does_not_name(folder: Folder) -> None:
    loaded = folder.load("services: {ray: {image: 'a:1'}}\n", {"WS_SERVICES__RAY__GPU__CPUS": "2"})
    assert {key: node.cpus for key, node in loaded.config.services.ray.nodes.items()} == {"cpu": 4, "gpu": 2}


def test_a_variable_does_not_bring_a_node_back(folder: Folder) -> None:
    problem = folder.problem(ray("cpus: 2"), {"WS_SERVICES__RAY__GPU__CPUS": "2"})
    assert (problem.file, problem.path) == ("WS_SERVICES__RAY__GPU__CPUS", "services.ray.gpu.cpus")
    assert "no node gpu" in problem.what
    assert problem.mend == "did you mean cpu? the nodes are cpu"


def test_nodes_of_the_command_line_are_the_only_ones(folder: Folder) -> None:
    nodes = {"head": {"cpus": 1}, "worker": {"replicas": 3}}
    whitelist = {"nodes": {"head_whitelist": ["ray-head"]}}
    for file in (None, folder.file):
        folder.file.write_text("services: {ray: {image: 'a:1', cpu: {}, big: {}}}\n", encoding="utf-8")
        ray = load(file, {"WS_SERVICES__RAY__CPU__CPUS": "2"}, whitelist, nodes).config.services.ray
        assert list(ray.nodes) == ["head", "worker"]
        assert (ray.nodes["head"].cpus, ray.nodes["worker"].replicas) == (1, 3)
        assert ray.image == ("a:1" if file else None)


def test_what_is_wrong_with_nodes_of_the_command_line_is_said_to_be_there(folder: Folder) -> None:
    folder.file.write_text(ray("cpus: 2"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"command line services\.ray\.cpu\.head_port"):
        load(folder.file, {}, {}, {"cpu": {"head_port": 80}})


@pytest.mark.parametrize("text", ["services: {health: {port: 8081}}\n", ""])
def test_the_health_servers_url_follows_its_port(folder: Folder, text: str) -> None:
    loaded = folder.load(text, {} if text else {"WS_SERVICES__HEALTH__PORT": "8081"})
    assert loaded.config.health_url == "http://health:8081"
    assert loaded.warnings == ()


def test_who_can_reach_the_ports_is_told_apart_from_other_warnings(folder: Folder) -> None:
    loaded = folder.load("network: {publish_entries: [0.0.0.0], port_base: 32720}\n")
    assert len(loaded.warnings) == 2
    assert [warning.path for warning in loaded.exposure] == ["network.publish_entries[0]"]
    assert set(loaded.exposure) < set(loaded.warnings)


def test_names_of_variables(folder: Folder) -> None:
    text = "services: {ray: {big-gpu: {}}}\nnodes: {head_whitelist: [ray-big-gpu]}\n"
    environ = {
        "WS_SERVICES__RAY__BIG_GPU__CPUS": "2",
        "WS_services__ray__gpu_image": "a:1",
        "WS_SERVICES__RAY__ENV__MixedCase": "010",
        "WS_SERVICES__RAY__ENV__TWO__LEVELS": "yes",
        "WS_NODES__HEAD_WHITELIST": "[ray-big-gpu, elsewhere]",
        "WS_NETWORK__PORT_BASE": "",
        "WS_OTHER": "not ours",
        "HOME__X": "not ours",
    }
    config = folder.load(text, environ).config
    assert config.services.ray.nodes["big-gpu"].cpus == 2
    assert config.services.ray.gpu_image == "a:1"
    assert config.services.ray.env == {"MixedCase": "010", "TWO__LEVELS": "yes"}
    assert config.nodes.head_whitelist == ("ray-big-gpu", "elsewhere")
    assert config.network.port_base == 31000


def test_null_takes_an_optional_value_away(folder: Folder) -> None:
    loaded = folder.load("nodes: {head_address: 'a:1'}\n", {"WS_NODES__HEAD_ADDRESS": "null"})
    assert loaded.config.nodes.head_address is None


@pytest.mark.parametrize(
    ("name", "value", "path", "what"),
    [
        ("WS_NETWORK__SUBNT", "x", "network.subnt", "not a known key"),
        ("WS_NETWORK__PORT_BASE", "many", "network.port_base", "whole number"),
        ("WS_NETWORK__NAME__X", "1", "network.name", "must be text"),
        ("WS_NETWORK__NAME", "[1", "network.name", "not valid YAML"),
        ("WS___X", "1", "", "not a known key"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, path: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, {name: value})
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.path) == (name, None, path)
    assert what in problem.what


def test_two_variables_for_one_key_are_refused() -> None:
    with pytest.raises(ConfigError, match="another variable"):
        load(None, {"WS_NETWORK__NAME": "a", "WS_network__name": "b"})


def test_a_wrong_flag_is_said_to_be_one() -> None:
    with pytest.raises(ConfigError, match=r"command line network\.port_base"):
        load(None, {}, {"network": {"port_base": 1}})


def test_a_variable_does_not_hide_a_broken_section(folder: Folder) -> None:
    problem = folder.problem("network: 3\n", {"WS_NETWORK__NAME": "a"})
    assert (problem.line, problem.path) == (1, "network")


# Files that cannot be read


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `ws init`"):
        load(tmp_path / "none.yaml", {})


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("project:\n  name: [a\nhost: {}\n", 3, "not valid YAML"),
        ("project: {name: a}\nhost: 'x\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: *nothing\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        (b"project:\n  name: \xff\n", 2, "not UTF-8"),
        ("project:\n  name: a\x01b\n", 2, "which YAML does not allow"),
        ("- a\n- b\n", 1, "must hold sections"),
        ("text\n", 1, "must hold sections"),
        ("[" * 5000, None, "nested too deeply"),
        ("a: &a [" + "*b," * 1 + "]\n", 1, "not valid YAML"),
        ("#" * (1024**2 + 1), None, "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_configuration_has_one_problem(
    folder: Folder, text: str | bytes, line: int | None, what: str
) -> None:
    problem = folder.problem(text)
    assert (problem.file, problem.line) == (str(folder.file), line)
    assert what in problem.what
    assert problem.mend


def test_a_byte_order_mark_is_no_problem(folder: Folder) -> None:
    assert folder.load(b"\xef\xbb\xbfproject: {name: a}\n").config.project.name == "a"


def test_a_section_within_itself_ends(folder: Folder) -> None:
    assert any("nested too deeply" in problem.what for problem in folder.problems("network: &a\n  name: *a\n"))
    assert any("merges itself" in problem.what for problem in folder.problems("network: &a\n  <<: *a\n"))


def test_aliases_upon_aliases_end(folder: Folder) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "too many values" in folder.problem("\n".join(lines)).what


def test_of_thousands_of_problems_the_first_hundred_are_told(folder: Folder) -> None:
    problems = folder.problems("\n".join(f"key{number}: {{a: 1}}" for number in range(9000)))
    assert [problem.line for problem in problems] == list(range(1, 101))


def test_sections_can_be_merged(folder: Folder) -> None:
    text = "services:\n  ray:\n    cpu: &cpu {cpus: 2, memory: 4g}\n    gpu:\n      <<: *cpu\n      cpus: 3\n"
    nodes = folder.load(text).config.services.ray.nodes
    assert (nodes["gpu"].cpus, nodes["gpu"].memory, nodes["gpu"].head_port) == (3, "4g", 6380)


def test_env_is_text_as_written(folder: Folder) -> None:
    text = "services:\n  ray:\n    env: {A: 010, B: yes, C: 1.10, D: 'x', E: ''}\n"
    assert folder.load(text).config.services.ray.env == {"A": "010", "B": "yes", "C": "1.10", "D": "x", "E": ""}


# One mistake each


def cases(name: str) -> list[Any]:
    listed = yaml.safe_load((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return [pytest.param(case, id=case["mistake"]) for case in listed]


@pytest.mark.parametrize("case", cases("problems.yaml"))
def test_one_mistake_is_one_problem(folder: Folder, case: dict[str, Any]) -> None:
    matches(folder.problem(case["text"]), case, folder)


@pytest.mark.parametrize("case", cases("warnings.yaml"))
def test_what_is_odd_but_works_is_a_warning(folder: Folder, case: dict[str, Any]) -> None:
    (warning,) = folder.load(case["text"]).warnings
    matches(warning, case, folder)


def matches(problem: Problem, case: dict[str, Any], folder: Folder) -> None:
    assert (problem.file, problem.line, problem.path) == (str(folder.file), case["line"], case["path"])
    assert case["what"] in problem.what
    assert case["mend"] in (problem.mend or "")


@pytest.mark.parametrize(
    "text",
    [
        # Entries on loopback alone, blocks on the gateway alone: one number, two addresses.
        "network: {publish_entries: [loopback]}\nservices: {ray: {cpu: {head_port: 31030}, gpu: {}}}\n",
        # Entry ports of nodes outside the whitelist are not published.
        "services: {ray: {cpu: {}, a: {head_port: 6379}, b: {head_port: 6379}}}\nnodes: {head_whitelist: [ray-cpu]}\n",
        # The whitelist's other host is known as an external node.
        "network: {external_nodes: [far]}\nnodes: {head_whitelist: [ray-cpu, far]}\n",
        # A health server of somebody else.
        "nodes: {health_service: {url: 'http://elsewhere:9000'}}\n",
    ],
)
def test_what_only_looks_wrong_passes_without_a_word(folder: Folder, text: str) -> None:
    assert folder.load(text).warnings == ()


def test_an_address_and_all_addresses_meet(folder: Folder) -> None:
    text = "network: {publish_entries: [loopback], publish_blocks: 0.0.0.0}\n"
    text += "services: {ray: {gpu: {}, cpu: {head_port: 31010}}}\n"
    assert "port 31010 is used twice on all addresses" in folder.problem(text).what


def test_the_gateway_is_the_hosts_address_where_it_is_named(folder: Folder) -> None:
    warnings = folder.load("host: {ip_address: 192.168.1.10}\n").warnings
    assert [(warning.line, warning.path) for warning in warnings] == [(1, "host.ip_address")] * 2
    assert folder.load("host: {ip_address: 172.17.0.1}\n").warnings == ()


def test_every_problem_is_reported_in_one_go(folder: Folder) -> None:
    text = """\
project: {name: Bad Name}
netwrok: {}
network:
  subnet: 172.28.0.5/16
  port_base: 99999
nodes:
  head_whitelist: [ray-cpu, ray-gpu, ray-cpu]
  health_service: {lease_ttl: 5}
services:
  ray:
    cpu: {cpus: four, memory: 9x}
    gpu: {head_port: 6379, shm_size: 9g}
cluster_test:
  enabled: maybe
"""
    problems = folder.problems(text, {"WS_HOST__GPU": "maybe"})
    assert [(problem.line, problem.path) for problem in problems] == [
        (1, "project.name"),
        (2, "netwrok"),
        (4, "network.subnet"),
        (5, "network.port_base"),
        (7, "nodes.head_whitelist[2]"),
        (8, "nodes.health_service.lease_ttl"),
        (11, "services.ray.cpu.cpus"),
        (11, "services.ray.cpu.memory"),
        (12, "services.ray.gpu.shm_size"),
        (12, "services.ray.gpu.head_port"),
        (14, "cluster_test.enabled"),
        (None, "host.gpu"),
    ]
    assert problems[-1].file == "WS_HOST__GPU"


def test_a_replaced_value_makes_no_further_problem(folder: Folder) -> None:
    # The default memory, in its place, would be less than shm_size.
    assert folder.problem(ray("memory: lots, shm_size: 16g")).path == "services.ray.cpu.memory"


@pytest.mark.parametrize(
    "text",
    [
        "services: {ray: {env: {RAY_AUTH_TOKEN: hunter2}}}\n",
        "services: {ray: {env: 'TOKEN=hunter2'}}\n",
        "services: {ray: {env: [TOKEN=hunter2]}}\n",
        "services: {ray: {env: {A B: hunter2}}}\n",
        "services: {ray: {cpu: {env: {TOKEN: [hunter2]}}}}\n",
        "services: {ray: {env: {TOKEN: !x hunter2, TOKEN: hunter2}}}\n",
        "nodes: {health_service: {url: 'http://me:hunter2@health:8080'}}\n",
        "nodes: {head_address: 'me:hunter2@ray-cpu:6379'}\n",
        "tokn: hunter2\n",
        "network: hunter2\n",
        "services: {ray: {env: {TOKEN: hunter2\n",
    ],
)
def test_no_problem_shows_a_secret(folder: Folder, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        folder.load(text)
    assert "hunter2" not in str(caught.value)


def test_no_problem_shows_the_secret_of_a_variable() -> None:
    environ = {"WS_SERVICES__RAY__ENV__A B": "hunter2", "WS_TOKEN__X": "hunter2", "WS_SERVICES__RAY__ENV": "hunter2"}
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert "hunter2" not in str(caught.value)


# Whatever is in the file


def known_keys() -> list[str]:
    def keys(schema: Any) -> set[str]:
        if not isinstance(schema, dict):
            return set()
        return set(schema.get("properties", {})).union(*(keys(value) for value in schema.values()))

    return sorted(keys(Config.model_json_schema()) | {"cpu", "gpu", "x"})


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 70000),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["8g", "ray-cpu", "ray-cpu:6379", "0.0.0.0", "172.30.0.0/16", "loopback", "none", "auto"]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(known_keys()), inner, max_size=4),
    max_leaves=20,
)
sections = st.dictionaries(st.sampled_from(list(Config.model_fields)), trees, max_size=6)
variables = st.dictionaries(
    st.lists(st.sampled_from([*known_keys(), ""]), min_size=1, max_size=4).map(lambda keys: "WS_" + "__".join(keys)),
    st.text(max_size=6) | st.sampled_from(["[", "{a: 1}", "31000", "!x y", "2020-13-45"]),
    max_size=3,
)
anything = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def loads_or_says_why(file: Path, environ: dict[str, str]) -> None:
    try:
        loaded = load(file, environ)
    except ConfigError as error:
        assert error.problems
        assert all(problem.what and problem.file for problem in error.problems)
    else:
        assert isinstance(loaded.config, Config)


@anything
@given(text=st.text(alphabet="abk:-[]{}&*<!'\"|>#%@,?~ \n\t0129.é\x85\ufeff", max_size=60))
@example("? [a]\n: b")
@example("<<: 3")
@example("a: !!binary x")
@example("a: !!int x")
@example("!!set {a, b}")
@example('a: "\\ud800"')
@example('"\\ud800": 1')
@example('services: {ray: {"\\0": {}}}')
def test_any_text_loads_or_is_explained(folder: Folder, text: str) -> None:
    folder.file.write_bytes(text.encode("utf-8", "surrogatepass"))
    loads_or_says_why(folder.file, {})


@anything
@given(content=st.binary(max_size=40))
def test_any_bytes_load_or_are_explained(folder: Folder, content: bytes) -> None:
    folder.file.write_bytes(content)
    loads_or_says_why(folder.file, {})


@anything
@given(data=sections, environ=variables)
def test_any_values_and_variables_load_or_are_explained(
    folder: Folder, data: dict[str, Any], environ: dict[str, str]
) -> None:
    folder.file.write_text(yaml.safe_dump(data, allow_unicode=False), encoding="utf-8")
    loads_or_says_why(folder.file, environ)
