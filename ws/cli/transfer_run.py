"""Runs one transfer for a command: in a thread, so that Ctrl-C, SIGTERM, or a reader of the output who has gone end it in
order, and a second Ctrl-C at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ws.cli.common import token_for
from ws.console import Progress
from ws.errors import CheckFailed, EnvironmentProblem, WsError
from ws.transfer.events import Cancelled, Event, Finished, Started
from ws.transfer.onnode.problems import TransferProblem

if TYPE_CHECKING:
    from ws.cli.transfer_view import JsonView, PeopleView
    from ws.transfer.history import History
    from ws.transfer.job import Job
    from ws.transfer.session import Session

FAILED = 1
_BY_SIGNAL = 128
"""Added to a signal's number: the exit code, as shells have it."""
_BEAT = 0.1
"""Seconds after which a signal is noticed at the latest."""


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
        stopped_by: the signal that asked to stop; SIGPIPE where nobody reads the output any more.
    """

    def __init__(
        self, history: History, view: JsonView | PeopleView, options: Mapping[str, Any], resumes: str | None
    ) -> None:
        self.id = ""
        self.code = FAILED
        self.stopped_by: signal.Signals | None = None
        self._history = history
        self._view = view
        self._options = options
        self._resumes = resumes
        self._lock = threading.Lock()
        self._cancelled = False
        self._unwritable: OSError | None = None

    def run(self, work: Callable[[Callable[[Event], None]], object]) -> int:
        """Do the work, which is given where to tell its events; returns the exit code.

        Raises what the work raises, a TransferProblem as CheckFailed; EnvironmentProblem where the output can't be written.
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

        with self._view, self._heeding_signals():  # both before the first event
            threading.Thread(target=body, name="transfer", daemon=True).start()
            while not ended.wait(_BEAT):
                if (self.stopped_by or self._unwritable) and not self._cancelled:
                    self._cancel()
        if self._unwritable:
            raise EnvironmentProblem("what happens can't be written down", str(self._unwritable)) from self._unwritable
        if raised and not self._cancelled:
            raise _translated(raised[0])
        return self.exit_code_of_signal if self._cancelled and self.code else self.code

    @property
    def exit_code_of_signal(self) -> int:
        return _BY_SIGNAL + (self.stopped_by or signal.SIGINT)

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """They are noted instead of raised: an exception might come between any two steps of this module."""
        before = {number: signal.signal(number, self._heed) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heed(self, number: int, _: object) -> None:
        if self._cancelled and number == signal.SIGINT:  # SIGTERM may come twice from one who asks once, as `timeout` does
            self._view.__exit__()  # the terminal gets its cursor back
            os._exit(_BY_SIGNAL + number)
        self.stopped_by = self.stopped_by or signal.Signals(number)

    def _cancel(self) -> None:
        if self.stopped_by is not signal.SIGPIPE:
            self._showing(lambda: self._view.note("cancelling; Ctrl-C again ends at once"))
        with self._lock:
            self._cancelled = True
            begun = self.id
        if begun:
            self._history.want(begun, "cancel")

    def _showing(self, show: Callable[[], None]) -> None:
        """Show something. Where that fails the transfer is cancelled, and its threads go on until they have ended it."""
        try:
            show()
        except BrokenPipeError:
            self.stopped_by = self.stopped_by or signal.SIGPIPE
            _silence_unread()
        except OSError as error:
            self._unwritable = self._unwritable or error

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
        self._showing(lambda: self._view.show(event))


def _silence_unread() -> None:
    """What is still to be written goes nowhere, so that nothing fails again, at the interpreter's end neither."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, TransferProblem) and not isinstance(error, WsError):
        return CheckFailed(error.what, error.why or None, error.mend or None)
    return error


def connect(cluster: Cluster, progress: Progress) -> Session:
    """A session on the cluster; raises WsError where there is none."""
    from ws.cluster.connect import Wish, choose
    from ws.cluster.external_config import load_external_config
    from ws.transfer.session import Session

    settings = load_external_config(cluster.config, os.environ).ray_cluster
    address, origin = choose(cluster.address, os.environ, settings.address)
    wish = Wish(
        address=address,
        origin=origin,
        token=token_for(address, cluster.token_file),
        namespace=settings.namespace,
        allow_local_fallback=settings.allow_local_fallback,
    )
    with progress.step("Connecting"):
        return Session.open(wish, progress.warn)


def work_of(session: Session, job: Job, history: History) -> Callable[[Callable[[Event], None]], object]:
    """What runs the job, for Run.run."""
    from ws.transfer import coordinator

    return lambda on_event: coordinator.run(session, job, on_event=on_event, history=history)
