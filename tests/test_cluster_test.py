"""What `ws test` does around its scenarios, where no cluster is needed to see it."""

from __future__ import annotations

import ast
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.clusters import Sandbox
from tests.engine.fake_daemon import daemon
from tests.engine.fake_engine import NOWHERE, answering, dashboard_answers, ray_node
from tests.projects import make_project
from ws.cluster_files import files, hidden
from ws.cluster_proof import CLIENT_LIMIT, explained, require_started
from ws.cluster_site import ProjectSite
from ws.cluster_start import require_alive, start
from ws.cluster_test import Wish, require_cluster, run_all, take_down
from ws.config.load import load
from ws.config.plan import plan
from ws.engine.base import NodeState, Project
from ws.engine.compose import ComposeEngine
from ws.engine.machine import Machine
from ws.engine.render import render
from ws.engine.testbed import TestBed
from ws.engine.token import ensure_token
from ws.errors import CheckFailed, EnvironmentProblem
from ws.verify.causes import TITLES
from ws.verify.programs import FOLDER
from ws.verify.scenarios import Scenario
from ws.verify.verdict import Cause, Check, Report, ScenarioResult, Verdict
from ws.wait import NotYet

IMAGE_WITHOUT_RAY = "python:3.12-alpine"


def test_a_failure_is_explained_by_its_causes() -> None:
    causes = [Cause("token-wrong", "it has another token", "copy the token"), Cause("node-exited", "it ended", "start it")]
    failed = explained(CheckFailed("not proven", "a log", "look around"), causes)
    assert (failed.what, failed.why, failed.mend) == (
        "not proven",
        "cause: it has another token\ncause: it ended\na log",
        "copy the token",
    )
    assert explained(CheckFailed("not proven", "a log", "look around"), []).mend == "look around"


def test_a_start_that_failed_is_told_once() -> None:
    passed = Check("free", "looked", Verdict.PASS, "all free")
    cause = Cause("port-taken", "port 7 is taken", "stop it")
    failed = Check("containers start", "compose up", Verdict.FAIL, "port 7 is taken\nand more", [cause])
    require_started(ScenarioResult("start", "", [passed]))
    with pytest.raises(CheckFailed) as caught:
        require_started(ScenarioResult("start", "", [passed, failed]))
    assert caught.value.why == "port 7 is taken\nand more"
    assert caught.value.mend == "stop it"


@pytest.mark.parametrize("secret", ["hunter2", "pa$$word1", 'a"b\\c', "two: words # and more", "multi\nline", "'"])
def test_a_report_keeps_the_files_without_what_looks_like_a_secret(tmp_path: Path, secret: str) -> None:
    config = yaml.safe_dump({"services": {"ray": {"env": {"HF_TOKEN": secret, "PLAIN": "seen"}}}})
    project = make_project(tmp_path, config)
    for name, text in render(project).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    kept = files(project)
    assert sorted(kept) == ["cluster-test.compose.yaml", "compose.yaml", "config.yaml"]
    nodes = [
        yaml.safe_load(kept["compose.yaml"])["services"]["ray-cpu"]["environment"],
        yaml.safe_load(kept["cluster-test.compose.yaml"])["services"]["test-ray-worker"]["environment"],
        yaml.safe_load(kept["config.yaml"])["services"]["ray"]["env"],
    ]
    assert [(env["HF_TOKEN"], env["PLAIN"]) for env in nodes] == [("***", "seen")] * 3


def test_nothing_but_the_secret_is_hidden(tmp_path: Path) -> None:
    project = make_project(tmp_path, "services: {ray: {env: {HF_TOKEN: '1'}}}")
    rendered = render(project)["compose.yaml"]
    (tmp_path / "compose.yaml").write_text(rendered, encoding="utf-8")
    assert files(project)["compose.yaml"] == rendered.replace('HF_TOKEN: "1"', 'HF_TOKEN: "***"')


