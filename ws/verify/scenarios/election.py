"""Scenario self-election: exactly one candidate leads, and lease, logs, GCS and agents agree on who that is."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ws.errors import Inconclusive, WsError
from ws.verify.diagnose_again import again, head_now, lease_now, replaced
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.joined import check_joined, last, no_leader
from ws.verify.scenarios.looking import absence, for_each, listed, made_anew, running
from ws.verify.site import Expected, Head, Site
from ws.verify.verdict import Cause, Check, Recorder

_AGENT = ("python3", "/opt/ws/node/__main__.py", "look")
_LOOK_LIMIT = 15.0  # seconds
_PATIENCE = 10.0  # seconds that agent and lease may take to agree, when the head has just moved

View = Mapping[str, object]


def _run(site: Site, record: Recorder) -> None:
    before = site.first_head or head_now(site)
    candidates = [node for node in site.expected.values() if node.role == "candidate"]
    _check_lease(site, record)
    leader = head_now(site)
    for candidate in candidates:
        _check_log(site, record, candidate, leader)
    views = for_each([node.name for node in running(site, candidates)], lambda name: _view(site, name))
    for candidate in candidates:
        _check_view(site, record, candidate, views.get(candidate.name))
    check_joined(site, record, leader)
    _check_same_head(site, record, before)


def _check_lease(site: Site, record: Recorder) -> None:
    with record.check("the lease has one holder, a candidate", "GET /lease of the health server, with the token") as check:
        lease = lease_now(site, held=True)
        if lease is None:
            check.failed("the health server does not answer", _health_down(site))
        elif not lease:
            check.failed("nobody holds the lease", no_leader(site))
        elif lease["holder"] not in site.whitelist:
            what = f"{lease['holder']} holds the lease; the whitelist is {listed(site.whitelist)}"
            remedy = f"add {lease['holder']} to nodes.head_whitelist in config.yaml and run `ws up`, or stop that node"
            check.failed(what, Cause("not-in-whitelist", what, remedy))
        else:
            check.passed(f"{lease['holder']}, epoch {lease['epoch']}, at {lease['address']}")


def _health_down(site: Site) -> Cause:
    health = site.expected.get("health")
    down = absence(health, site.seen("health")) if health else None
    remedy = f"`docker restart {health.container}`" if health else "`ws up`"
    return down or Cause("health-down", "the health server runs, and does not answer GET /lease", remedy)


# What the agents say


def _check_log(site: Site, record: Recorder, candidate: Expected, leader: Head | None) -> None:
    name = candidate.name
    with record.check(
        f"{name} says in its log what it is", f"the last `Mode:` of `docker logs {candidate.container}`"
    ) as check:
        log = site.log(name) if site.seen(name) else ""
        mode = last(r"^Mode: (\w+)$", log)
        cause = absence(candidate, site.seen(name)) or _log_cause(log, mode, candidate, leader)
        evidence = f"Mode: {mode}" if mode else f"no `Mode:` line; its last one: {last(r'^(.+)$', log) or 'none'}"
        if cause:
            check.failed(evidence, cause)
        elif leader is None:
            check.unseen(f"{evidence}; who leads is not known")
        else:
            check.passed(evidence)


def _log_cause(log: str, mode: str | None, candidate: Expected, leader: Head | None) -> Cause | None:
    name = candidate.name
    start = log.rsplit("Hostname: ", 1)[-1]  # of the agent's last start
    remedy = f"`ws logs {name}` shows how it decided; `docker restart {candidate.container}` has it decide again"
    if "not in the whitelist" in start:
        own = last(r"^([\w.-]+)$", start.partition("\n")[0]) or name
        what = f"the agent of {candidate.container} (hostname {own}) finds itself not in the whitelist"
        mend = f"make its hostname and nodes.head_whitelist in config.yaml the same ({name}); {made_anew(candidate)}"
        return Cause("not-in-whitelist", what, mend)
    if mode is None:
        return Cause("no-leader", f"{name} has not decided yet what it is", remedy)
    if leader and mode == "head" and name != leader.name:
        return Cause(
            "two-heads", f"{name} says that it is the head, while {leader.name} leads (epoch {leader.epoch})", remedy
        )
    if leader and mode != "head" and name == leader.name:
        return Cause("no-leader", f"{name} holds the lease (epoch {leader.epoch}), and says that it is a {mode}", remedy)
    return None


def _view(site: Site, name: str) -> View:
    """What the agent there says of itself: name, state, mode, address, leader, epoch."""
    done = site.run(name, _AGENT, timeout=_LOOK_LIMIT)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise Inconclusive(f"the agent of {name} says nothing of itself", (done.stderr or done.stdout).strip()) from None
    if done.code or not isinstance(answer, dict):
        raise Inconclusive(f"the agent of {name} says nothing of itself", done.stdout.strip())
    return answer


def _check_view(site: Site, record: Recorder, candidate: Expected, view: View | WsError | None) -> None:
    what = f"{candidate.name} takes the holder of the lease for the leader"
    with record.check(what, f"`{' '.join(_AGENT)}` on {candidate.name}, and the lease") as check:
        gone = absence(candidate, site.seen(candidate.name))
        if gone:
            check.failed(gone.what, gone)
        elif isinstance(view, WsError):
            raise view
        elif view is not None:
            _judge_view(site, check, candidate, view)
        else:
            check.unseen("it came up only now")


def _judge_view(site: Site, check: Check, candidate: Expected, view: View) -> None:
    """Agent and lease are asked one after the other, so that a change in between gets a second look."""
    latest = view

    def disagreement() -> str:
        nonlocal latest
        leader = site.head()
        if leader is None or not _follows(site, latest, leader):
            latest = _view(site, candidate.name)
            leader = site.head()
        return "" if leader and _follows(site, latest, leader) else _other_leader(candidate, latest, leader)

    what = again(disagreement, lambda words: not words, _PATIENCE)
    if what:
        key = "two-heads" if latest.get("mode") == "head" else "no-leader"
        remedy = (
            f"`ws logs {candidate.name}` shows how it decided; `docker restart {candidate.container}` has it decide again"
        )
        check.failed(_view_in_words(latest), Cause(key, what, remedy))
    else:
        check.passed(_view_in_words(latest))


def _follows(site: Site, view: View, leader: Head) -> bool:
    if view.get("mode") == "worker" and view.get("leader") is None:  # HEAD_ADDRESS names an entry; each leads to the head
        entries = {f"{node.name}:{node.entries['head']}" for node in site.expected.values() if "head" in node.entries}
        return view.get("address") in entries
    epoch = view.get("epoch")
    return not replaced(Head(str(view.get("leader")), "", epoch if isinstance(epoch, int) else 0), leader)


def _other_leader(candidate: Expected, view: View, leader: Head | None) -> str:
    led = f"{leader.name} leads (epoch {leader.epoch})" if leader else "nobody leads"
    return f"{candidate.name}: {_view_in_words(view)}, while by the lease {led}"


def _view_in_words(view: View) -> str:
    return f"{view.get('mode') or 'undecided'} of {view.get('leader') or view.get('address')}, epoch {view.get('epoch')}"


def _check_same_head(site: Site, record: Recorder, before: Head | None) -> None:
    with record.check("the same head leads as when the run began", "the lease then and now") as check:
        now = head_now(site)
        node = site.expected.get(before.name) if before else None
        gone = absence(node, site.seen(node.name)) if node else None
        if before is None:
            check.unseen("nobody led when the run began")
        elif now and not replaced(before, now) and gone is None:
            check.passed(f"{now.name}, epoch {now.epoch}")
        else:
            led = f"{now.name} (epoch {now.epoch})" if now and replaced(before, now) else "nobody"
            what = f"{before.name} led (epoch {before.epoch}), and now {led} does"
            remedy = f"`ws logs {before.name}` tells how it ended; `ws up`, and test again once `ws status` shows a head"
            check.failed(what, *([gone] if gone else []), Cause("head-lost", what, remedy))


SCENARIO = Scenario("self-election", "One candidate leads, and all agree on which", 90.0, _run)
