"""`ws verify` against clusters in containers: another Ray, another Python, and a GCS without a node beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.clusters import docker
from tests.plain_ray import AS_PLAIN_RAY
from ws.cluster.endpoint import Endpoint
from ws.cluster.protocol import Speaks, look
from ws.verify.outside import verify
from ws.verify.outside_cluster import Address, Outside
from ws.verify.outside_local import NO_TOKEN
from ws.verify.outside_refusal import our_versions
from ws.verify.verdict import Report, Verdict
from ws.wait import NotYet, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.long]

BASE = 21870


@contextmanager
def head(kind: str, image: str, base: int) -> Iterator[None]:
    """A head by plain `ray start`, its ports published on loopback: Ray Client, GCS, dashboard."""
    name = f"ws-test-18-{kind}"
    ports = zip((base, base + 1, base + 2), (10001, 6379, 8265), strict=True)
    published = [part for ours, theirs in ports for part in ("-p", f"127.0.0.1:{ours}:{theirs}")]
    start = ["ray", "start", "--head", "--block", "--disable-usage-stats", "--dashboard-host=0.0.0.0", "--num-cpus=2"]
    flags = ["--name", name, "--shm-size=300m", *AS_PLAIN_RAY, *published]
    docker("run", "-d", *flags, image, *start, "--object-store-memory=100000000")
    try:

        def started() -> None:
            """Ray says that it has started before Ray Client and dashboard answer."""
            if [speaks(port) for port in (base, base + 1, base + 2)] != [Speaks.client, Speaks.gcs, Speaks.dashboard]:
                raise NotYet(docker("logs", name)[-2000:])

        wait_for(f"the head in {name}", started, timeout=120, interval=0.5)
        yield
    finally:
        docker("rm", "-f", name, check=False)


def speaks(port: int) -> Speaks:
    return asyncio.run(look(Endpoint("127.0.0.1", port), "", timeout=2.0)).speaks


def verified(address: str, dashboard: str | None = None) -> Report:
    return verify(Outside(Address.parse(address), NO_TOKEN, 5.0, dashboard), [], lambda *_: None)


def failed_by(report: Report, scenario: str) -> set[str]:
    """The keys of the causes, all of which this scenario has named, the last one that ran."""
    assert report.verdict is Verdict.FAIL, report
    assert report.scenarios[-1].name == scenario
    return {cause.key for check in report.scenarios[-1].checks for cause in check.causes}


def test_another_release_of_ray_is_named_before_and_while_connecting() -> None:
    with head("ray", "cslr-exp-platform/ray-other:latest", BASE):
        for dashboard in (f"http://127.0.0.1:{BASE + 2}", None):
            report = verified(f"ray://127.0.0.1:{BASE}", dashboard)
            assert failed_by(report, "versions") == {"ray-version"}
            assert "--with 'ray[client,default]==" in report.scenarios[-1].checks[0].causes[0].remedy


def test_another_minor_version_of_python_is_named() -> None:
    with head("python", "cslr-exp-platform/python-other:latest", BASE):
        for address in (f"ray://127.0.0.1:{BASE}", f"127.0.0.1:{BASE + 1}"):
            assert failed_by(verified(address), "versions") == {"python-version"}


def test_a_gcs_without_a_node_on_this_machine_is_inconclusive_and_says_what_to_do() -> None:
    version = our_versions()["ray"]
    with head("far", f"rayproject/ray:{version}-py311", BASE):
        report = verified(f"127.0.0.1:{BASE + 1}", f"http://127.0.0.1:{BASE + 2}")
        assert report.verdict is Verdict.INCONCLUSIVE
        unseen = [result.name for result in report.scenarios if result.verdict is Verdict.INCONCLUSIVE]
        assert unseen == ["nodes", "transfer"]  # one node, so there are no links
        said = [check.evidence for result in report.scenarios for check in result.checks if result.name == "transfer"]
        assert "ray://127.0.0.1:10001" in said[0]
