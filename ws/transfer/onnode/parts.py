"""How parts come about: that of a source which is offered, and that of a target which is accepted, and where it goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from ws.transfer.onnode import hashing
from ws.transfer.onnode.entries import Listing, unpack
from ws.transfer.onnode.layout import CHUNK_SIZE, Layout
from ws.transfer.onnode.names import Place, Roots, check_relative, open_folder
from ws.transfer.onnode.part import Part
from ws.transfer.onnode.problems import BAD_NAME, TransferProblem
from ws.transfer.onnode.reader import Reader
from ws.transfer.onnode.sink import Sink


def sending(place: Place, listing: Listing, secret: bytes, options: Mapping[str, Any]) -> Part:
    """The part of a source; options: chunk_size (bytes), algorithm, limit (bytes per second), name (what it is called)."""
    layout = _layout(listing, options)
    return Part(Reader(place, listing, layout), listing, layout, secret, options)


def receiving(target: Callable[[str, bool], Place], spec: Mapping[str, Any]) -> Part:
    """The part of a target, to be prepared; see `Party.accept`. `target`: see `place_for`."""
    listing = unpack(spec["listing"])
    _check_called(listing.name, spec.get("called"))
    layout = _layout(listing, spec)
    place = target(listing.name, listing.is_folder)
    sink = Sink(
        place,
        listing,
        layout,
        overwrite=bool(spec.get("overwrite")),
        fsync=bool(spec.get("fsync", True)),
        keep_partial=bool(spec.get("keep_partial")),
    )
    return Part(sink, listing, layout, spec["secret"], spec)


def discard_left(target: Callable[[str, bool], Place], spec: Mapping[str, Any]) -> None:
    """Remove what is not whole of what `receiving` was given that spec for; nothing happens where there is none."""
    listing = unpack(spec["listing"])
    Sink(target(listing.name, listing.is_folder), listing, _layout(listing, spec)).discard_left()


def _check_called(name: str, called: str | None) -> None:
    """A sender is not to choose a name that nobody asked for; of a root, which has none in its path, not a hidden one."""
    if called is not None and name != called and (called or name.startswith(".")):
        wanted = f"{called!r} was asked for" if called else "it was not asked for by its name"
        raise TransferProblem(BAD_NAME, f"the sender offers {name!r}", wanted, "name it by its whole path")


def _layout(listing: Listing, options: Mapping[str, Any]) -> Layout:
    algorithm = str(options.get("algorithm") or hashing.SHA256)
    hashing.new(algorithm)  # what is not here is a problem now, not at the first chunk
    return Layout(listing.entries, int(options.get("chunk_size") or CHUNK_SIZE), algorithm)


def place_for(roots: Roots, dest: str | None, name: str, is_folder: bool) -> Place:
    """Where a source called `name` goes: a folder always below `dest`; a file to `dest`, or into the folder that it is.

    Without `dest`: below the first root.
    """
    check_relative(name)
    if not dest:
        return roots.first.below(name)  # not `find`: a name may begin with ~
    place = roots.find(dest)
    inside = is_folder or dest.endswith("/") or not place.parts or _is_folder(place)
    return place.below(name) if inside else place


def _is_folder(place: Place) -> bool:
    try:
        above = open_folder(place.parent)
    except TransferProblem:
        return False
    try:
        return stat.S_ISDIR(os.stat(place.name, dir_fd=above, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(above)
