"""Runs one transfer for a command: in a thread, so that Ctrl-C ends it in order, and a second one at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.console import Progress
from ws.errors import CheckFailed, WsError
from ws.transfer.events import Cancelled, Event, Finished, Started
from ws.transfer.onnode.problems import TransferProblem

if TYPE_CHECKING:
    from ws.cli.transfer_view import JsonView, PeopleView
    from ws.transfer.history import History
    from ws.transfer.job import Job
    from ws.transfer.session import Session

INTERRUPTED = 130
_BEAT = 0.1
"""Seconds after which Ctrl-C is noticed at the latest."""
FAILED = 1


@dataclass(frozen=True)
class Cluster:
    """How the cluster is found, as given on the command line."""

    address: str | None = None
    token_file: Path | None = None
    config: Path | None = None

    def as_options(self) -> dict[str, str | None]:
        """For the history; the token itself is never kept."""
        return {
            "address": self.address,
            "token_file": str(self.token_file.absolute()) if self.token_file else None,
            "config": str(self.config.absolute()) if self.config else None,
        }

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Cluster:
        paths = {name: Path(options[name]) for name in ("token_file", "config") if options.get(name)}
        return cls(address=options.get("address"), **paths)


class Run:
    """One transfer: hands its events to the view, keeps what it takes to run it again, and knows how it ended.

    Attributes:
        id: the transfer's, empty until it has begun.
        code: the exit code, once it has ended.
    """

    def __init__(
        self, history: History, view: JsonView | PeopleView, options: Mapping[str, Any], resumes: str | None
    ) -> None:
        self.id = ""
        self.code = FAILED
        self._history = history
        self._view = view
        self._options = options
        self._resumes = resumes
        self._lock = threading.Lock()
        self._cancelled = False
        self._interrupts = 0

    def run(self, work: Callable[[Callable[[Event], None]], object]) -> int:
        """Do the work, which is given where to tell its events; returns the exit code.

        Raises what the work raises; a TransferProblem as CheckFailed.
        """
        ended = threading.Event()
        raised: list[BaseException] = []

        def body() -> None:
            try:
                work(self._take)
            except BaseException as error:
                raised.append(error)
            finally:
                ended.set()

        with self._view, self._heeding_interrupts():  # both before the first event
            threading.Thread(target=body, name="transfer", daemon=True).start()
            while not ended.wait(_BEAT):
                if self._interrupts and not self._cancelled:
                    self._cancel()
        if raised and not self._cancelled:
            raise _translated(raised[0])
        return INTERRUPTED if self._cancelled and self.code else self.code

    @contextmanager
    def _heeding_interrupts(self) -> Iterator[None]:
        """Ctrl-C is counted instead of raised: an exception might come between any two steps of this module."""
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, *_: object) -> None:
        self._interrupts += 1
        if self._interrupts > 1 and self._cancelled:
            self._view.__exit__()  # the terminal gets its cursor back
            os._exit(INTERRUPTED)

    def _cancel(self) -> None:
        self._view.note("cancelling; Ctrl-C again ends at once")
        with self._lock:
            self._cancelled = True
            begun = self.id
        if begun:
            self._history.want(begun, "cancel")

    def _take(self, event: Event) -> None:
        if isinstance(event, Started):
            with self._lock:
                self.id = event.transfer
            self._history.add_options(self.id, self._options)
            if self._resumes:
                self._history.resumed(self._resumes, self.id)
            if self._cancelled:
                self._history.want(self.id, "cancel")
        if isinstance(event, Finished):
            self.code = 0 if event.state == "done" else FAILED
        elif isinstance(event, Cancelled):
            self.code = FAILED
        self._view.show(event)


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, TransferProblem) and not isinstance(error, WsError):
        return CheckFailed(error.what, error.why or None, error.mend or None)
    return error


def connect(cluster: Cluster, progress: Progress) -> Session:
    """A session on the cluster; raises WsError where there is none."""
    from ws.cluster.connect import Wish, choose
    from ws.cluster.credentials import find_token
    from ws.cluster.external_config import load_external_config
    from ws.transfer.session import Session

    settings = load_external_config(cluster.config, os.environ).ray_cluster
    address, origin = choose(cluster.address, os.environ, settings.address)
    wish = Wish(
        address=address,
        origin=origin,
        token=find_token(cluster.token_file, os.environ),
        namespace=settings.namespace,
        allow_local_fallback=settings.allow_local_fallback,
    )
    with progress.step("Connecting"):
        return Session.open(wish, progress.warn)


def work_of(session: Session, job: Job, history: History) -> Callable[[Callable[[Event], None]], object]:
    """What runs the job, for Run.run."""
    from ws.transfer import coordinator

    return lambda on_event: coordinator.run(session, job, on_event=on_event, history=history)
