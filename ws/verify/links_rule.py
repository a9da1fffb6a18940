"""What counts as a good link between two nodes, for every scenario that measures links, and how a link is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ws.verify.verdict import Cause, Link

_LOPSIDED = 4.0  # how many times the bandwidth of one direction the other one has
_SLOW = 100e6  # bytes per second; what is faster in its worse direction is no trouble to anybody
_LOOKS = 3  # times that a link is measured before it counts as dead or lopsided: a busy machine is slow now and then

Way = tuple[str, str]
"""Source and target of a link."""


def best(links: Sequence[Link], measure: Callable[[Way], Sequence[Link]]) -> dict[Way, Link]:
    """The best of several looks at each link; only pairs that look bad are looked at again, by `measure`."""
    found = {(link.source, link.target): link for link in links}
    for _ in range(_LOOKS - 1):
        doubtful = [pair for pair in pairs(names(found)) if _bad(both(found, pair))]
        for pair in doubtful:
            for link in measure(pair):
                way = (link.source, link.target)
                found[way] = max(found.get(way, link), link, key=lambda seen: seen.bandwidth or 0.0)
        if not doubtful:
            break
    return found


def names(ways: Iterable[Way]) -> list[str]:
    return list(dict.fromkeys(name for way in ways for name in way))


def pairs(nodes: Sequence[str]) -> list[Way]:
    return [(one, other) for place, one in enumerate(nodes) for other in nodes[place + 1 :]]


def both(links: Mapping[Way, Link], pair: Way) -> list[Link]:
    """Both directions of a pair, as far as they were measured."""
    return [links[way] for way in (pair, (pair[1], pair[0])) if way in links]


def _bad(links: Sequence[Link]) -> bool:
    return any(link.trouble for link in links) or lopsided(links)


def lopsided(links: Sequence[Link]) -> bool:
    """Whether of two directions one carries much less than the other, and little by itself."""
    speeds = [link.bandwidth for link in links if link.bandwidth]
    return len(speeds) == 2 and min(speeds) < _SLOW and max(speeds) >= _LOPSIDED * min(speeds)


def told(link: Link) -> str:
    if link.trouble:
        return f"{link.source} → {link.target}: {link.trouble}"
    speed = f"{(link.bandwidth or 0) / 1e6:.0f} MB/s"
    return f"{link.source} → {link.target}: median {link.median_ms:.2g} ms, p99 {link.p99_ms:.2g} ms, {speed}"


def slow(link: Link, said: str) -> Cause:
    """The cause where `link` is the slower direction of a lopsided pair; `said`: both, in words."""
    what = f"{link.source} → {link.target} carries much less than the other direction: {said}"
    mend = (
        f"look for a rate limit on that way (`tc qdisc show` on the host and on {link.source}), and for a busy {link.source}"
    )
    return Cause("link-slow", what, mend)
