"""Looking through a helper process, where no dashboard can be reached: whatever Ray does there ends with it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ws.cluster.look import Identity, Look, Starting
from ws.cluster.nodes import Actor, SeenNode
from ws.cluster.versions import Versions, mismatch
from ws.errors import EnvironmentProblem
from ws.node.probe import try_connect
from ws.node.secret import Token, revealed
from ws.process import Spawn, start

_PROGRAM = Path(__file__).with_name("looker.py")
_EVERY = 1.0
_GRACE = 10.0
_NEXT_LOOK = 4.0
"""Seconds within which a helper that has looked once looks again."""
_FIRST_LOOK = 60.0
"""Seconds until a helper that never looked counts as stuck: importing Ray alone takes some on a busy machine."""


@dataclass(frozen=True)
class Way:
    """How the helper looks: `kind` "gcs" or "client" at `address` (host:port), or "local" at a Ray that it starts.

    `init` are the arguments of `ray.init`, for all but "gcs".
    """

    kind: str
    address: str = ""
    init: Mapping[str, Any] = field(default_factory=dict)


def init_arguments(namespace: str | None = None, env_vars: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `ray.init` is given for somebody else's cluster: a namespace, and at most variables for its workers.

    Never a `working_dir`: uploading a large folder is what once made connecting hang (DESIGN, decision 8).
    """
    arguments: dict[str, Any] = {"namespace": namespace} if namespace else {}
    if env_vars:
        arguments["runtime_env"] = {"env_vars": dict(env_vars)}
    return arguments


class HelperSource:
    """A `Source` over the lines of a helper process, which starts with the first look and anew after every failure."""

    def __init__(self, way: Way, token: Token, spawn: Spawn | None = None) -> None:
        self.where = f"{way.kind} {way.address}".strip()
        self._way = way
        self._spawn = spawn or partial(start, env=_environment(token))
        self._helper: _Helper | None = None
        self._lock = threading.Lock()
        self._closed = False

    def look(self) -> Look:
        helper = self._running()
        try:
            return helper.newest(_NEXT_LOOK)
        except EnvironmentProblem:
            if helper.is_stuck():
                self._end(helper)
            raise

    def close(self) -> None:
        with self._lock:
            self._closed = True
            helper, self._helper = self._helper, None
        if helper:
            helper.end()

    def _running(self) -> _Helper:
        with self._lock:
            if self._helper:
                return self._helper
        if self._way.address and (obstacle := try_connect(self._way.address)):
            raise EnvironmentProblem(f"no way to {self._way.address}", obstacle)
        with self._lock:
            if self._closed:
                raise EnvironmentProblem(f"the connection to {self.where} was ended")
            self._helper = self._helper or _Helper(self._spawn(_command(self._way)))
            return self._helper

    def _end(self, helper: _Helper) -> None:
        with self._lock:
            if self._helper is helper:
                self._helper = None
        helper.end()


class _Helper:
    """The running process. A thread reads its lines, so that nobody waits for it longer than wanted."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._news = threading.Condition()
        self._look: Look | None = None
        self._looked_at = time.monotonic()
        self._first = True
        self._failure: EnvironmentProblem | None = None
        self._words = ""
        threading.Thread(target=self._read, name="helper", daemon=True).start()

    def newest(self, timeout: float) -> Look:
        """The newest look that nobody has had yet, waited for; raises EnvironmentProblem where none comes."""
        with self._news:
            self._news.wait_for(lambda: self._look or self._failure, timeout)
            if self._failure:
                raise self._failure
            if self._look is None:
                if self._first and not self.is_stuck():
                    raise Starting("the helper process is starting", self._words or None)
                raise EnvironmentProblem("the helper process is silent", self._words or None)
            look, self._look = self._look, None
            return look

    def is_stuck(self) -> bool:
        """Whether nothing is to be expected of it any more."""
        patience = _FIRST_LOOK if self._first else 2 * _NEXT_LOOK
        return self._failure is not None or time.monotonic() - self._looked_at > patience

    def end(self) -> None:
        """Let it end by itself (a Ray of its own goes with it), and kill it where it does not."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        threading.Thread(target=self._kill_later, name="helper's end", daemon=True).start()

    def _kill_later(self) -> None:
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                self._take(line)
        code = self._process.wait()
        with self._news:
            self._failure = self._failure or EnvironmentProblem(
                f"the helper process ended with exit code {code}", self._words or None
            )
            self._news.notify_all()

    def _take(self, line: str) -> None:
        answer = _parsed(line)
        with self._news:
            if "look" in answer:
                self._look, self._looked_at, self._first = _look(answer["look"]), time.monotonic(), False
            elif "mismatch" in answer:
                self._failure = mismatch(Versions(**answer["mismatch"]), Versions.ours())
            elif "problem" in answer:
                self._failure = EnvironmentProblem("the cluster does not answer", str(answer["problem"]))
            else:
                self._words = line.strip() or self._words
            self._news.notify_all()


def _parsed(line: str) -> dict[str, Any]:
    try:
        answer = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _look(raw: Mapping[str, Any]) -> Look:
    actors = raw["actors"]
    return Look(
        cluster=Identity(raw["session"] or _session(raw), raw["ray"], raw["python"]),
        nodes=tuple(SeenNode(**node) for node in raw["nodes"]),
        actors=None if actors is None else tuple(Actor(**actor) for actor in actors),
        dashboard=raw["dashboard"],
    )


def _session(raw: Mapping[str, Any]) -> str:
    """Ray Client does not tell the session; the living head's node id changes with it."""
    return next((str(node["node_id"]) for node in raw["nodes"] if node["head"] and node["alive"]), "")


def _command(way: Way) -> list[str]:
    ours = Versions.ours()
    params = {
        "way": way.kind,
        "address": way.address,
        "ray": ours.ray,
        "python": ours.python,
        "every": _EVERY,
        "init": dict(way.init),
    }
    return [sys.executable, "-u", "-c", _PROGRAM.read_text(encoding="utf-8"), json.dumps(params)]


def _environment(token: Token) -> dict[str, str]:
    if not token:  # said in so many words: what this process has in its environment is for other clusters
        return {"RAY_AUTH_MODE": "disabled"}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": revealed(token)}
