"""`ws verify` against things that are no Ray cluster, and what it makes of what it is told; no Ray is started here."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.ports import free_port
from ws.errors import UsageError
from ws.node.secret import Secret
from ws.verify.outside import SCENARIOS, OutsideScenario, _run, verify
from ws.verify.outside_address import _wrong_port, check_token
from ws.verify.outside_cluster import PORTS, Address, Outside, is_own
from ws.verify.outside_local import HERE, NO_TOKEN, Credentials, LocalRuns, find_credentials
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


def test_a_port_that_accepts_and_says_nothing_is_paused_or_hangs(silent_port: int) -> None:
    report = verified(f"127.0.0.1:{silent_port}")
    assert cause(report) == "entry-dead"
    assert "paused, hanging or overloaded" in report.scenarios[0].checks[1].causes[0].what


def test_one_slow_look_does_not_decide() -> None:
    """A web server that sleeps through the first look; that it is no Ray is found, and not that it is silent."""

    class Sleeper(http.server.BaseHTTPRequestHandler):
        sleeping = threading.Event()

        def do_GET(self) -> None:
            first = not self.sleeping.is_set()
            self.sleeping.set()
            if first:
                awake.wait(60)
            else:
                self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    awake = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sleeper) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert cause(verified(f"ray://127.0.0.1:{server.server_address[1]}")) == "wrong-port"
        finally:
            awake.set()
            server.shutdown()


def test_neighbouring_ports_get_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dashboard beside the address, whose answers nobody vouches for, is asked without the token."""
    heard: list[str | None] = []

    class Dashboard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"Ray Dashboard")

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setitem(PORTS, "dashboard", (port,))
        outside = Outside(Address("client", "127.0.0.1", free_port()), Credentials(Secret("ours"), "ours"), 5.0)
        outside.found = outside.look_around()
        server.shutdown()
    assert outside.beside("dashboard") == [("127.0.0.1", port)]
    assert set(heard) == {None}


def test_what_is_found_beside_is_not_said_to_be_the_same_cluster() -> None:
    outside = Outside(Address("client", "127.0.0.1", 10001), NO_TOKEN, 5.0)
    outside.found = {
        ("127.0.0.1", 10001): {"outcome": "open", "speaks": "gcs", "detail": ""},
        ("127.0.0.1", 10002): {"outcome": "open", "speaks": "client", "detail": ""},
    }
    remedy = _wrong_port(outside, "gcs", "").remedy
    assert "ray://127.0.0.1:10002" in remedy and "it may be another one's" in remedy


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


def test_the_token_of_a_folder_is_for_no_other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert not find_credentials(None, None, {}).secret
    assert is_own("127.0.0.1") and is_own("localhost")
    assert not is_own("192.0.2.1") and not is_own("nowhere.invalid")


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
    result = judged_open(outside)
    assert result.verdict is verdict
    assert [found.key for found in result.checks[0].causes] == (["token-off"] if verdict is Verdict.FAIL else [])
    if verdict is Verdict.FAIL:
        assert "--allow-no-token" in result.checks[0].causes[0].remedy


def test_a_cluster_may_do_without_a_token_where_that_is_said() -> None:
    result = judged_open(Outside(Address("client", "192.0.2.1", 10001), NO_TOKEN, 5.0, allow_no_token=True))
    assert result.verdict is Verdict.PASS
    assert "--allow-no-token" in result.checks[0].evidence


def judged_open(outside: Outside) -> ScenarioResult:
    """What the scenario `token` says of a cluster that asks for none."""
    outside.found[outside.address.target] = {"token": "off"}
    result = ScenarioResult("token", "")
    check_token(outside, Recorder(result, lambda *_: None))
    return result


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


# Scenarios


def test_scenarios_have_names_of_their_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


def test_a_scenario_has_a_deadline() -> None:
    hanging = threading.Event()

    def run(outside: Outside, record: Recorder) -> None:
        with record.check("it ends", "waiting") as check:
            hanging.wait(60)
            check.passed("it did")

    scenario = OutsideScenario("one", "One", 0.05, run)
    result = _run(scenario, Outside(Address("client", "192.0.2.1", 1), NO_TOKEN, 5.0), lambda *_: None)
    hanging.set()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "0.05 s" in result.checks[0].evidence
