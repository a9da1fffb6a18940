"""A driver that proves nodes, one JSON event per line on stdout. Standard library and Ray alone.

It runs on a node of the cluster or on any machine that reaches it. PARAMS: `address` (as for `ray.init`), `nodes` (names
that must be proven), `timeout` (seconds).

Events:  {"event": "connected", "ray", "python"}  {"event": "alive", "node"}
         {"event": "check", "node", "check", "ok", "seconds", "why"}  {"event": "done", "ok"}

What is proven of a node (joined is not working, FACTS 1): it is alive under its own name; a task runs on it; it pulls an
object from another node; it serves one to another node; it builds a runtime environment. The driver's own node pulls what
the others serve and serves what they pull, so it needs no traffic of its own.
"""

import os
import platform
import sys
import time

from common import brief, connect, emit, parameters

CHECKS = ("task", "pull", "serve", "runtime_env")
RETRY_PAUSE = 1.0  # seconds
CONNECT_LIMIT = 20.0  # seconds; then whoever started us looks anew who leads
IMPATIENCE = 6.0  # seconds until checks that hang together are tried one by one
SIZE = 2_000_000  # bytes; objects under 100 kB travel inside messages and would prove nothing


class Node:
    """A node under proof: pending checks as (check, Ray object reference), what passed, and the last error of the rest.

    A silent one is a partner for another node's objects, and nobody hears of it.
    """

    def __init__(self, name, node_id, silent):
        self.silent = silent
        self.name = name
        self.node_id = node_id
        self.began = time.monotonic()
        self.pending = []
        self.passed = set()
        self.errors = {}
        self.again_at = None

    def passes(self, check):
        if check not in self.passed:
            self.passed.add(check)
            if self.silent:
                return
            emit("check", node=self.name, check=check, ok=True, seconds=round(time.monotonic() - self.began, 3))

    def fails(self, check, why):
        """Keep the error and try again soon: a node may need a moment; only the deadline makes it final."""
        self.errors[check] = why
        soon = time.monotonic() + RETRY_PAUSE
        self.again_at = min(self.again_at or soon, soon)

    def report_missing(self):
        for check in CHECKS:
            if check not in self.passed and not self.silent:
                emit("check", node=self.name, check=check, ok=False, why=self.errors.get(check, "no answer in time"))


class Prober:
    def __init__(self, ray, names, deadline):
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.ray = ray
        self.affinity = NodeAffinitySchedulingStrategy
        self.names = names
        self.deadline = deadline
        self.nodes = {}
        self.alive = {}
        self.home = ray.get_runtime_context().get_node_id()
        self.parcel = ray.put(bytes(SIZE))
        self.define_tasks()

    def define_tasks(self):
        ray = self.ray

        def where():
            return ray.get_runtime_context().get_node_id()

        def pull(parcel, _after):
            return len(parcel)

        def serve(size, _after):
            return bytes(size)

        def variable(_after):
            return os.environ.get("WS_PROOF")

        self.where, self.pull, self.serve, self.variable = (
            ray.remote(num_cpus=0, max_retries=0)(function) for function in (where, pull, serve, variable)
        )

    def run(self):
        while time.monotonic() < self.deadline:
            self.admit()
            self.collect()
            if self.proven():
                return True
        return False

    def proven(self):
        """Whether every expected node has passed, and is alive still."""
        return all(
            name in self.nodes
            and self.nodes[name].passed.issuperset(CHECKS)
            and self.alive.get(name) == self.nodes[name].node_id
            for name in self.names
        )

    def admit(self):
        """Start the checks of every expected node that has come alive, and again where something failed."""
        self.alive = {info["NodeName"]: info["NodeID"] for info in self.ray.nodes() if info["Alive"]}
        for name in self.expected():
            node = self.nodes.get(name)
            if node is None or node.node_id != self.alive[name]:
                if name in self.names:
                    emit("alive", node=name)
                node = self.nodes[name] = Node(name, self.alive[name], silent=name not in self.names)
                self.start(node)
            elif node.again_at and time.monotonic() > node.again_at and not node.passed.issuperset(CHECKS):
                self.start(node, together=False)

    def expected(self):
        """Names of the living nodes to be proven; where that is the driver's own alone, with a partner for its objects."""
        living = [name for name in self.names if name in self.alive]
        others = [name for name in self.alive if self.alive[name] != self.home]
        if others and len(self.names) == 1 and [self.alive[name] for name in living] == [self.home]:
            living.append(others[0])
        return living

    def start(self, node, together=True):
        """Submit a node's checks: all in one worker process with a runtime environment, or each by itself.

        What a task with a runtime_env needs includes all that a plain task needs, and a worker process costs most of a
        second; so one proves all, and only where that fails or hangs are the checks told apart.
        """
        here = {"scheduling_strategy": self.affinity(node.node_id, soft=False)}
        environment = {**here, "runtime_env": {"env_vars": {"WS_PROOF": node.name}}}
        plain = environment if together else here
        task = self.where.options(**plain).remote()
        node.pending.append(("task", task))
        if node.node_id != self.home or len(self.names) == len(self.alive) == 1:
            # One after the other, so that one worker process does for all.
            pulled = self.pull.options(**plain).remote(self.parcel, task)
            node.pending.append(("pull", pulled))
            node.pending.append(("serve", self.serve.options(**plain).remote(SIZE, pulled)))
        node.pending.append(("runtime_env", self.variable.options(**environment).remote(task if together else None)))
        node.again_at = time.monotonic() + IMPATIENCE if together else None

    def collect(self):
        waiting = {ref: (node, check) for node in self.nodes.values() for check, ref in node.pending}
        if not waiting:
            time.sleep(0.1)
            return
        ready, _ = self.ray.wait(list(waiting), num_returns=1, timeout=0.2)
        for ref in ready:
            node, check = waiting[ref]
            node.pending.remove((check, ref))
            self.judge(node, check, ref)

    def judge(self, node, check, ref):
        try:
            value = self.ray.get(ref, timeout=max(1.0, min(30.0, self.deadline - time.monotonic())))
        except Exception as error:
            node.fails(check, brief(error))
            return
        right = {
            "task": lambda: value == node.node_id,
            "pull": lambda: value == SIZE,
            "serve": lambda: len(value) == SIZE,
            "runtime_env": lambda: value == node.name,
        }[check]()
        if not right:
            node.fails(check, f"wrong answer: {value!r:.100}")
            return
        node.passes(check)
        if check in ("pull", "serve"):
            self.credit_home("serve" if check == "pull" else "pull")

    def credit_home(self, check):
        """What another node pulled, the driver's node served, and the other way round."""
        for node in self.nodes.values():
            if node.node_id == self.home:
                node.passes(check)


def main():
    params = parameters()
    deadline = time.monotonic() + params["timeout"]
    try:
        ray = connect(params["address"], min(deadline, time.monotonic() + CONNECT_LIMIT))
    except Exception as error:
        emit("done", ok=False, why=brief(error))
        return 1
    emit("connected", ray=ray.__version__, python=platform.python_version())
    prober = Prober(ray, params["nodes"], deadline)
    ok = prober.run()
    for node in prober.nodes.values():
        node.report_missing()
    emit("done", ok=ok)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
