"""Why Ray refused to connect, from its own words, and how versions that differ are mended."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ws.verify.verdict import Cause

Versions = Mapping[str, str]
"""The releases of Ray and Python: {"ray", "python"}."""

_MISMATCH = re.compile(r"The cluster was started with:\s+Ray: (?P<ray>\S+)\s+Python: (?P<python>\S+)")
_OLDEST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Refusal:
    """`versions`: the cluster's, where Ray named them."""

    cause: Cause
    versions: Versions | None = None


def our_versions() -> Versions:
    return {"ray": importlib.metadata.version("ray"), "python": platform.python_version()}


def version_causes(theirs: Versions, address: str) -> list[Cause]:
    """What differs so that Ray refuses it: any other release of Ray, another minor version of Python."""
    found, ours = [], our_versions()
    remedy = _remedy(theirs, ours, address)
    if theirs["ray"] != ours["ray"]:
        found.append(
            Cause("ray-version", f"the cluster has Ray {theirs['ray']}, this environment has {ours['ray']}", remedy)
        )
    if _minor(theirs["python"]) != _minor(ours["python"]):
        what = f"the cluster has Python {theirs['python']}, this environment has {ours['python']}, another minor version"
        found.append(Cause("python-version", what, remedy))
    return found


def _remedy(theirs: Versions, ours: Versions, address: str) -> str:
    python, own = _minor(theirs["python"]), _minor(ours["python"])
    image = f"rayproject/ray:{ours['ray']}-py{own[0]}{own[1]}"
    nodes = f"give every node an image with Ray {ours['ray']} and Python {own[0]}.{own[1]}, such as {image}"
    if python < _OLDEST_PYTHON:
        return f"{nodes} (`ws` itself needs Python {_OLDEST_PYTHON[0]}.{_OLDEST_PYTHON[1]} or newer)"
    uv = f"uv run --isolated --python {python[0]}.{python[1]} --with 'ray[client,default]=={theirs['ray']}'"
    return f"verify with the cluster's versions: `{uv} ws verify {address}`; or {nodes}"


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def cause_of_refusal(why: str, address: str) -> Refusal:
    """The cause in Ray's words `why`; where nothing in them is known, they themselves."""
    found = _MISMATCH.search(why)
    if found:
        versions = found.groupdict()
        return Refusal(next(iter(version_causes(versions, address)), _patch_cause(versions, address)), versions)
    if re.search(r"InvalidAuthToken|Unauthenticated|UNAUTHENTICATED", why):
        return Refusal(Cause("token-wrong", f"{address} refuses the token", "give the cluster's own by `--token-file F`"))
    lines = [line.strip() for line in why.splitlines() if line.strip()]
    said = lines[0][:500] if lines else "it ended without a word"
    remedy = "the log of the head tells more (with Ray Client: ray_client_server*.log in its log folder)"
    return Refusal(Cause("ray-error", f"connecting to {address}: {said}", remedy))


def _patch_cause(theirs: Versions, address: str) -> Cause:
    """A driver on a node, unlike Ray Client, wants the same patch release of Python, too."""
    ours = our_versions()
    what = f"the cluster has Python {theirs['python']}, this environment has {ours['python']}; a driver on a node needs that"
    return Cause("python-version", what, _remedy(theirs, ours, address))
