from __future__ import annotations

import platform
from importlib.metadata import version

import pytest

from ws.cluster.versions import Versions, mismatch

OURS = Versions("2.60.0", "3.11.7")


@pytest.mark.parametrize(
    "cluster",
    [OURS, Versions("2.60.0", "3.11.2"), Versions("", ""), Versions("2.60.0", ""), Versions("", "3.11.0")],
)
def test_what_drivers_accept_is_no_mismatch(cluster: Versions) -> None:
    assert mismatch(cluster, OURS) is None


def test_another_ray_is_named_with_the_image_and_the_command_that_fit() -> None:
    found = mismatch(Versions("2.9.3", "3.10.13"), OURS)
    assert found is not None
    assert found.what == (
        "the cluster's versions are not ours: Ray 2.9.3 there, 2.60.0 here; Python 3.10.13 there, 3.11.7 here"
    )
    assert found.mend == (
        "image rayproject/ray:2.9.3-py310, or uv run --no-project --python 3.10 --with 'ray[client,default]==2.9.3' python …"
    )


def test_another_python_minor_alone_is_one_as_well() -> None:
    found = mismatch(Versions("2.60.0", "3.12.1"), OURS)
    assert found is not None
    assert "Ray 2" not in found.what
    assert "ray:2.60.0-py312" in str(found.mend)


def test_what_is_unknown_of_the_cluster_is_taken_from_here() -> None:
    found = mismatch(Versions("2.9.3", ""), OURS)
    assert found is not None
    assert "ray:2.9.3-py311" in str(found.mend)


def test_ours_are_those_of_this_installation() -> None:
    assert Versions.ours() == Versions(version("ray"), platform.python_version())
