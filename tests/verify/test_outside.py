"""`ws verify` against things that are no Ray cluster, and what it makes of what it is told; no Ray is started here."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ports import free_port
from ws.errors import Inconclusive, UsageError
from ws.node.secret import Secret
from ws.verify.outside import SCENARIOS, verify
from ws.verify.outside_address import check_token
from ws.verify.outside_cluster import Address, Outside
from ws.verify.outside_local import HERE, NO_TOKEN, Credentials, LocalRuns, find_credentials
from ws.verify.outside_look import Outlook
from ws.verify.outside_refusal import cause_of_refusal, our_versions, version_causes
from ws.verify.verdict import Recorder, Report, ScenarioResult, Verdict

OURS = our_versions()
MISMATCH = """RuntimeError: Version mismatch: The cluster was started with:
    Ray: {ray}
    Python: {python}
This process on Ray Client was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


def verified(address: str, credentials: Credentials = NO_TOKEN) -> Report:
    return verify(Outside(Address.parse(address), credentials, 5.0), [], lambda result, check: None)


def cause(report: Report) -> str:
    """The key of the one cause that a failed report names."""
    assert report.verdict is Verdict.FAIL
    (found,) = [cause for result in report.scenarios for check in result.checks for cause in check.causes]
    assert found.remedy
    return found.key


# Addresses


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ray://ray-cpu:10001", Address("client", "ray-cpu", 10001)),
        ("ray://10.0.0.7:10001/", Address("client", "10.0.0.7", 10001)),
        ("127.0.0.1:6379", Address("gcs", "127.0.0.1", 6379)),
    ],
)
def test_an_address_is_that_of_ray_client_or_of_the_gcs(text: str, wanted: Address) -> None:
    assert Address.parse(text) == wanted
    assert str(wanted) == text.rstrip("/")


@pytest.mark.parametrize("text", ["", "ray-cpu", "ray://ray-cpu", "http://ray-cpu:8265", "host:0", "host:65536", "a b:1"])
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="no address of a Ray cluster") as raised:
        Address.parse(text)
    assert "ray://" in str(raised.value.mend)


# What is no cluster at all


@pytest.fixture
def web_server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts, as the kernel does for every listening socket, and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["ray://", ""])
def test_a_dead_port_is_a_dead_entry_and_nothing_more_is_tried(scheme: str) -> None:
    report = verified(f"{scheme}127.0.0.1:{free_port()}")
    assert cause(report) == "entry-dead"
    assert [result.name for result in report.scenarios] == ["address"]
    assert "nodes" in report.about["not tried"]


def test_a_web_server_is_no_cluster(web_server: int) -> None:
    assert cause(verified(f"ray://127.0.0.1:{web_server}")) == "wrong-port"


def test_a_port_that_stays_silent_is_no_cluster(silent_port: int) -> None:
    assert cause(verified(f"127.0.0.1:{silent_port}")) == "wrong-port"


def test_a_name_that_does_not_resolve_is_named() -> None:
    report = verified("ray://nowhere.invalid:10001")
    assert cause(report) == "name-unknown"
    assert "nowhere.invalid" in report.scenarios[0].checks[0].evidence


# Tokens


def test_the_token_file_that_is_given_goes_before_all_others(tmp_path: Path) -> None:
    given, own = tmp_path / "given", tmp_path / ".ws" / "token"
    own.parent.mkdir()
    given.write_text("one\n")
    own.write_text("two")
    environ = {"RAY_AUTH_TOKEN_PATH": str(own)}
    assert find_credentials(given, tmp_path, environ).secret == Secret("one")
    assert find_credentials(None, tmp_path, {"RAY_AUTH_TOKEN": "three", **environ}).secret == Secret("three")
    assert find_credentials(None, tmp_path, environ).secret == Secret("two")
    assert find_credentials(None, tmp_path, {}).secret == Secret("two")


