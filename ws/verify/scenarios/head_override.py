"""Scenario head-override: every candidate's entry leads to the head, by HEAD_ADDRESS and by nodes.head_address."""

from __future__ import annotations

from contextlib import suppress

from ws.verify.diagnose import diagnose
from ws.verify.diagnose_access import entries
from ws.verify.diagnose_case import host_and_port, probe_patiently
from ws.verify.proof import WORDS
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.blaming import Vain, await_node, blaming
from ws.verify.scenarios.external_worker import alive, mode_lines, proven, require_driver
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Check, Recorder
from ws.wait import NotYet, WaitTimeout, wait_for

_START_LIMIT = 30.0
_JOIN_LIMIT = 60.0
_PROOF_LIMIT = 30.0
_LEAVE_LIMIT = 15.0


def _run(site: Site, record: Recorder) -> None:
    for worker in (node for node in site.expected.values() if node.role == "external"):
        _check_own_entry(site, record, worker)
    joiners = [node for node in site.expected.values() if node.role == "joiner"]
    entries = [f"{node.name}:{node.entries['head']}" for node in site.expected.values() if "head" in node.entries]
    if not joiners or not entries:
        with record.check("each entry in turn", "a joiner that is told to join by it") as check:
            check.unseen("there is no joiner" if entries else "no candidate has an entry")
        return
    try:
        for entry in entries:
            _check_entry(site, record, joiners[0], "HEAD_ADDRESS", entry)
        _check_entry(site, record, joiners[0], "HEAD_ADDRESS_CFG", entries[-1])
    finally:
        site.stop_joiner()


def _check_own_entry(site: Site, record: Recorder, node: Expected) -> None:
    what = f"the address that {node.name} was told leads to the head"
    with blaming(site, record, node.name, what, "HEAD_ADDRESS in its log, and what speaks there, seen from it") as check:
        said = await_node(site, node.name, "its agent has decided", lambda: mode_lines(site, node.name), _START_LIMIT)
        address = said["HEAD_ADDRESS"]
        found = probe_patiently(site, node.name, [host_and_port(address)])
        speaks = found[0].get("speaks") if found else None
        if not found:
            check.unseen(f"no program could be run on {node.name}")
        elif speaks == "gcs":
            check.passed(f"{address} ({found[0]['ip']}): a GCS answers")
        else:
            seen = f"{address}: {found[0]['detail'] or found[0]['outcome']}"
            raise Vain(seen, diagnose(site, node.name, f"HEAD_ADDRESS={seen}; the entries are {entries(site)}"))


def _check_entry(site: Site, record: Recorder, node: Expected, variable: str, entry: str) -> None:
    """Start the joiner with this entry, and see it join and work. It is taken away in any case."""
    told = {"HEAD_ADDRESS": "HEAD_ADDRESS", "HEAD_ADDRESS_CFG": "nodes.head_address"}[variable]
    how = f"a joiner with {variable}={entry}: its log, the GCS, a task on it, objects, a runtime_env"
    with blaming(site, record, node.name, f"a worker joins by {told}={entry}", how) as check:
        known = _ids(site, node.name)
        try:
            site.start_joiner({"HEAD_ADDRESS": "", "HEAD_ADDRESS_CFG": "", variable: entry})
            _joins(site, node, entry, known, check)
        finally:
            site.stop_joiner()
            _await_gone(site, node.name)


def _ids(site: Site, name: str) -> frozenset[str]:
    return frozenset(row.node_id for row in site.dashboard().nodes() if row.name == name)


def _joins(site: Site, node: Expected, entry: str, known: frozenset[str], check: Check) -> None:
    said = await_node(site, node.name, "its agent has decided", lambda: mode_lines(site, node.name), _START_LIMIT)
    if said["HEAD_ADDRESS"] != entry or said["Mode"] != "worker":
        words = f"its log says HEAD_ADDRESS: {said['HEAD_ADDRESS']} and Mode: {said['Mode']}, not {entry} and worker"
        raise Vain(words, [_not_heeded(node, entry, words)])
    joined = f"{node.name} is alive at the head"
    row = await_node(site, node.name, joined, lambda: alive(site, node.name, known), _JOIN_LIMIT)
    proof, _ = proven(site, node.name, _PROOF_LIMIT)
    if not proof.missing:
        check.passed(f"HEAD_ADDRESS: {entry}, Mode: worker; alive as {row.node_id[:12]}; {', '.join(WORDS.values())}")
        return
    require_driver(proof, node.name)
    lack = proof.lack(node.name)
    raise Vain(lack, diagnose(site, node.name, lack))


def _not_heeded(node: Expected, entry: str, words: str) -> Cause:
    what = f"{node.name} was told to join by {entry}, and {words}"
    return Cause("environment-differs", what, f"`docker logs {node.container}` tells what it was told")


def _await_gone(site: Site, name: str) -> None:
    """The next joiner has the same name; one that the head believes alive still would be taken for it."""

    def gone() -> None:
        try:
            alive(site, name)
        except NotYet:
            return
        raise NotYet(f"{name} is alive at the head")

    with suppress(WaitTimeout):
        wait_for(f"{name} has left", gone, timeout=_LEAVE_LIMIT)


TITLE = "Every entry leads to the head, however it is told"
SCENARIO = Scenario("head-override", TITLE, 240.0, _run)
