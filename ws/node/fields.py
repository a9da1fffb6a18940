"""Reading the JSON object that somebody sent."""

from __future__ import annotations

import math
from typing import Any

Body = dict[str, Any]


class BadRequest(Exception):
    """What is wrong with a request, for the one who sent it; answered with status 400."""


class Fields:
    """A request's body, read field by field; each raises BadRequest with the field's name."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def text(self, name: str, default: str | None = None, longest: int = 255) -> str:
        value = self._get(name, default)
        if not isinstance(value, str) or len(value) > longest or (not value and default is None):
            raise BadRequest(f"{name!r} must be a text of 1 to {longest} characters")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
            raise BadRequest(f"{name!r} must be a whole number from 0 on")
        return value

    def seconds(self, name: str) -> float:
        value = self._get(name, None)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise BadRequest(f"{name!r} must be a number of seconds")
        if not math.isfinite(value) or not 0 < value <= 3600:
            raise BadRequest(f"{name!r} must be above 0 and at most 3600 seconds")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise BadRequest(f"{name!r} must be true or false")
        return value

    def _get(self, name: str, default: str | int | bool | None) -> Any:
        if name in self._body:
            return self._body[name]
        if default is None:
            raise BadRequest(f"the field {name!r} is missing")
        return default
