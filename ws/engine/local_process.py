"""Processes of the local engine: spawned so that they outlive `ws`, found by their mark, ended for certain.

Nothing is remembered. Each process of a cluster carries WS_LOCAL_CLUSTER in its environment from the moment
it exists, so a `ws` that is killed at any time leaves nothing that can't be found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ws.node.ray_process import MARKER as RAY_MARK
from ws.wait import NotYet, WaitTimeout, wait_for

CLUSTER_MARK = "WS_LOCAL_CLUSTER"
NODE_MARK = "WS_LOCAL_NODE"

_POLL = 0.05
_KILL_LIMIT = 5.0
_WRAPPER_NAME = "ws-node"

# Runs the command that follows the record's path and Python's, and writes its exit code to the record: its parent has
# ended by then, so nobody else would learn it. An empty record says that it has begun. The second wait is for a signal
# that arrives during the first one; 128 and more is how the shell says so. An agent that was killed leaves Ray behind,
# a head without a lease perhaps; so the node ends as a whole, as a container does with its first process.
_WRAPPER = f"""
record=$1 python=$2; shift 2
: > "$record"
(
  agent=
  trap 'test -z "$agent" || kill -TERM "$agent"' TERM
  "$@" &
  agent=$!
  wait "$agent"; code=$?
  while test "$code" -gt 128 && kill -0 "$agent" 2>/dev/null; do wait "$agent"; code=$?; done
  test "$code" -eq 0 || "$python" -P -m {__name__}
  echo "$code" > "$record"
) &
"""


@dataclass
class NodeProcesses:
    """What lives of one node (or of the health server, by the name `health`).

    `wrappers` are the shell around the agent, `agents` the agent itself, `others` Ray with all that it has started;
    `environ` is the agent's.
    """

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    wrappers: list[psutil.Process] = field(default_factory=list)
    agents: list[psutil.Process] = field(default_factory=list)
    others: list[psutil.Process] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return bool(self.own)

    @property
    def own(self) -> list[psutil.Process]:
        """Those of ours: without any of them, the node has ended."""
        return [*self.wrappers, *self.agents]

    @property
    def all(self) -> list[psutil.Process]:
        return [*self.own, *self.others]


@dataclass(frozen=True)
class _Seen:
    """A living process at one glance; `environ` is empty where it is another user's."""

    process: psutil.Process
    parent: int
    session: int
    environ: Mapping[str, str]

    @property
    def is_own(self) -> bool:
        # The agent marks all that it starts with a second variable.
        return CLUSTER_MARK in self.environ and RAY_MARK not in self.environ

    @property
    def is_wrapper(self) -> bool:
        try:
            return self.is_own and self.process.cmdline()[3:4] == [_WRAPPER_NAME]
        except psutil.Error:
            return False


def spawn(command: Sequence[str], environ: Mapping[str, str], *, folder: Path, log: Path, record: Path) -> None:
    """Start `command` in `folder`, in a session of its own and as nobody's child; returns at once.

    Its output goes to the file `log`, emptied first, and its exit code to the file `record` once it has ended.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    output = os.open(log, flags, 0o600)
    try:
        subprocess.run(
            ["/bin/sh", "-c", _WRAPPER, _WRAPPER_NAME, str(record), sys.executable, *command],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=True,
        )
    finally:
        os.close(output)


def find_nodes(cluster: str) -> dict[str, NodeProcesses]:
    """Every living process of a cluster, by the name of its node."""
    living = _living()
    nodes: dict[str, NodeProcesses] = {}
    for pid, name in _owners(living, cluster).items():
        seen = living[pid]
        node = nodes.setdefault(name, NodeProcesses(name))
        if seen.is_own:
            node.environ = seen.environ
            (node.wrappers if seen.is_wrapper else node.agents).append(seen.process)
        else:
            node.others.append(seen.process)
    return nodes


def other_clusters(cluster: str) -> list[Mapping[str, str]]:
    """The environments of the agents of every other local cluster of this user."""
    return [seen.environ for seen in _living().values() if seen.is_own and seen.environ[CLUSTER_MARK] != cluster]


def _living() -> dict[int, _Seen]:
    glances = (_look(process) for process in psutil.process_iter())
    return {seen.process.pid: seen for seen in glances if seen is not None}


def _look(process: psutil.Process) -> _Seen | None:
    try:
        with process.oneshot():
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            parent, session = process.ppid(), os.getsid(process.pid)
        try:
            environ = process.environ()
        except psutil.AccessDenied:
            environ = {}
        return _Seen(process, parent, session, environ)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def _owners(living: Mapping[int, _Seen], cluster: str) -> dict[int, str]:
    """The node that each process belongs to: by its mark, its session or its parent.

    The mark alone does not do: Ray's workers overwrite their environment with their process title. A session
    counts where its leader is ours, or gone; so a marked process in somebody's terminal doesn't drag that
    along. This very process and its ancestors are never counted.
    """
    owners = {
        pid: seen.environ.get(NODE_MARK, "") for pid, seen in living.items() if seen.environ.get(CLUSTER_MARK) == cluster
    }
    while True:
        sessions = {
            living[pid].session: name
            for pid, name in owners.items()
            if living[pid].session in owners or living[pid].session not in living
        }
        sessions.pop(0, None)  # what a container shows for any session that began outside of it
        found = {
            pid: sessions.get(seen.session, owners.get(seen.parent, ""))
            for pid, seen in living.items()
            if pid not in owners and (seen.session in sessions or seen.parent in owners)
        }
        if not found:
            break
        owners.update(found)
    spared = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    return {pid: name for pid, name in owners.items() if pid not in spared}


def ask_to_end(nodes: Collection[NodeProcesses], timeout: float) -> None:
    """SIGTERM to all agents at once, then wait until they have ended or `timeout` seconds are over.

    Their wrappers get none: they would pass it on, and each agent would have two.
    """
    _signal((agent for node in nodes for agent in node.agents), signal.SIGTERM)
    _wait_ended([process for node in nodes for process in node.own], timeout)


def kill(cluster: str, known: Iterable[psutil.Process], names: Collection[str] | None = None) -> list[str]:
    """Kill what is left of `known` and of the cluster's nodes (those in `names`; None: all of them).

    Looks again until nothing is found, as the dying may still start something. Returns, in words, what could
    not be killed.
    """
    remaining = list(known)

    def nothing_left() -> None:
        found = [process for node in _chosen(cluster, names) for process in node.all]
        remaining[:] = [process for process in {*remaining, *found} if is_alive(process)]
        if remaining:
            _signal(remaining, signal.SIGKILL)
            raise NotYet

    try:
        wait_for("the end of every process", nothing_left, timeout=_KILL_LIMIT, interval=_POLL)
    except WaitTimeout:
        return [f"process {process.pid} ({_name(process)}) does not end" for process in remaining]
    return []


def _chosen(cluster: str, names: Collection[str] | None) -> list[NodeProcesses]:
    return [node for node in find_nodes(cluster).values() if names is None or node.name in names]


def is_alive(process: psutil.Process) -> bool:
    """Whether this very process (not another one with its pid) still runs; one to be reaped doesn't."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_ended(processes: Sequence[psutil.Process], timeout: float) -> None:
    def all_ended() -> None:
        if any(is_alive(process) for process in processes):
            raise NotYet

    with contextlib.suppress(WaitTimeout):
        wait_for("the end of the agents", all_ended, timeout=timeout, interval=_POLL)


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "unknown"


if __name__ == "__main__":
    sys.exit("\n".join(kill(os.environ[CLUSTER_MARK], [], {os.environ[NODE_MARK]})) or None)
