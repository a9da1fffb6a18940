"""Scenario stability: what has joined stays, beyond the time that Ray needs to notice that a node can't be reached."""

from __future__ import annotations

from ws.verify.diagnose import diagnose
from ws.verify.diagnose_again import head_now, replaced
from ws.verify.scenarios import Scenario
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Recorder


def _run(site: Site, record: Recorder) -> None:
    nodes = [node for node in site.expected.values() if node.ray_node and node.role != "joiner"]
    site.watch.wait(0.0 if site.failed else site.watch.window)
    for node in nodes:
        _check_life(site, record, node)
    _check_head(site, record)


def _check_life(site: Site, record: Recorder, node: Expected) -> None:
    watch = site.watch
    what = f"{node.name} stays alive"
    how = f"the GCS asked twice a second, for {watch.window:g} s from when it was first alive"
    with record.check(what, how) as check:
        troubles = watch.problems(node.name)
        if troubles:
            causes = diagnose(site, node.name, "dead") or [Cause("node-dead", troubles[0], f"look at `ws logs {node.name}`")]
            check.failed("\n".join(troubles), *causes)
            return
        lived = watch.alive_for(node.name)
        if not watch.has_looked:
            check.unseen(f"no candidate has told of the nodes yet; {_why_ended(site)}")
        elif lived is None:
            check.failed("never seen alive", *diagnose(site, node.name, "missing"))
        elif lived < watch.window:
            check.unseen(f"alive for {lived:.0f} s so far; not watched to the end, because {_why_ended(site)}")
        else:
            check.passed(f"alive without a break for {lived:.0f} s")


def _why_ended(site: Site) -> str:
    if site.failed:
        return "other checks have failed already"
    troubles = site.watch.problems()
    return f"the watch saw a problem: {troubles[0]}" if troubles else "the time for it was up"


def _check_head(site: Site, record: Recorder) -> None:
    with record.check("the same head leads from begin to end", "the lease, compared with that at the begin") as check:
        before, now = site.first_head, head_now(site)
        if before is None:
            check.unseen("nobody led when the run began")
        elif now and not replaced(before, now):
            check.passed(f"{now.name}, epoch {now.epoch or before.epoch}")
        else:
            led = f"{now.name}, epoch {now.epoch}" if now else "nobody"
            remedy = f"`ws logs {before.name}` tells how it ended; run the test again once `ws status` shows a head"
            cause = Cause("head-lost", f"{before.name} led at the begin (epoch {before.epoch}), and then {led}", remedy)
            check.failed(cause.what, cause, *diagnose(site, before.name, "dead"))


TITLE = "Nodes stay alive beyond Ray's health-check window, and the head leads on"
STABILITY = Scenario("stability", TITLE, 180.0, _run)
