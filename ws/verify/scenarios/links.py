"""Scenario links: latency and bandwidth between every two nodes, both ways; dead and lopsided links are named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ws.verify.diagnose import diagnose, suspect
from ws.verify.programs import ask
from ws.verify.scenarios import Scenario
from ws.verify.site import Site
from ws.verify.verdict import Cause, Link, Recorder

_BASE_LIMIT, _PAIR_LIMIT = 40.0, 12.0  # seconds for the start, and for each direction of a pair
_LOPSIDED = 4.0  # how many times the bandwidth of one direction the other one has
_SLOW = 100e6  # bytes per second; what is faster in its worse direction is no trouble to anybody
_LOOKS = 3  # times that a link is measured before it counts as dead or lopsided: a busy machine is slow now and then


def _run(site: Site, record: Recorder) -> None:
    nodes = [node.name for node in site.expected.values() if node.ray_node and node.role != "joiner"]
    with record.check("every link can be measured", "the program `links`, a driver on the head") as check:
        links = _measure(site, nodes)
        missing = len(nodes) * (len(nodes) - 1) - len(links)
        if missing:
            why = f"{missing} of {missing + len(links)} links were not measured, because the driver did not come that far"
            causes = [cause for name in nodes for cause in suspect(site, name)]
            if causes:
                check.failed(why, *causes)
            else:
                check.unseen(why)
        else:
            check.passed(f"{len(links)} links between {', '.join(nodes)}")
    best = _best(site, links)
    site.links[:] = list(best.values())
    for one, other in _pairs(nodes):
        both = [best[way] for way in ((one, other), (other, one)) if way in best]
        if both:
            _check_pair(site, record, both)


def _measure(site: Site, nodes: Sequence[str]) -> list[Link]:
    """What a driver on the head measures between these nodes; fewer links where it does not come to its end."""
    head = site.head()
    if head is None:
        return []
    limit = _BASE_LIMIT + _PAIR_LIMIT * len(nodes) * (len(nodes) - 1)
    events = ask(site, head.name, "links", {"address": head.address, "nodes": list(nodes)}, limit)
    return [
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


def _best(site: Site, links: Sequence[Link]) -> dict[tuple[str, str], Link]:
    """The best of several looks at each link; only pairs that look bad are looked at again."""
    best = {(link.source, link.target): link for link in links}
    for _ in range(_LOOKS - 1):
        doubtful = [pair for pair in _pairs(_names(best)) if _bad([best[way] for way in _ways(pair) if way in best])]
        for pair in doubtful:
            for link in _measure(site, pair):
                way = (link.source, link.target)
                best[way] = max(best.get(way, link), link, key=lambda seen: seen.bandwidth or 0.0)
        if not doubtful:
            break
    return best


def _names(ways: Iterable[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for way in ways for name in way))


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]


def _ways(pair: tuple[str, str]) -> list[tuple[str, str]]:
    return [pair, (pair[1], pair[0])]


def _bad(links: Sequence[Link]) -> bool:
    return any(link.trouble for link in links) or lopsided(links)


def lopsided(links: Sequence[Link]) -> bool:
    """Whether of two directions one carries much less than the other, and little by itself."""
    speeds = [link.bandwidth for link in links if link.bandwidth]
    return len(speeds) == 2 and min(speeds) < _SLOW and max(speeds) >= _LOPSIDED * min(speeds)


def _check_pair(site: Site, record: Recorder, both: Sequence[Link]) -> None:
    one, other = both[0].source, both[0].target
    how = "50 calls between actors, an object of 32 MiB, each way"
    with record.check(f"the link between {one} and {other} carries, both ways", how) as check:
        said = "; ".join(_told(link) for link in both)
        dead = [link for link in both if link.trouble]
        if dead:
            check.failed(said, *_why_dead(site, dead))
        elif lopsided(both):
            check.failed(said, _slow(min(both, key=lambda link: link.bandwidth or 0.0), said))
        else:
            check.passed(said)


def _told(link: Link) -> str:
    if link.trouble:
        return f"{link.source} → {link.target}: {link.trouble}"
    speed = f"{(link.bandwidth or 0) / 1e6:.0f} MB/s"
    return f"{link.source} → {link.target}: median {link.median_ms:.2g} ms, p99 {link.p99_ms:.2g} ms, {speed}"


def _why_dead(site: Site, dead: Sequence[Link]) -> list[Cause]:
    """What is wrong with either end; where both seem well, the link itself."""
    found = [cause for name in _names((link.source, link.target) for link in dead) for cause in suspect(site, name)]
    if found:
        return found
    link = dead[0]
    what = f"nothing gets from {link.source} to {link.target}: {link.trouble}"
    mend = "look for a firewall or a proxy between them: `sudo iptables -L DOCKER-USER -n -v` on the host"
    return [Cause("link-dead", what, mend), *diagnose(site, link.target, link.trouble)]


def _slow(link: Link, said: str) -> Cause:
    what = f"{link.source} → {link.target} carries much less than the other direction: {said}"
    mend = (
        f"look for a rate limit on that way (`tc qdisc show` on the host and on {link.source}), and for a busy {link.source}"
    )
    return Cause("link-slow", what, mend)


TITLE = "Every link between nodes carries, both ways"
SCENARIO = Scenario("links", TITLE, 180.0, _run)
