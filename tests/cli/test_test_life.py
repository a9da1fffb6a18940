"""Whatever ends `ws test`: the test's containers are removed, or named."""

from __future__ import annotations

import io
from typing import Any

import pytest

from ws.cli.test_life import tidied
from ws.console import Progress
from ws.errors import EnvironmentProblem


class Bed:
    """Two containers; `broken`: their daemon answers nothing."""

    def __init__(self, broken: bool = False) -> None:
        self.containers = {"client": "p-client", "worker": "p-worker"}
        self.there = ["client", "worker"]
        self.broken = broken

    def present(self) -> list[str]:
        if self.broken:
            raise EnvironmentProblem("Docker broke off", "timed out")
        return self.there

    def down(self) -> list[str]:
        self.there = []
        return []


class Site:
    closed = False

    def close(self) -> None:
        self.closed = True


def ended_by(error: BaseException, bed: Bed, **settings: bool) -> str:
    """What is told when this error ends the body."""
    told, site = io.StringIO(), Site()
    given: Any = (bed, site)
    with (
        pytest.raises(type(error)),
        tidied(*given, **{"stays": False, "keep": False, **settings}, progress=Progress(stream=told)),
    ):
        raise error
    assert site.closed
    return told.getvalue()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EnvironmentProblem("no"), RuntimeError("a bug")], ids=repr)
class TestWhateverEndsIt:
    def test_the_containers_go(self, error: BaseException) -> None:
        bed = Bed()
        assert "removing the test's containers" in ended_by(error, bed)
        assert bed.there == []

    def test_kept_ones_stay_and_are_named(self, error: BaseException) -> None:
        bed = Bed()
        assert "left as it is, to be looked at: client, worker; `ws test --down`" in ended_by(error, bed, keep=True)
        assert bed.there == ["client", "worker"]

    def test_where_nobody_knows_all_are_named(self, error: BaseException) -> None:
        for keep in (True, False):
            told = ended_by(error, Bed(broken=True), keep=keep)
            assert all(name in told for name in ("p-client", "p-worker", "ws test --down"))


def test_what_was_started_to_stay_goes_after_ctrl_c_alone() -> None:
    started, interrupted = Bed(), Bed()
    assert "left as it is" in ended_by(EnvironmentProblem("no"), started, stays=True)
    assert "Interrupted: removing" in ended_by(KeyboardInterrupt(), interrupted, stays=True)
    assert (started.there, interrupted.there) == (["client", "worker"], [])


def test_what_ends_well_is_left_alone() -> None:
    bed, site, told = Bed(), Site(), io.StringIO()
    given: Any = (bed, site)
    with tidied(*given, stays=False, keep=False, progress=Progress(stream=told)):
        pass
    assert (bed.there, site.closed, told.getvalue()) == (["client", "worker"], False, "")