def test_secrets_in_a_file_that_was_edited() -> None:
    text = "a:\n  X_TOKEN: |\n    one\n    two\n  Y_TOKEN:\n  list: [A=1, Z_PASSWORD=x]\n  N: 1\nsecrets: [ray_token]\n"
    assert yaml.safe_load(hidden(text)) == {
        "a": {"X_TOKEN": "***", "Y_TOKEN": None, "list": ["A=1", "Z_PASSWORD=***"], "N": 1},
        "secrets": ["ray_token"],
    }
    assert "hunter2" not in hidden("TOKEN: hunter2\n  broken: [")


def test_the_client_is_waited_for_as_long_as_its_own_limits() -> None:
    program = ast.parse((FOLDER / "client.py").read_text(encoding="utf-8"))
    [limits] = [
        node.value for node in program.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LIMITS"
    ]
    steps = {name: limit for name, limit in ast.literal_eval(limits).items() if name != "refused"}
    assert sum(steps.values()) <= CLIENT_LIMIT


class Beside(ComposeEngine):
    """An engine whose cluster is a dashboard of ours, and no containers."""

    def __init__(self, dashboard: str) -> None:
        super().__init__()
        self.dashboard = dashboard

    def nodes(self, project: Project) -> list[NodeState]:
        return []

    def entries(self, project: Project) -> dict[str, str]:
        return {"dashboard": self.dashboard}

    @property
    def machine(self) -> Machine:  # type: ignore[override]
        return Machine(cores=2, memory=8 << 30, gateway="172.17.0.1", gpu=False)


def site_beside(folder: Path, engine: ComposeEngine) -> ProjectSite:
    project = make_project(folder)
    ensure_token(project.token_path)
    return ProjectSite(TestBed(engine, project))


def test_a_worker_that_was_there_before_has_not_joined(tmp_path: Path) -> None:
    killed = ray_node("test-ray-worker")
    with answering(dashboard_answers(ray_node("ray-cpu", head=True), killed)) as url:
        engine = Beside(url)
        site = site_beside(tmp_path, engine)
        site.remember_known()
        assert site.known_before == {killed["node_id"]}
        with pytest.raises(NotYet, match="alive: ray-cpu"):
            require_alive(site, "test-ray-worker")
    joined = ray_node("test-ray-worker") | {"node_id": "another"}
    with answering(dashboard_answers(killed, joined)) as url:
        engine.dashboard = url
        require_alive(site, "test-ray-worker")


def test_a_closed_site_ends_its_programs_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "docker").write_text("#!/bin/sh\nexec sleep 60\n")
    (bin_folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    site = site_beside(tmp_path, Beside(NOWHERE))
    with site.spawn("ray-cpu", ["true"]) as process:
        site.close()
        assert process.wait(timeout=10) < 0
    for act in (
        lambda: site.spawn("ray-cpu", ["true"]),
        lambda: site.run("ray-cpu", ["true"], timeout=1),
        lambda: site.start_joiner({}),
    ):
        with pytest.raises(EnvironmentProblem, match="starts nothing more"):
            act()
    site.stop_joiner()


def test_a_report_of_a_project_without_a_config_file_shows_what_held(tmp_path: Path) -> None:
    assert yaml.safe_load(files(make_project(tmp_path))["config.yaml"])["network"]["port_base"] == 31000


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBed]:
    """With a Docker daemon that refuses whatever it is asked."""
    with tempfile.TemporaryDirectory(prefix="ws-t-") as short:
        version = {"Version": "29.0.0", "ApiVersion": "1.50"}
        with daemon(Path(short, "docker.sock"), version) as host:
            monkeypatch.setenv("DOCKER_HOST", host)
            engine = Beside(NOWHERE)
            yield TestBed(engine, make_project(tmp_path))
            engine.client.close()


def test_what_cannot_be_taken_down_is_named(refused: TestBed) -> None:
    told: list[str] = []
    assert not take_down(refused, told.append)
    assert "only the version is here" in told[0]
    assert all(container in told[1] for container in refused.containers.values())


