"""What the Docker SDK and the connection below it raise, as an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ws.errors import EnvironmentProblem


def foreign_errors() -> tuple[type[Exception], ...]:
    """What a call of the SDK may raise: the daemon's refusal, and a daemon that is slow or gone."""
    import requests
    import urllib3.exceptions
    from docker.errors import DockerException

    return DockerException, requests.RequestException, urllib3.exceptions.HTTPError


@contextmanager
def translated() -> Iterator[None]:
    """Raise EnvironmentProblem for all of them; also a decorator."""
    try:
        yield
    except foreign_errors() as error:
        what = "the Docker daemon refused, or broke off"
        raise EnvironmentProblem(what, str(error), "`ws doctor` looks for causes on this machine") from None