def test_without_any_token_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not find_credentials(None, tmp_path, {}).secret


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_token_file_that_holds_none_is_wrong_use(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(UsageError, match="the token file"):
        find_credentials(tmp_path / "token", tmp_path, {})


def test_programs_see_the_token_and_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of somebody else")
    show = ["python3", "-c", "import os; print(os.environ['RAY_AUTH_MODE'], os.environ['RAY_AUTH_TOKEN'])"]
    assert LocalRuns(Credentials(Secret("ours"), "")).run(HERE, show, timeout=30).stdout.split() == ["token", "ours"]
    assert LocalRuns(NO_TOKEN).run(HERE, show, timeout=30).stdout.split() == ["disabled"]


@pytest.mark.parametrize(("host", "verdict"), [("127.0.0.1", Verdict.PASS), ("192.0.2.1", Verdict.FAIL)])
def test_a_cluster_without_a_token_fails_where_others_may_reach_it(host: str, verdict: Verdict) -> None:
    outside = Outside(Address("client", host, 10001), NO_TOKEN, 5.0)
    outside.found[outside.address.target] = {"token": "off"}
    result = ScenarioResult("token", "")
    check_token(outside, Recorder(result, lambda *_: None))
    assert result.verdict is verdict
    assert [found.key for found in result.checks[0].causes] == (["token-off"] if verdict is Verdict.FAIL else [])


# Versions, and Ray's own words


def test_the_same_versions_and_another_patch_release_of_python_fit() -> None:
    minor = OURS["python"].rpartition(".")[0]
    assert version_causes(OURS, "ray://host:1") == []
    assert version_causes({**OURS, "python": f"{minor}.99"}, "ray://host:1") == []


def test_what_differs_comes_with_the_command_that_has_the_clusters_versions() -> None:
    ray, python = version_causes({"ray": "2.59.0", "python": "3.13.5"}, "ray://host:1")
    assert (ray.key, python.key) == ("ray-version", "python-version")
    assert "--python 3.13 --with 'ray[client,default]==2.59.0' ws verify ray://host:1" in ray.remedy
    assert f"rayproject/ray:{OURS['ray']}-py311" in python.remedy


def test_a_python_that_is_too_old_for_ws_leaves_the_nodes_to_be_changed() -> None:
    (found,) = version_causes({**OURS, "python": "3.9.1"}, "ray://host:1")
    assert "uv run" not in found.remedy


def test_a_refusal_is_read() -> None:
    refusal = cause_of_refusal(MISMATCH.format(ray="2.59.0", python=OURS["python"]), "ray://host:1")
    assert (refusal.cause.key, refusal.versions) == ("ray-version", {"ray": "2.59.0", "python": OURS["python"]})
    patch = cause_of_refusal(MISMATCH.format(ray=OURS["ray"], python=f"{OURS['python']}9"), "host:1")
    assert patch.cause.key == "python-version"
    assert cause_of_refusal("gcs: InvalidAuthToken: missing or incorrect", "host:1").cause.key == "token-wrong"
    other = cause_of_refusal("ConnectionError: something new\nmore", "host:1")
    assert (other.cause.key, other.versions) == ("ray-error", None)
    assert "something new" in other.cause.what


# The eyes on the nodes


class Told(LocalRuns):
    """Runs a script in place of whatever program is asked for."""

    def __init__(self, script: str) -> None:
        super().__init__(NO_TOKEN)
        self._script = script

    def spawn(self, node: str, argv: object) -> object:  # type: ignore[override]
        return super().spawn(node, ["python3", "-u", "-c", self._script])


def outlook(*events: str) -> Outlook:
    lines = "\n".join(f"print({event!r})" for event in events)
    eyes = Outlook(Told(f"{lines}\nimport sys; sys.stdin.read()"), "ray://host:1", "nodes")
    eyes.start()
    return eyes


def nodes_event(**alive: bool) -> str:
    rest = {"head": False, "address": "10.0.0.1", "cpus": 2.0, "why": "unexpected"}
    return json.dumps({"event": "nodes", "nodes": [{"name": n, "id": n, "alive": a, **rest} for n, a in alive.items()]})


def test_a_node_that_dies_stays_in_mind() -> None:
    eyes = outlook(nodes_event(a=True, b=True, c=True), nodes_event(a=True, b=False), nodes_event(a=True, b=True, c=True))
    try:
        while len(eyes.await_nodes()) > 1:
            pass
        assert {node.name: trouble for node, _, trouble in eyes.lives()} == {
            "a": "",
            "b": "marked dead (unexpected)",
            "c": "gone from the cluster's list of nodes",
        }
    finally:
        eyes.close()


def test_a_refusal_is_why_no_node_is_seen() -> None:
    eyes = outlook('{"event": "refused", "why": "ConnectionError: no"}')
    try:
        with pytest.raises(Inconclusive, match="ConnectionError: no"):
            eyes.await_nodes()
    finally:
        eyes.close()


def test_a_program_that_breaks_is_why_no_node_is_seen() -> None:
    eyes = Outlook(Told("raise SystemExit('ValueError: broken')"), "ray://host:1", "nodes")
    eyes.start()
    try:
        with pytest.raises(Inconclusive, match="ValueError: broken"):
            eyes.await_nodes()
    finally:
        eyes.close()


def test_scenarios_have_names_of_their_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
