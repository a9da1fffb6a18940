"""The tree of errors: exit codes as documented, and texts for people."""

from __future__ import annotations

import re

import pytest

import ws.errors
from ws.errors import (
    CheckFailed,
    CommandFailed,
    ConfigError,
    EnvironmentProblem,
    Inconclusive,
    Problem,
    UsageError,
    WsError,
)

CODES = {
    WsError: 1,
    CheckFailed: 1,
    UsageError: 2,
    ConfigError: 2,
    Inconclusive: 3,
    EnvironmentProblem: 4,
    CommandFailed: 4,
}


@pytest.mark.parametrize(("error", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", None))
def test_exit_codes(error: type[WsError], code: int) -> None:
    assert error.exit_code == code
    assert issubclass(error, WsError)


def test_the_tree_in_the_module_is_the_tree() -> None:
    drawn = re.findall(r"^[ │├└─]*(\w+) .*?(?:exit (\d))?$", ws.errors.__doc__ or "", re.MULTILINE)
    told = {name: code for name, code in drawn if name in vars(ws.errors)}
    classes = {
        value.__name__: value for value in vars(ws.errors).values() if isinstance(value, type) and issubclass(value, WsError)
    }
    assert set(told) == set(classes)
    for name, code in told.items():
        assert not code or int(code) == classes[name].exit_code


def test_an_error_tells_what_why_and_mend() -> None:
    assert str(WsError("it broke", "the cause", "ws mend")) == "it broke\nthe cause\nws mend"
    assert str(WsError("it broke")) == "it broke"


@pytest.mark.parametrize(("count", "told"), [(1, "has 1 problem"), (2, "has 2 problems")])
def test_problems_of_a_configuration_come_all_at_once(count: int, told: str) -> None:
    problems = [Problem("network.subnet", f"is wrong ({number})", "do this", "config.yaml", 7) for number in range(count)]
    error = ConfigError(problems)
    assert error.what == f"the configuration {told}"
    assert error.problems == tuple(problems)
    assert str(error.why).splitlines() == [f"config.yaml:7 network.subnet: is wrong ({n}); do this" for n in range(count)]


@pytest.mark.parametrize(
    ("problem", "where"),
    [
        (Problem("a.b", "x"), "a.b"),
        (Problem("a.b", "x", file="WS_A__B"), "WS_A__B a.b"),
        (Problem("a.b", "x", file="c.yaml", line=3), "c.yaml:3 a.b"),
        (Problem("", "x", file="c.yaml", line=3), "c.yaml:3"),
    ],
)
def test_where_a_problem_is(problem: Problem, where: str) -> None:
    assert problem.where == where
    assert str(problem) == f"{where}: x"


def test_a_command_that_printed_nothing_has_no_cause() -> None:
    error = CommandFailed(["docker", "ps"], 1, " \n")
    assert error.what == "`docker ps` ended with exit code 1"
    assert error.why is None
