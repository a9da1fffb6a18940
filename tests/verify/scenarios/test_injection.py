"""Injection on a site that is made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.verify.fake_site import FakeSite, bad, performed
from ws.config import fields
from ws.errors import StillRunning
from ws.verify.scenarios import injection


def test_a_healthy_cluster_passes_and_shows_what_it_saw() -> None:
    checks = performed(injection, FakeSite())
    assert bad(checks) == {}
    evidence = checks["ray-cpu has the environment that the config says"].evidence
    assert evidence.startswith('8 variables equal; HEAD_WHITELIST="ray-cpu,ray-gpu", HEALTH_URL="http://health:8080"')
    assert not any("joiner" in what for what in checks), "it is started for other scenarios alone"


def test_each_variable_that_differs_is_named_with_is_and_should() -> None:
    site = FakeSite()
    really = {**site.expected["ray-gpu"].environment, "HEALTH_URL": "http://health:9", "HEAD_ADDRESS": "ray-cpu:1"}
    del really["WS_MEMORY"]
    site.change("ray-gpu", environment=really)
    check = performed(injection, site)["ray-gpu has the environment that the config says"]
    assert check.evidence.splitlines() == [
        'HEALTH_URL is "http://health:9", should be "http://health:8080"',
        f'WS_MEMORY is not set, should be "{site.expected["ray-gpu"].environment["WS_MEMORY"]}"',
        'HEAD_ADDRESS is "ray-cpu:1", should not be set',
    ]
    assert [cause.key for cause in check.causes] == ["environment-differs"] * 3
    assert check.causes[0].remedy.startswith("`docker rm -f made-up-ray-gpu`, then `ws up`")


def test_of_an_external_node_the_other_file_is_named() -> None:
    site = FakeSite()
    site.change("test-ray-worker", environment={})
    check = performed(injection, site)["test-ray-worker has the environment that the config says"]
    assert "`ws test --up`" in check.causes[0].remedy
    assert "cluster-test.compose.yaml" in check.causes[0].remedy


def test_long_values_are_shown_where_they_differ() -> None:
    site = FakeSite()
    ports = site.expected["ray-cpu"].environment["WS_NODE_PORTS"]
    wrong = ports.replace("transfer=31006", "transfer=31999")
    site.change("ray-cpu", environment={**site.expected["ray-cpu"].environment, "WS_NODE_PORTS": wrong})
    evidence = performed(injection, site)["ray-cpu has the environment that the config says"].evidence
    assert "transfer=31999" in evidence
    assert "transfer=31006" in evidence
    assert len(evidence) < 200


def test_a_token_in_the_environment_is_named_and_not_shown() -> None:
    site = FakeSite()
    site.change("ray-cpu", environment={**site.expected["ray-cpu"].environment, "RAY_AUTH_TOKEN": "hush"})
    check = performed(injection, site)["ray-cpu has the environment that the config says"]
    assert check.evidence == "RAY_AUTH_TOKEN is ***, should not be set"


def test_values_of_secrets_are_never_shown() -> None:
    site = FakeSite()
    site.expect("ray-gpu", environment={"DB_PASSWORD": "hush-wanted", "AWS_ACCESS_KEY": "hush-missing"})
    site.change("ray-gpu", environment={"DB_PASSWORD": "hush-really"})
    check = performed(injection, site)["ray-gpu has the environment that the config says"]
    assert check.evidence.splitlines() == [
        "DB_PASSWORD is ***, should be another",
        "AWS_ACCESS_KEY is not set, should be ***",
    ]
    assert "hush" not in check.evidence + str(check.causes)


@pytest.mark.parametrize(
    "name",
    [
        "TOKEN",
        "DB_PASSWORD",
        "API_KEY",
        "MY_APIKEY",
        "TOKENS",
        "TOKEN_FILE",
        "RAY_AUTH_TOKEN_PATH",
        "WS_MEMORY",
        "my_secret",
    ],
)
def test_what_looks_secret_is_the_same_as_for_the_configuration(name: str) -> None:
    assert injection.looks_secret(name) is fields.looks_secret(name)


def test_a_container_that_is_not_there() -> None:
    site = FakeSite()
    site.remove("ray-gpu")
    found = bad(performed(injection, site))
    assert set(map(tuple, found.values())) == {("node-missing",)}
    assert len(found) == 4


def test_a_hostname_that_the_whitelist_does_not_have() -> None:
    site = FakeSite()
    site.change("ray-gpu", hostname="ray-gqu")
    checks = performed(injection, site)
    assert bad(checks) == {
        "ray-gpu is called so": ["not-in-whitelist"],
        "ray-gpu finds itself in its whitelist": ["not-in-whitelist"],
    }
    assert checks["ray-gpu is called so"].evidence.endswith("has the hostname ray-gqu, the config says ray-gpu")


def test_a_whitelist_that_names_nobody_says_who_may_be_meant() -> None:
    site = FakeSite()
    site.whitelist = ["ray-cpu", "ray-gqu"]
    check = performed(injection, site)["the whitelist names nodes that there are"]
    assert [cause.key for cause in check.causes] == ["not-in-whitelist"]
    assert "write ray-gpu instead of ray-gqu" in check.causes[0].remedy


def test_a_candidate_on_another_host_is_known_by_extra_hosts() -> None:
    site = FakeSite()
    site.whitelist = ["ray-cpu", "ray-gpu", "far-away"]
    site.change("ray-cpu", extra_hosts={"far-away": "192.0.2.7"})
    assert bad(performed(injection, site)) == {}


def test_an_external_node_in_the_whitelist() -> None:
    site = FakeSite()
    site.whitelist = ["ray-cpu", "ray-gpu", "test-ray-worker"]
    check = performed(injection, site)["the whitelist names nodes that there are"]
    assert "which is the external node" in check.causes[0].what


def test_a_token_where_others_could_read_it() -> None:
    site = FakeSite()
    places = {"places": ["variable LEAK", "command line of process 7"], "variables": 20, "lines": 9, "empty": False}
    site.answer("glob", json.dumps(places), node="ray-cpu")
    check = performed(injection, site)["the token is in a file of ray-cpu, and nowhere that others look"]
    assert check.causes[0].what == "ray-cpu: the token stands in variable LEAK, command line of process 7"


def test_a_token_file_that_is_missing() -> None:
    site = FakeSite()
    site.answer("glob", json.dumps({"trouble": "RAY_AUTH_TOKEN_PATH=/x can't be read (No such file)"}), node="ray-cpu")
    found = bad(performed(injection, site))
    assert found == {"the token is in a file of ray-cpu, and nowhere that others look": ["token-missing"]}


def test_a_node_that_can_not_be_looked_through_is_inconclusive() -> None:
    site = FakeSite()
    site.fails("glob", StillRunning(["docker", "exec"], -1, "still running"), node="ray-cpu")
    site.answer("glob", "", node="ray-gpu", code=127, stderr="python3: not found")
    found = bad(performed(injection, site))
    assert list(found.values()) == [["inconclusive"], ["inconclusive"]]


def test_the_program_finds_the_token_in_variables_and_command_lines(tmp_path: Path) -> None:
    """As it is: it gives the places, and never the token."""
    token = "a-token-that-is-made-up"
    (tmp_path / "token").write_text(token + "\n")
    environment = {**os.environ, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "LEAK": f"x{token}"}
    with subprocess.Popen([sys.executable, "-c", "input()", token], stdin=subprocess.PIPE) as other:
        done = subprocess.run(
            [sys.executable, "-c", injection._PLACES], env=environment, capture_output=True, text=True, check=True
        )
        other.communicate(b"\n")
    places = json.loads(done.stdout)["places"]
    assert "variable LEAK" in places
    assert f"command line of process {other.pid}" in places
    assert token not in done.stdout
