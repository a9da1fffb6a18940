"""What `ws test` and `ws verify` do alike with the names of scenarios."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from ws import console
from ws.errors import UsageError


def show_list(titles: Mapping[str, str], as_json: bool) -> None:
    """Print scenarios, name → title."""
    if as_json:
        console.result_json([{"name": name, "title": title} for name, title in titles.items()])
    else:
        console.result(console.table(["SCENARIO", "WHAT"], [list(row) for row in titles.items()]))


def require_known(names: Sequence[str], known: Sequence[str], command: str) -> None:
    """Raise UsageError for the first name that is none of the scenarios of `command`."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"there is no scenario {name!r}",
                f"scenarios: {', '.join(known)}",
                f"did you mean {near[0]}?" if near else f"`{command} --list` tells what each is about",
            )
