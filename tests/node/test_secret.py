from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict

import pytest

from ws.node.elector import ElectorSettings
from ws.node.secret import Secret, revealed

TEXT = "9f86d081884c7d65"


def test_it_prints_as_stars() -> None:
    secret = Secret(TEXT)
    assert {str(secret), repr(secret), f"{secret}", f"{secret:>5}", "%s" % secret} == {"***"}  # noqa: UP031
    settings = ElectorSettings("a", "a/1", [], "a:6379", 10, "", token=secret)
    assert TEXT not in repr(settings) and TEXT not in repr(asdict(settings))


def test_it_cannot_be_written_down_by_accident() -> None:
    secret = Secret(TEXT)
    with pytest.raises(TypeError):
        json.dumps({"token": secret})
    with pytest.raises(TypeError, match="not to be written down"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        "Bearer " + secret  # type: ignore[operator]
    assert not hasattr(secret, "__dict__")


def test_it_gives_its_text_to_those_who_ask_for_it() -> None:
    assert (Secret(TEXT).reveal(), revealed(Secret(TEXT)), revealed(TEXT)) == (TEXT, TEXT, TEXT)
    assert copy.deepcopy(Secret(TEXT)) == Secret(TEXT) != Secret("other") and Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1


def test_an_empty_one_is_false() -> None:
    assert Secret(TEXT) and not Secret()
