"""From a symptom to its cause: what is looked at, the most fundamental first, each cause stated on evidence alone.

What can be seen without running anything (containers, their environment, Docker's bindings, logs) comes first, and is
`certain`; only where all of that is in order are ports probed from node to node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ws.verify import diagnose_access as access
from ws.verify import diagnose_state as state
from ws.verify import diagnose_way as way
from ws.verify.diagnose_case import Case
from ws.verify.site import Site
from ws.verify.verdict import Cause

Look = Callable[[Case], list[Cause]]

_CERTAIN: tuple[Look, ...] = (
    state.container,
    state.leader,
    state.name_twice,
    state.hostname,
    access.no_token,
    access.wrong_entry,
    access.versions_refused,
    access.token_refused,
    way.names,
    way.published,
    state.shared_memory,
    state.other_ports,
    access.gave_up,
    state.ended,
)
_PROBED: tuple[Look, ...] = (access.entry, state.registered_twice, way.advertised, way.ports, access.versions_differ)


def certain(site: Site, name: str) -> list[Cause]:
    """What is wrong with a node beyond doubt, by mere looking; quick enough to be asked every second or two."""
    return _first(Case(site, name), _CERTAIN)


def suspect(site: Site, name: str) -> list[Cause]:
    """What is wrong with a node, by looking and then by probing; empty where everything seems to be in order."""
    case = Case(site, name)
    found = _first(case, _CERTAIN)
    if found or not case.runs:
        return found
    probed = _first(case, _PROBED)
    # A container that is being killed still runs in Docker's eyes when its ports are closed already.
    return (_first(Case(site, name), _CERTAIN) if probed else []) or probed


def diagnose(site: Site, name: str, symptom: str = "") -> list[Cause]:
    """Why a Ray node (external, joiner or inside) does not work, the most fundamental cause first; never empty.

    `symptom` is what was seen of it, in Ray's words or ours; it is told where nothing better is known. Raises KeyError for
    a name that the site does not expect.
    """
    return suspect(site, name) or state.unexplained(Case(site, name), symptom)


def _first(case: Case, looks: Sequence[Look]) -> list[Cause]:
    """What the first look that sees something sees, and after it what the later ones see; one cause of each kind."""
    found: dict[str, Cause] = {}
    for look in looks:
        for cause in look(case):
            found.setdefault(cause.key + cause.what, cause)
        if found and look in _DECISIVE:
            break
    return list(found.values())


_DECISIVE: tuple[Look, ...] = (state.container, state.leader, access.entry)
"""Looks behind which the others would see consequences alone."""
