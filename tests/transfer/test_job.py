from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.transfer.made_up import whole
from tests.transfer.made_up_nodes import NODES, node
from ws.errors import EnvironmentProblem, UsageError
from ws.transfer.events import Started
from ws.transfer.history import History
from ws.transfer.job import Job
from ws.transfer.records import TransferRecord
from ws.transfer.targets import HERE, Place

SEND = Job(
    Place(HERE, "/home/me/model.bin"), ("ray_node_2", "ray_node_3"), "/data/in", "stream", 5_000_000, True, True, False
)
BEFORE = (node(1, "ray-cpu"), node(2, "ray-gpu"), node(3, "b"))


def recorded(tmp_path: Path, options: dict[str, Any], algorithm: str = "sha256") -> TransferRecord:
    """A transfer that ray_node_2 has, and ray_node_3 has not."""
    with closing(History(tmp_path)) as history:
        for event in whole():
            history.record(replace(event, algorithm=algorithm) if isinstance(event, Started) else event)
            if isinstance(event, Started):
                history.add_options(event.transfer, options)
        return history.transfers()[0]


def test_what_was_asked_for_comes_back_but_for_who_has_it(tmp_path: Path) -> None:
    record = recorded(tmp_path, SEND.named(BEFORE).as_options())
    again = Job.again(record, BEFORE)
    assert again.recipients == ("ray_node_3",)
    assert again.names == {"ray_node_3": "b"}
    assert (again.source, again.dest, again.plane, again.limit) == (SEND.source, "/data/in", "stream", 5_000_000)
    assert (again.overwrite, again.keep_partial, again.fsync) == (True, True, False)


@pytest.mark.parametrize(("taken", "former"), [("sha256", "sha256"), ("blake3", "blake3"), ("", None)])
def test_the_hash_that_was_taken_is_kept_beside_the_one_that_was_asked_for(
    tmp_path: Path, taken: str, former: str | None
) -> None:
    again = Job.again(recorded(tmp_path, SEND.named(BEFORE).as_options(), taken), BEFORE)
    assert (again.hash, again.algorithm) == ("auto", former)


def test_nodes_are_found_by_name_where_their_numbers_have_changed(tmp_path: Path) -> None:
    record = recorded(tmp_path, Job(Place("ray_node_1", "x"), ("ray_node_2", "ray_node_3")).named(BEFORE).as_options())
    now = (node(1, "new"), node(2, "b"), node(3, "ray-gpu"), node(4, "ray-cpu"))
    again = Job.again(record, now)
    assert (again.source.node, again.recipients) == ("ray_node_4", ("ray_node_2",))


def test_nodes_of_one_name_keep_their_numbers(tmp_path: Path) -> None:
    same = (node(1, "box"), node(2, "box"), node(3, "box"))
    record = recorded(tmp_path, Job(Place(HERE, "/x"), ("ray_node_2", "ray_node_3")).named(same).as_options())
    assert Job.again(record, same).recipients == ("ray_node_3",)


def test_a_node_that_is_gone_is_named_as_it_was(tmp_path: Path) -> None:
    record = recorded(tmp_path, SEND.named(BEFORE).as_options())
    with pytest.raises(UsageError, match="there is no node 'b'"):
        Job.again(record, NODES[:2])
    with pytest.raises(EnvironmentProblem, match=r"\(b\) does not live"):
        Job.again(record, [*NODES[:2], node(3, "b", "dead")])


@pytest.mark.parametrize("options", [{}, {"source": {"node": "here", "path": "/x", "more": 1}}])
def test_a_record_that_tells_too_little_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="too little is known"):
        Job.again(recorded(tmp_path, options), BEFORE)


def test_options_are_plain_data_also_of_names_that_are_no_utf8() -> None:
    odd = Job(Place(HERE, os.fsdecode(b"/x/\xff")), ("ray_node_1",))
    assert json.loads(json.dumps(odd.as_options()))["source"]["path"] == "/x/\udcff"
