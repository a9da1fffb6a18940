"""Scenarios `ray-client`, `nodes`, `links` and `transfer`: what a cluster does for one who works with it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ws.errors import CheckFailed, Inconclusive
from ws.verify.outside_cluster import Outside
from ws.verify.outside_local import HERE
from ws.verify.outside_look import Node
from ws.verify.outside_refusal import cause_of_refusal
from ws.verify.programs import ask
from ws.verify.proof import CHECKS, WORDS, Proof, prove
from ws.verify.verdict import Cause, Check, Recorder, Verdict

_CLIENT_LIMIT = 170.0  # seconds; its steps have limits of their own
_NODES_LIMIT = 90.0
_STEPS = {
    "init": ("a Ray Client connects", "ray.init"),
    "resources": ("it sees the cluster's resources", "ray.cluster_resources, ray.nodes"),
    "tasks": ("a task runs on every node", "one task pinned to each living node"),
    "actor": ("an actor keeps its state", "two calls to an actor that counts"),
    "object": ("an object goes there and back", "ray.put, ray.get, 2 MB"),
}


# ray-client


def check_client(outside: Outside, record: Recorder) -> None:
    said, ended = _client_steps(outside)
    if "init" not in said or not said["init"]["ok"]:
        said, ended = _client_steps(outside)  # a head may be slow to start a server for a client, and Ray gives it 30 s
    for step, (what, how) in _STEPS.items():
        with record.check(what, how) as check:
            if step in said:
                _judge_step(outside, check, said[step])
            else:
                check.unseen(f"not tried: {ended}")
        if step == "init" and check.verdict is not Verdict.PASS:
            outside.blocked = "no Ray Client can connect"
            return


def _client_steps(outside: Outside) -> tuple[dict[str, Mapping[str, Any]], str]:
    """What the program `client` found, by the name of the check; and why what is missing was not tried."""
    host, port = outside.address.target
    params = {"entries": [{"name": host, "client": port}], "health": "", "nodes": []}
    heard = ask(outside.runs, HERE, "client", params, _CLIENT_LIMIT)
    said: dict[str, Mapping[str, Any]] = {event["check"]: event for event in heard if event["event"] == "check"}
    failed = [event["detail"] for event in said.values() if not event["ok"]]
    return said, "; ".join(failed) or str(heard[-1].get("why") or "it took too long")


def _judge_step(outside: Outside, check: Check, event: Mapping[str, Any]) -> None:
    if event["ok"]:
        check.passed(f"{event['detail']} ({event['seconds']:.1f} s)")
        return
    refusal = cause_of_refusal(event["detail"], str(outside.address)).cause
    check.failed(event["detail"], refusal)


# nodes


def check_nodes(outside: Outside, record: Recorder) -> None:
    """Each node that lives: a task on it, an object to it, one from it, a runtime_env."""
    nodes = outside.watched().await_nodes()
    with record.check("names tell the nodes apart", "the names of the living nodes") as check:
        names = [node.name for node in nodes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            check.unseen(
                f"several nodes have the name {', '.join(twice)}, so what each of them does can't be seen; "
                "`ray start --node-name` gives each its own"
            )
        else:
            check.passed(f"{len(names)} nodes: {', '.join(sorted(names))}")
    proof = _proof(outside, sorted(set(names) - set(twice)))
    for node in nodes:
        if node.name in proof.nodes:
            with record.check(f"{node.name} works", ", ".join(WORDS.values())) as check:
                _judge_node(outside, check, node, proof)


def check_still_working(outside: Outside, record: Recorder) -> None:
    """Each node that lives still takes a task: the GCS calls a node alive that is paused, until its own window is over."""
    try:
        outside.driver_address()
    except Inconclusive:
        return  # from here nobody can try; the scenario `nodes` says so
    names = [node.name for node in outside.watched().await_nodes()]
    single = sorted(name for name in names if names.count(name) == 1)
    proof = _proof(outside, single)
    if late := [name for name in single if not _takes_tasks(proof, name)]:  # a busy machine may have been in its way
        again = _proof(outside, late)
        proof.alive |= again.alive
        proof.checks.update(again.checks)
    for name in single:
        with record.check(f"{name} still works in the end", WORDS["task"]) as check:
            _judge_end(outside, check, name, proof)


def _takes_tasks(proof: Proof, name: str) -> bool:
    """What else is tried on a node involves others, which may be the ones that hang."""
    return proof.checks.get(name, {}).get("task", "no answer") is None


def _judge_end(outside: Outside, check: Check, name: str, proof: Proof) -> None:
    if _takes_tasks(proof, name):
        check.passed(f"{WORDS['task']} ran")
    elif left := outside.watched().left(name):
        check.passed(left)
    elif not proof.alive:
        raise Inconclusive("nothing could be tried on it", proof.trouble or "the driver did not connect in time")
    else:
        dead = next((life.trouble for life in outside.watched().lives() if life.node.name == name and life.trouble), "")
        what = f"{name} took no task in the end: it is paused, hangs, or is cut off{f'; then {dead}' if dead else ''}"
        remedy = f"look at the raylet of {name}: whether it runs and is not paused, and what its log (raylet.out) says"
        check.failed(proof.lack(name), Cause("node-dead" if dead else "node-paused", what, remedy))


def _proof(outside: Outside, names: list[str]) -> Proof:
    address = outside.driver_address()
    proof = Proof(tuple(names))
    if not names:
        return proof

    def take(event: dict[str, Any]) -> None:
        if event["event"] != "proven":
            proof.take(event)

    with contextlib.suppress(CheckFailed):  # the proof tells what each node lacks
        prove(names, lambda: (address, lambda argv: outside.runs.spawn(HERE, argv)), timeout=_NODES_LIMIT, on_event=take)
    return proof


def _judge_node(outside: Outside, check: Check, node: Node, proof: Proof) -> None:
    if proof.proven(node.name):
        role = "head" if node.head else "worker"
        check.passed(f"{role}, {node.cpus:g} CPUs, at {node.address}: {', '.join(WORDS.values())}")
        return
    if left := outside.watched().left(node.name):
        check.passed(f"not proven, as it left meanwhile: {left}")
        return
    if not proof.alive:
        raise Inconclusive("nothing could be tried on it", proof.trouble or "the driver did not connect in time")
    lack = proof.lack(node.name)
    if node.name not in proof.alive:
        check.failed(
            lack, Cause("node-dead", f"{node.name} was alive, and is no more", f"the log of {node.name}'s raylet tells why")
        )
        return
    passed = [WORDS[one] for one in CHECKS if one in proof.checks[node.name] and proof.checks[node.name][one] is None]
    remedy = (
        f"open the ports of {node.name} ({node.address}) to every other node, and theirs to it; `ray start` pins them: "
        "--node-manager-port, --object-manager-port, --runtime-env-agent-port, --min-worker-port, --max-worker-port"
    )
    check.failed(
        f"{lack}. What works: {', '.join(passed) or 'nothing'}", Cause("port-blocked", f"{node.name}: {lack}", remedy)
    )