def test_a_run_that_breaks_off_reports_so_and_does_not_pass(refused: TestBed) -> None:
    ensure_token(refused.project.token_path)
    report = Report(0.0, about={"drift": "some"})
    with pytest.raises(EnvironmentProblem):
        run_all(refused, ProjectSite(refused), Wish([]), lambda result, check: None, report)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "only the version is here" in report.scenarios[-1].checks[0].evidence
    assert report.about["drift"] == "some"
    assert report.about["project"] == refused.project.plan.project


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[TestBed]:
    """Of a project without a cluster, and of an image without Ray."""
    sandbox = Sandbox.make(tmp_path, 10)
    config = load(sandbox.folder / "config.yaml", {}, {"services": {"ray": {"image": IMAGE_WITHOUT_RAY}}}).config
    bed = TestBed(ComposeEngine(), Project(sandbox.folder, config, plan(config)))
    try:
        bed.engine.prepare(bed.project)
        yield bed
    finally:
        bed.down()
        bed.engine.client.close()


@pytest.mark.docker
class TestOnDocker:
    def test_without_a_cluster_it_says_so_and_how_to_get_one(self, bed: TestBed) -> None:
        with pytest.raises(EnvironmentProblem, match="no cluster of this project is up") as caught:
            require_cluster(bed)
        assert caught.value.mend == "`ws up`, or `ws test --with-cluster`"

    def test_what_the_configuration_says_is_what_the_containers_are(self, bed: TestBed) -> None:
        site = ProjectSite(bed)
        bed.up()
        bed.start_joiner({})
        for name in (bed.client, bed.worker, bed.joiner):
            expected, seen = site.expected[name], site.seen(name)
            assert seen is not None
            assert expected.environment.items() <= seen.environment.items()
            assert expected.image == seen.image
            assert seen.published in (expected.published, frozenset())  # an ended container listens nowhere
            assert list(seen.addresses) == [expected.network]
            assert name == bed.client or expected.shm_size == seen.shm_size
        assert site.expected["ray-cpu"].role == "candidate"
        assert site.strangers() == {}
        assert site.lease() is None
        assert site.head() is None
        assert site.log("ray-cpu") == ""

    def test_a_worker_that_ends_fails_the_start_and_names_a_cause(self, bed: TestBed) -> None:
        made: list[str] = []
        result = start(bed, ProjectSite(bed), None, lambda result, check: made.append(check.what))
        assert result.verdict is Verdict.FAIL
        assert made == [check.what for check in result.checks]
        last = result.checks[-1]
        assert "exit code 127" in last.evidence
        assert last.causes
        assert all(cause.key in TITLES for cause in last.causes)

    def test_after_a_start_that_failed_the_report_names_what_was_not_tried(self, bed: TestBed) -> None:
        report, scenarios = Report(0.0), [Scenario(name, "", 1.0, lambda site, record: None) for name in ("links", "path")]
        run_all(bed, ProjectSite(bed), Wish(scenarios), lambda result, check: None, report)
        assert report.verdict is Verdict.FAIL
        assert [result.name for result in report.scenarios] == ["start"]
        assert report.about["not tried"] == "links, path: the start failed"
        assert {node.name for node in report.picture} == {bed.client, bed.worker}

    def test_ctrl_c_leaves_a_report_that_does_not_pass(self, bed: TestBed) -> None:
        def interrupt(result: ScenarioResult, check: Check) -> None:
            raise KeyboardInterrupt

        report, site = Report(0.0), ProjectSite(bed)
        with pytest.raises(KeyboardInterrupt):
            run_all(bed, site, Wish([Scenario("links", "", 1.0, lambda site, record: None)]), interrupt, report)
        assert [(result.name, result.verdict) for result in report.scenarios] == [
            ("start", Verdict.INCONCLUSIVE),
            ("run", Verdict.INCONCLUSIVE),
        ]
        assert report.about["not tried"] == "links: the run was broken off"
        with pytest.raises(EnvironmentProblem, match="starts nothing more"):
            site.spawn(bed.client, ["true"])

    def test_what_compose_refuses_fails_the_start(self, bed: TestBed) -> None:
        (bed.project.folder / "cluster-test.compose.yaml").write_text("services: {broken: {}}\n", encoding="utf-8")
        result = start(bed, ProjectSite(bed), None, lambda result, check: None)
        assert result.verdict is Verdict.FAIL
        assert result.checks[-1].causes[0].key == "node-missing"

    def test_taking_down_names_nothing_where_all_is_gone(self, bed: TestBed) -> None:
        told: list[str] = []
        bed.up()
        assert take_down(bed, told.append)
        assert told == []
