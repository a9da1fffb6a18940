"""Whether a driver from here fits a cluster, known before one is started, and what would fit."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version

from ws.errors import EnvironmentProblem


@dataclass(frozen=True)
class Versions:
    """Of Ray and of Python, as `2.60.0` and `3.11.7`; empty where unknown."""

    ray: str
    python: str

    @classmethod
    def ours(cls) -> Versions:
        """Those of this installation; Ray itself is not imported."""
        return cls(version("ray"), platform.python_version())

    @property
    def python_minor(self) -> str:
        """`3.11`: drivers and Ray Client accept another patch release."""
        return ".".join(self.python.split(".")[:2])


class Mismatch(EnvironmentProblem):
    """A driver or Ray Client from here would be refused."""


def mismatch(cluster: Versions, ours: Versions) -> Mismatch | None:
    """What keeps a driver from here out of that cluster, with what would fit; None: nothing that is known.

    Ray must be the same, and Python up to its minor release (Ray Client and drivers refuse all else).
    """
    differ = []
    if cluster.ray and cluster.ray != ours.ray:
        differ.append(f"Ray {cluster.ray} there, {ours.ray} here")
    if cluster.python and cluster.python_minor != ours.python_minor:
        differ.append(f"Python {cluster.python} there, {ours.python} here")
    if not differ:
        return None
    fitting = Versions(cluster.ray or ours.ray, cluster.python or ours.python)
    return Mismatch(f"the cluster's versions are not ours: {'; '.join(differ)}", mend=what_fits(fitting))


def what_fits(cluster: Versions) -> str:
    """The image and the `uv` command whose drivers this cluster takes."""
    image = f"rayproject/ray:{cluster.ray}-py{cluster.python_minor.replace('.', '')}"
    return (
        f"image {image}, or "
        f"uv run --no-project --python {cluster.python_minor} --with 'ray[client,default]=={cluster.ray}' python …"
    )
