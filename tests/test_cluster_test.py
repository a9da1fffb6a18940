"""What `ws test` does around its scenarios, where no cluster is needed to see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.clusters import Sandbox
from tests.projects import make_project
from ws.cluster_site import ProjectSite
from ws.cluster_test import explained, files, require_cluster, require_started, start, take_down
from ws.config.load import load
from ws.config.plan import plan
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.render import render
from ws.engine.testbed import TestBed
from ws.errors import CheckFailed, EnvironmentProblem
from ws.verify.causes import TITLES
from ws.verify.verdict import Cause, Check, ScenarioResult, Verdict

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


def test_a_report_keeps_the_files_without_what_looks_like_a_secret(tmp_path: Path) -> None:
    project = make_project(tmp_path, "services: {ray: {env: {HF_TOKEN: hunter2, PLAIN: seen}}}")
    for name, text in render(project).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    kept = files(project)
    assert sorted(kept) == ["cluster-test.compose.yaml", "compose.yaml", "config.yaml"]
    assert all("hunter2" not in text and "seen" in text for text in kept.values())


def test_a_report_of_a_project_without_a_config_file_shows_what_held(tmp_path: Path) -> None:
    assert yaml.safe_load(files(make_project(tmp_path))["config.yaml"])["network"]["port_base"] == 31000


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
