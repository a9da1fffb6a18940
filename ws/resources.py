"""The files that come with the package: templates, Dockerfiles, the node agent.

A project folder may hold its own copy (`ws init` puts one there), which wins. In a checkout they lie at the top; in an
installed wheel in `ws/_files`.
"""

from __future__ import annotations

from pathlib import Path

from ws.errors import EnvironmentProblem

_PACKAGE = Path(__file__).resolve().parent


def packaged(name: str) -> Path:
    """The file or folder `name` (for example "template/ray-ep.sh") as this installation brings it."""
    for root in (_PACKAGE / "_files", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise EnvironmentProblem(
        f"{name} is missing from this installation",
        mend="install again: pip install --force-reinstall, with the folder or file that it was installed from",
    )


def find(project: Path, name: str) -> Path:
    """The file `name`: the project's own where it has one, else the packaged one."""
    own = project / name
    return own if own.exists() else packaged(name)


def checkout_tool(name: str) -> str | None:
    """The path of a script in `tools/`, or None where there is no checkout: an installed wheel brings none."""
    path = _PACKAGE.parent / "tools" / name
    return str(path) if path.exists() else None


def node_folder() -> Path:
    """The folder of the node agent, `ws/node`."""
    return _PACKAGE / "node"


def programs_folder() -> Path:
    """The folder of the programs that checks run on nodes, `ws/verify/programs`."""
    return _PACKAGE / "verify" / "programs"
