"""The cluster's token, as a value that no log line, traceback or JSON answer shows by accident."""

from __future__ import annotations

import hmac
from typing import Any, NoReturn, Union


class Secret:
    """A text that prints as `***`; `reveal` gives it out. Falsy where it is empty.

    It is no `str`, so JSON refuses it and joining or adding it to a text fails; it cannot be pickled either.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be written down")


Token = Union[Secret, str]


def revealed(token: Token) -> str:
    """The text of a token that was handed over in either form."""
    return token.reveal() if isinstance(token, Secret) else token
