"""The nodes' images: there or not, and whether Ray Client of this machine gets on with them.

Ray Client accepts another patch release of Python, and refuses another minor release or another Ray.
"""

from __future__ import annotations

import json
import platform
import re
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version

from ws.config.plan import official_image
from ws.engine import images
from ws.engine.base import Project
from ws.engine.compose import ComposeEngine
from ws.engine.doctor_finding import Finding, bad, good, warn
from ws.engine.preflight import override
from ws.errors import EnvironmentProblem, StillRunning
from ws.process import Runner, run

# Seconds. A container's first start from an image may have to unpack it, on a machine that is busy.
_PROBE_LIMIT = 20.0
# The agent finds Ray in the same way; importing it would take seconds.
_SHELL = 'PATH=/home/ray/anaconda3/bin:$PATH; exec python3 -c "$0"'
_PROBE = """
import importlib.metadata as m, importlib.util as u, json, platform
try: ray = m.version("ray")
except m.PackageNotFoundError: ray = ""
print(json.dumps({"ray": ray, "python": platform.python_version(), "numpy": u.find_spec("numpy") is not None}))
"""
_OFFICIAL_TAG = re.compile(r":(?P<ray>\d+\.\d+\.\d+)[^-]*-py(?P<major>\d)(?P<minor>\d+)")


@dataclass(frozen=True)
class Content:
    """What an image brings; `numpy` is None where it is not known."""

    ray: str
    python: str
    numpy: bool | None = None

    @property
    def minor(self) -> str:
        return ".".join(self.python.split(".")[:2])


HERE = Content(version("ray"), platform.python_version())


def examine(compose: ComposeEngine, project: Project, runner: Runner = run) -> Iterator[Finding]:
    """Every image that `up` would use on this machine."""
    names = [node.hostname for node in project.plan.nodes]
    wanted = images.images(project, names, compose.machine)
    missing = images.missing(compose.client, wanted)
    for image in missing:
        mend = "`ws up` pulls it; where no registry answers, `ws image build` builds it here"
        yield warn("images", f"{image} is not on this machine yet", mend)
    if not missing:
        yield good("images", ", ".join(wanted))
    yield from _contents(wanted[1:], missing, runner)


def any_missing(compose: ComposeEngine, project: Project) -> bool:
    names = [node.hostname for node in project.plan.nodes]
    return bool(images.missing(compose.client, images.images(project, names, compose.machine)))


def _contents(node_images: Sequence[str], missing: Sequence[str], runner: Runner) -> Iterator[Finding]:
    there = [image for image in node_images if image not in missing]
    with ThreadPoolExecutor(max_workers=4) as pool:
        for image, content in zip(there, pool.map(lambda image: look_into(image, runner), there), strict=True):
            yield from [content] if isinstance(content, Finding) else judge(image, content)
    for image in missing:
        told = by_tag(image)
        if told and image in node_images:
            yield from judge(image, told)


def look_into(image: str, runner: Runner = run) -> Content | Finding:
    """What an image that is here brings, or the finding that it can't tell."""
    name = f"ws-look-{secrets.token_hex(6)}"
    argv = ["docker", "run", "--rm", f"--name={name}", "--network=none", "--entrypoint=/bin/sh", image, "-c", _SHELL, _PROBE]
    mend = "use an image with a shell, Python and Ray; `ws image build` makes one"
    try:
        answer = json.loads(runner(argv, timeout=_PROBE_LIMIT).stdout)
    except StillRunning:
        # What was ended is the command alone; its container would go on.
        runner(["docker", "rm", "--force", name], check=False, timeout=_PROBE_LIMIT)
        again = "ws doctor once more; where it stays, the machine is overloaded, or the image's Python hangs"
        return warn("Ray and Python", f"{image} could not be looked at within {_PROBE_LIMIT:g} s", again)
    except EnvironmentProblem as problem:
        return bad("Ray and Python", f"{image} runs no Python: {_last_line(problem.why or problem.what)}", mend)
    except ValueError:
        return bad("Ray and Python", f"{image} does not tell its versions", mend)
    return Content(answer["ray"], answer["python"], answer["numpy"])


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def by_tag(image: str) -> Content | None:
    """What an official image brings, by its name."""
    found = _OFFICIAL_TAG.search(image)
    return Content(found["ray"], f"{found['major']}.{found['minor']}") if found else None


def judge(image: str, content: Content, here: Content = HERE) -> Iterator[Finding]:
    """An image's content against what runs here."""
    subject, told = "Ray and Python", f"{image} has Ray {content.ray} and Python {content.python}"
    use_ours = f"use the image of this environment: {override('services.ray.image')}={official_image()}"
    if not content.ray:
        yield bad(subject, f"{image} has no Ray", f"{use_ours}; or build one: `ws image build`")
    elif content.ray != here.ray:
        mend = f"{use_ours}; or that Ray here: uv add 'ray[client,default]=={content.ray}'"
        yield bad(subject, f"{told}, here is Ray {here.ray}: Ray Client refuses that", mend)
    elif content.minor != here.minor:
        mend = f"{use_ours}; or that Python here: uv python pin {content.minor} && uv sync"
        yield bad(subject, f"{told}, here is Python {here.python}: Ray Client refuses that", mend)
    else:
        patch = "" if content.python in (here.python, content.minor) else f" (here {here.python}: near enough)"
        yield good(subject, told + patch)
    if content.ray and content.numpy is False:
        mend = "add numpy to images/ray/requirements.txt, then `ws image build`"
        yield warn("NumPy", f"{image} has none: a task with an array fails there", mend)
