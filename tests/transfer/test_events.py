from __future__ import annotations

import json
from typing import Any

import pytest

from tests.transfer.made_up import ID, planned, started, whole
from ws.transfer.events import Cancelled, Event, Paused, Progress, Resumed, Stream


@pytest.mark.parametrize("event", [*whole(), Cancelled(transfer=ID), Paused(transfer=ID), Resumed(transfer=ID)])
def test_every_event_is_plain_data(event: Event) -> None:
    told = event.as_json()
    assert list(told)[:3] == ["event", "time", "transfer"]
    assert json.loads(json.dumps(told, allow_nan=False)) == with_lists(told)
    assert told["event"] == event.kind


def with_lists(value: Any) -> Any:
    """JSON has no tuples; everything else comes back as it was, or is no plain data."""
    if isinstance(value, dict):
        return {name: with_lists(each) for name, each in value.items()}
    return [with_lists(each) for each in value] if isinstance(value, list | tuple) else value


def test_what_an_event_holds_is_plain_data_as_well() -> None:
    first, _ = json.loads(json.dumps(planned().as_json()))["routes"]
    assert first == {
        "recipient": "ray_node_2",
        "plane": "stream",
        "why": "its port answers",
        "path": ["here", "ray_node_2"],
        "name": "ray-gpu",
    }


def test_fields_keep_their_names() -> None:
    event = Progress(transfer=ID, at=12.5, recipient="a", done=3, total=4, rate=1.5)
    assert event.as_json() == {
        "event": "progress",
        "time": 12.5,
        "transfer": ID,
        "recipient": "a",
        "done": 3,
        "total": 4,
        "rate": 1.5,
        "eta": None,
        "coming": 0,
    }


def test_a_stream_hands_events_on_in_order_until_the_subscription_ends() -> None:
    seen: list[str] = []
    stream = Stream(lambda event: seen.append(f"first {event.kind}"), None)
    end = stream.subscribe(lambda event: seen.append(f"second {event.kind}"))
    stream.emit(started())
    end()
    stream.emit(Paused(transfer=ID))
    assert seen == ["first started", "second started", "first paused"]


def test_a_subscriber_that_raises_keeps_nothing_from_the_others() -> None:
    seen: list[str] = []

    def broken(event: Event) -> None:
        raise BrokenPipeError("nobody reads")

    with pytest.raises(BrokenPipeError):
        Stream(broken, lambda event: seen.append(event.kind)).emit(started())
    assert seen == ["started"]
