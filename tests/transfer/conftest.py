"""What the tests of whole transfers share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.transfer.made_up_ray import MadeUpRay
from tests.transfer.parties import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["stream", "ray"])
def either_plane(request: pytest.FixtureRequest, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs by each plane: the real code of both, over a Ray that is made up."""
    monkeypatch.setitem(sys.modules, "ray", MadeUpRay())
    cluster.plane = str(request.param)
    return cluster.plane
