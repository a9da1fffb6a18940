"""Where everything stands in the network picture."""

from __future__ import annotations

from itertools import combinations, permutations

from tests.verify.report.made_up import failing, link, passing
from ws.verify.report.picture import CARD_HEIGHT, CARD_WIDTH, WIDTH, Card, Picture, picture, ranges
from ws.verify.verdict import PictureNode, Report


def drawn(report: Report) -> Picture:
    found = picture(report)
    assert found
    return found


def test_the_heads_network_stands_above_the_host_and_the_others_below() -> None:
    report = passing()
    report.picture.reverse()
    found = drawn(report)
    assert found.host
    assert [box.name for box in found.boxes] == ["ray-network", "test-network"]
    assert (
        found.boxes[0].bottom < found.host.y < found.host.bottom < found.boxes[1].y < found.boxes[1].bottom <= found.height
    )


def test_no_card_covers_another_and_all_are_within_their_network() -> None:
    nodes = [PictureNode(f"ray-cpu-{number}", "worker", "ray-network") for number in range(11)]
    [box] = drawn(Report(0.0, picture=nodes)).boxes
    for card in box.cards:
        assert 0 <= card.x <= WIDTH - CARD_WIDTH
        assert box.y <= card.y <= card.bottom <= box.bottom
    assert not any(overlap(one, other) for one, other in combinations(box.cards, 2))


def overlap(one: Card, other: Card) -> bool:
    return abs(one.x - other.x) < CARD_WIDTH and abs(one.y - other.y) < CARD_HEIGHT


def test_a_link_is_as_its_worse_direction() -> None:
    assert [edge.state for edge in drawn(passing()).edges] == ["ok", "ok", "ok"]
    assert sorted(edge.state for edge in drawn(failing()).edges) == ["dead", "half", "ok"]


def test_of_many_links_those_in_trouble_are_drawn() -> None:
    names = [f"ray-cpu-{number}" for number in range(8)]
    nodes = [PictureNode(name, "worker", "ray-network") for name in names]
    links = [link(*pair, trouble="refused" if pair == ("ray-cpu-0", "ray-cpu-5") else "") for pair in permutations(names, 2)]
    found = drawn(Report(0.0, picture=nodes, links=links))
    assert [edge.state for edge in found.edges] == ["half"]
    assert found.left_out == 27


def test_one_network_without_published_ports_has_no_host() -> None:
    assert drawn(Report(0.0, picture=[PictureNode("ray-cpu", "head", "")])).host is None


def test_a_run_that_knows_no_nodes_has_no_picture() -> None:
    assert picture(Report(0.0)) is None


def test_ports_are_ranges_by_address() -> None:
    ports = ["172.17.0.1:31001", "172.17.0.1:31000", "127.0.0.1:6379", "172.17.0.1:6379", ":::8080", "172.17.0.1:"]
    assert ranges(ports) == [("172.17.0.1", "6379, 31000–31001"), ("127.0.0.1", "6379"), ("::", "8080")]
