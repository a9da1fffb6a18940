"""What `ws test` brings up and takes down again, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ws.console import Progress
from ws.errors import WsError

if TYPE_CHECKING:
    from ws.cluster_site import ProjectSite
    from ws.engine.testbed import TestBed


@contextmanager
def cluster(bed: TestBed, wanted: bool, *, stays: bool, keep: bool, timeout: float, progress: Progress) -> Iterator[None]:
    """A cluster that is up: the one that is there, or with `wanted` one brought up now, and down again unless it `stays`.

    After Ctrl-C only `keep` lets it stay.
    """
    from ws.cluster_test import cluster_is_up, require_cluster

    if not wanted or cluster_is_up(bed):
        require_cluster(bed)
        yield
        return
    from ws.bring_up import bring_up

    project = bed.project
    try:
        bring_up(bed.engine, project, [node.hostname for node in project.plan.nodes], timeout, progress)
        yield
    finally:
        error = sys.exception()
        if keep or (stays and not isinstance(error, KeyboardInterrupt)):
            told = progress.note if error is None or isinstance(error, typer.Exit) else progress.warn
            told("the cluster stays; `ws down` removes it")
        else:
            with progress.step("Removing the cluster that was started for the test"):
                for failure in bed.engine.down(project):
                    progress.warn(failure)


@contextmanager
def tidied(bed: TestBed, site: ProjectSite, *, stays: bool, keep: bool, progress: Progress) -> Iterator[None]:
    """Whatever ends the body before its end: the test's containers are removed, or named where they stay.

    With `keep` they stay, with `stays` all but after Ctrl-C.
    """
    try:
        yield
    except BaseException as error:
        site.close()
        interrupted = isinstance(error, KeyboardInterrupt)
        if keep or (stays and not interrupted):
            name_what_is_left(bed, progress)
        else:
            _remove(bed, "Interrupted" if interrupted else "Broken off", progress)
        raise


def name_what_is_left(bed: TestBed, progress: Progress) -> None:
    try:
        left = ", ".join(bed.present())
    except WsError as problem:
        left = f"perhaps {', '.join(bed.containers.values())} ({problem.what})"
    if left:
        progress.warn(f"left as it is, to be looked at: {left}; `ws test --down` removes it")


def _remove(bed: TestBed, why: str, progress: Progress) -> None:
    from ws.cluster_test import take_down

    with progress.step(f"{why}: removing the test's containers (Ctrl-C leaves them; ws test --down)"):
        take_down(bed, progress.warn)
