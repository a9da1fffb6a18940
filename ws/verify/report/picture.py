"""Where everything stands in the network picture: pure geometry, drawn by `picture.svg.jinja2`. Lengths are in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ws.verify.report import matrix
from ws.verify.verdict import Link, PictureNode, Report

WIDTH = 820
CARD_WIDTH, CARD_HEIGHT = 180, 76
_PER_ROW = 4
_GAP = 16
_PADDING = (WIDTH - _PER_ROW * CARD_WIDTH - (_PER_ROW - 1) * _GAP) // 2
_LABEL, _MARGIN, _ARC = 40, 16, 48
_BETWEEN = 44
_SPREAD = 30
_HOST_HEAD, _HOST_LINE = 34, 20
_MOST_EDGES = 15


@dataclass(frozen=True)
class Card:
    """A node's place, by its upper left corner."""

    node: PictureNode
    x: int
    y: int
    column: int

    @property
    def middle(self) -> int:
        return self.x + CARD_WIDTH // 2

    @property
    def bottom(self) -> int:
        return self.y + CARD_HEIGHT


@dataclass(frozen=True)
class Box:
    """A network, as wide as the picture; its name stands where the links to other networks do not pass."""

    name: str
    y: int
    height: int
    label_y: int
    cards: tuple[Card, ...]

    @property
    def bottom(self) -> int:
        return self.y + self.height


@dataclass(frozen=True)
class Host:
    """This machine, between the networks: a line of published ports for each node and address."""

    y: int
    height: int
    lines: tuple[tuple[str, str], ...]

    @property
    def bottom(self) -> int:
        return self.y + self.height


@dataclass(frozen=True)
class Edge:
    """The link of two nodes. `state`: ok, half (dead in one direction) or dead; `path` as SVG wants it."""

    state: str
    words: str
    path: str
    x: int
    y: int


@dataclass(frozen=True)
class Picture:
    """`left_out` counts working links that are not drawn, as so many would hide the others."""

    boxes: tuple[Box, ...]
    host: Host | None
    edges: tuple[Edge, ...]
    left_out: int
    height: int


def picture(report: Report) -> Picture | None:
    """The picture of a run, None where it knows no nodes."""
    if not report.picture:
        return None
    networks = _networks(report.picture)
    main = _main_box(*networks[0], links=report.links)
    host = _host(report.picture, main.bottom + _BETWEEN, several=len(networks) > 1)
    boxes = [main]
    for name, nodes in networks[1:]:
        above = host.bottom if host and len(boxes) == 1 else boxes[-1].bottom
        boxes.append(_outer_box(name, nodes, y=above + _BETWEEN))
    edges = _edges(report.links, [card for box in boxes for card in box.cards], main.bottom + _BETWEEN // 2)
    drawn = edges if len(edges) <= _MOST_EDGES else [edge for edge in edges if edge.state != "ok"]
    lowest = max([box.bottom for box in boxes] + [host.bottom if host else 0])
    return Picture(tuple(boxes), host, tuple(drawn), len(edges) - len(drawn), lowest + 1)


def ranges(ports: Iterable[str]) -> list[tuple[str, str]]:
    """Each address with its ports in words: `172.17.0.1`, `6379, 31000–31023`. What has no port is left out."""
    numbers: dict[str, list[int]] = {}
    for text in ports:
        address, _, port = text.rpartition(":")
        if port.isdecimal():
            numbers.setdefault(address, []).append(int(port))
    return [(address, ", ".join(_runs(sorted(set(found))))) for address, found in numbers.items()]


def _runs(numbers: Sequence[int]) -> list[str]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return [str(first) if first == last else f"{first}–{last}" for first, last in runs]


def _networks(nodes: Sequence[PictureNode]) -> list[tuple[str, list[PictureNode]]]:
    """Nodes by network; that of the head, or else of the health server, first."""
    by_name: dict[str, list[PictureNode]] = {}
    for node in nodes:
        by_name.setdefault(node.network, []).append(node)

    def rank(network: tuple[str, list[PictureNode]]) -> int:
        roles = {node.role for node in network[1]}
        return 0 if "head" in roles else 1 if "health" in roles else 2

    return sorted(by_name.items(), key=rank)


def _main_box(name: str, nodes: Sequence[PictureNode], links: Sequence[Link]) -> Box:
    cards = _cards(nodes, 1 + _LABEL)
    inside = {node.name for node in nodes}
    foot = _ARC if any({link.source, link.target} <= inside for link in links) else _MARGIN
    return Box(name, 1, cards[-1].bottom - 1 + foot, 27, cards)


def _outer_box(name: str, nodes: Sequence[PictureNode], y: int) -> Box:
    cards = _cards(nodes, y + _MARGIN)
    bottom = cards[-1].bottom + _ARC
    return Box(name, y, bottom - y, bottom - 14, cards)


def _cards(nodes: Sequence[PictureNode], y: int) -> tuple[Card, ...]:
    step = CARD_HEIGHT + _GAP
    places = [(index % _PER_ROW, index // _PER_ROW) for index in range(len(nodes))]
    return tuple(
        Card(node, _PADDING + column * (CARD_WIDTH + _GAP), y + row * step, column)
        for node, (column, row) in zip(nodes, places, strict=True)
    )


def _host(nodes: Sequence[PictureNode], y: int, several: bool) -> Host | None:
    lines = tuple(
        (node.name, f"{address}: {ports}" if address else ports) for node in nodes for address, ports in ranges(node.ports)
    )
    if not lines and not several:
        return None
    return Host(y, _HOST_HEAD + _HOST_LINE * max(1, len(lines)) + 10, lines)


def _edges(links: Sequence[Link], cards: Sequence[Card], gap: int) -> list[Edge]:
    """Each pair of nodes that has links. `gap`: the height between the main network and the host."""
    by_pair = {(link.source, link.target): link for link in links}
    edges = []
    for one, other in combinations(cards, 2):
        names = one.node.name, other.node.name
        both = [link for pair in (names, names[::-1]) if (link := by_pair.get(pair))]
        if both:
            edges.append(_edge(one, other, both, gap))
    return edges


def _edge(one: Card, other: Card, links: Sequence[Link], gap: int) -> Edge:
    """Through the host where the two are in different networks, else below their cards."""
    dead = [link for link in links if matrix.state(link) == "dead"]
    state = "ok" if not dead else "dead" if len(dead) == len(links) else "half"
    words = "; ".join(_words(link) for link in links)
    if one.node.network == other.node.network:
        return replace(_arc(one, other), state=state, words=words)
    start, end = one.middle + _SPREAD * (other.column - 1), other.middle + _SPREAD * (one.column - 1)
    middle = (gap + other.y) // 2
    path = f"M{start} {one.bottom}V{gap}C{start} {middle} {end} {middle} {end} {other.y}"
    return Edge(state, words, path, start, gap + 5)


def _arc(one: Card, other: Card) -> Edge:
    depth = max(one.bottom, other.bottom) + _ARC - 4
    path = f"M{one.middle} {one.bottom}C{one.middle} {depth} {other.middle} {depth} {other.middle} {other.bottom}"
    return Edge("", "", path, (one.middle + other.middle) // 2, max(one.bottom, other.bottom) + _ARC // 2 + 14)


def _words(link: Link) -> str:
    if matrix.state(link) == "dead":
        return f"{link.source} → {link.target}: dead ({link.trouble or 'no measurement'})"
    return f"{link.source} → {link.target}: {link.median_ms:.2f} ms"
