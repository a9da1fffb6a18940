"""The link matrix."""

from __future__ import annotations

from tests.verify.report.made_up import NODES, failing, passing
from ws.verify.report.matrix import names, rows
from ws.verify.verdict import Link, Report


def test_every_direction_has_a_cell_and_a_node_none_to_itself() -> None:
    found = rows(passing())
    assert [row.source for row in found] == list(NODES) == names(passing())
    assert [cell.state for cell in found[1].cells] == ["ok", "none", "ok"]
    cell = found[0].cells[1]
    assert (cell.median, cell.p99, cell.bandwidth) == ("0.62 ms", "1.86 ms", "412 MB/s")
    assert (cell.slow, cell.thin) == (0, 0)


def test_a_dead_direction_says_why_and_a_slow_one_is_hot() -> None:
    found = rows(failing())
    assert (found[0].cells[2].state, found[0].cells[2].trouble) == ("dead", "connection refused at 172.17.0.1:31049")
    assert found[2].cells[0].state == "ok"
    slow = found[0].cells[1]
    assert (slow.slow, slow.thin) == (3, 3)  # fifteen and thirteen times worse than the best


def test_a_link_that_was_measured_in_part_is_shown_as_far_as_it_is_known() -> None:
    half = Link("a", "b", median_ms=0.0, bandwidth=None)
    [first, second] = rows(Report(0.0, links=[half, Link("b", "a", 12.34, None, 1e3)]))
    assert (first.cells[1].median, first.cells[1].p99, first.cells[1].bandwidth) == ("0.00 ms", "?", "no bandwidth measured")
    assert (second.cells[0].median, second.cells[0].bandwidth) == ("12.3 ms", "0.001 MB/s")


def test_a_direction_with_neither_numbers_nor_trouble_is_dead() -> None:
    [first, _] = rows(Report(0.0, links=[Link("a", "b")]))
    assert (first.cells[1].state, first.cells[1].trouble) == ("dead", "no measurement")
