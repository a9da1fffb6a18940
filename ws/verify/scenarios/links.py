"""Scenario links: latency and bandwidth between every two nodes, both ways; dead and lopsided links are named."""

from __future__ import annotations

from collections.abc import Sequence

from ws.verify.diagnose import diagnose, suspect
from ws.verify.diagnose_again import head_now
from ws.verify.diagnose_state import no_worker_port
from ws.verify.links_rule import best, both, lopsided, names, pairs, slow, told
from ws.verify.programs import ask, ended
from ws.verify.scenarios import Scenario
from ws.verify.site import Site
from ws.verify.verdict import Cause, Link, Recorder

_BASE_LIMIT = 40.0  # seconds for the start
_FIRST_LOOK, _LONG_LOOK = 4.0, 8.0  # seconds for the calls of one direction of a pair, and as much for its object
_LATE = 4.0  # seconds that the reports of both may take besides


def _run(site: Site, record: Recorder) -> None:
    nodes = [node.name for node in site.expected.values() if node.ray_node and node.role != "joiner"]
    with record.check("every link can be measured", "the program `links`, a driver on the head") as check:
        links, end = _measure(site, nodes)
        missing = len(nodes) * (len(nodes) - 1) - len(links)
        if missing:
            why = f"{missing} of {missing + len(links)} links were not measured: {end}"
            causes = [cause for name in nodes for cause in suspect(site, name)] or no_worker_port(end)
            if causes:
                check.failed(why, *causes)
            else:
                check.unseen(why)
        else:
            check.passed(f"{len(links)} links between {', '.join(nodes)}")
    measured = best(links, lambda pair: _measure(site, pair, _LONG_LOOK)[0])
    site.links[:] = list(measured.values())
    for pair in pairs(nodes):
        if seen := both(measured, pair):
            _check_pair(site, record, seen)


def _measure(site: Site, nodes: Sequence[str], look: float = _FIRST_LOOK) -> tuple[list[Link], str]:
    """What a driver on the head measures between these nodes, fewer links where it was not done; and how it ended."""
    head = head_now(site)
    if head is None:
        return [], "there is no head"
    limit = _BASE_LIMIT + (2 * look + _LATE) * len(nodes) * (len(nodes) - 1)
    params = {"address": head.address, "nodes": list(nodes), "pair_timeout": look}
    events = ask(site, head.name, "links", params, limit)
    links = [
        Link(
            source=event["source"],
            target=event["target"],
            median_ms=event["median_ms"],
            p99_ms=event["p99_ms"],
            bandwidth=event["bandwidth"],
            trouble=event["trouble"],
        )
        for event in events
        if event["event"] == "link"
    ]
    return links, ended(events, f"the driver on {head.name}")


def _check_pair(site: Site, record: Recorder, links: Sequence[Link]) -> None:
    one, other = links[0].source, links[0].target
    how = "up to 200 calls between actors in two seconds, an object of 32 MiB, each way"
    with record.check(f"the link between {one} and {other} carries, both ways", how) as check:
        said = "; ".join(told(link) for link in links)
        dead = [link for link in links if link.trouble]
        if dead:
            check.failed(said, *_why_dead(site, dead))
        elif lopsided(links):
            check.failed(said, slow(min(links, key=lambda link: link.bandwidth or 0.0), said))
        else:
            check.passed(said)


def _why_dead(site: Site, dead: Sequence[Link]) -> list[Cause]:
    """What is wrong with either end; where both seem well, the link itself."""
    found = [cause for name in names((link.source, link.target) for link in dead) for cause in suspect(site, name)]
    if found:
        return found
    link = dead[0]
    what = f"nothing gets from {link.source} to {link.target}: {link.trouble}"
    mend = "look for a firewall or a proxy between them: `sudo iptables -L DOCKER-USER -n -v` on the host"
    return [Cause("link-dead", what, mend), *diagnose(site, link.target, link.trouble)]


TITLE = "Every link between nodes carries, both ways"
SCENARIO = Scenario("links", TITLE, 360.0, _run)
