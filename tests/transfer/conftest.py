"""What the tests of whole transfers share."""

from __future__ import annotations

import sys

import pytest

from tests.transfer.made_up_ray import MadeUpRay
from tests.transfer.parties import Cluster


@pytest.fixture(params=["stream", "ray"])
def either_plane(request: pytest.FixtureRequest, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs by each plane: the real code of both, over a Ray that is made up."""
    monkeypatch.setitem(sys.modules, "ray", MadeUpRay())
    cluster.plane = str(request.param)
    return cluster.plane
