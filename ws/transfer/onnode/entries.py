"""What a source consists of: listed without following a link, and sent in a form that can do no harm.

Packed, it is a zlib stream of lines, each a JSON array: a header `[FORMAT, name, is_folder, mode, mtime_ns]`, then the
fields of one `Entry` a line. Line by line, so that a hostile one costs no more memory than it may.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ws.transfer.onnode.names import FOLDER_FLAGS, Place, check_relative, name_of, open_folder
from ws.transfer.onnode.problems import (
    BAD_NAME,
    LINK_REFUSED,
    NOT_A_FILE,
    TOO_MANY,
    TransferProblem,
    reading_problem,
)

FILE, FOLDER, LINK = "file", "dir", "link"
MOST_ENTRIES = 1_000_000
_FORMAT = "ws-listing-1"
_LONGEST_LINE = 64 << 10  # two paths of 4096 bytes, each byte escaped
_MOST_UNPACKED = 512 << 20
_LARGEST = 1 << 62  # bytes of a file, and of all


class Entry(NamedTuple):
    """One file, folder or link. `path` is relative to the top, and "" for a file that is sent alone.

    size: bytes, 0 unless a file; mode: permission bits; sparse: it has holes; target: where a link points, else "".
    """

    path: str
    kind: str
    size: int = 0
    mode: int = 0o644
    mtime_ns: int = 0
    sparse: bool = False
    target: str = ""


class Listing(NamedTuple):
    """A source: `name` is its last component; a folder's entries exclude the folder itself, and come after their folders.

    mode, mtime_ns: those of the folder itself, where it is one.
    """

    name: str
    is_folder: bool
    entries: list[Entry]
    mode: int = 0o755
    mtime_ns: int = 0


def scan(place: Place) -> Listing:
    """What is there, links as links.

    Problems: no-such-file, not-readable, link-refused (the top is a link, or one leads out of the folder), not-a-file
    (a device, socket or pipe, by name), bad-name, too-many.
    """
    if not place.parts:
        return _scan_folder(place, open_folder(place))
    parent = open_folder(place.parent)
    try:
        status = os.stat(place.name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return _scan_folder(place, os.open(place.name, FOLDER_FLAGS, dir_fd=parent))
        if stat.S_ISLNK(status.st_mode):
            raise TransferProblem(
                LINK_REFUSED, f"{place.text!r} is a symbolic link", "links are not followed", "name what it points to"
            )
        return Listing(place.name, False, [_entry("", place.text, status)])
    except OSError as error:
        raise reading_problem(error, place.text) from error
    finally:
        os.close(parent)


def scan_here(path: str) -> tuple[Place, Listing]:
    """A user's own file or folder, wherever it is, and where it really is; the top itself may be a link, and is followed."""
    try:
        real = Path(path).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise reading_problem(error if isinstance(error, OSError) else OSError(str(error)), path) from error
    if real.parent == real:
        raise TransferProblem(BAD_NAME, "the whole machine is not sent", "", "name a folder")
    place = Place(str(real.parent), (real.name,))
    return place, scan(place)._replace(name=name_of(path) or real.name)


def _scan_folder(place: Place, folder: int) -> Listing:
    entries: list[Entry] = []
    try:
        status = os.fstat(folder)
        for entry in _walk(folder, "", place.text):
            entries.append(entry)
            if len(entries) > MOST_ENTRIES:
                raise _too_many(place.text)
    except OSError as error:
        raise reading_problem(error, place.text) from error
    finally:
        os.close(folder)
    return Listing(place.name, True, entries, stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns)


def _walk(folder: int, prefix: str, top: str) -> Iterator[Entry]:
    """Sorted by name, each folder before what is in it; `prefix` is empty or ends with a slash."""
    with os.scandir(folder) as scanned:
        found = sorted(scanned, key=lambda item: item.name)
    for item in found:
        path = prefix + item.name
        check_relative(path)
        status = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(item.name, dir_fd=folder)
            check_link(path, target)
            yield Entry(path, LINK, 0, 0o777, status.st_mtime_ns, False, target)
        elif stat.S_ISDIR(status.st_mode):
            yield Entry(path, FOLDER, 0, stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns)
            inner = os.open(item.name, FOLDER_FLAGS, dir_fd=folder)
            try:
                yield from _walk(inner, path + "/", top)
            finally:
                os.close(inner)
        else:
            yield _entry(path, f"{top}/{path}", status)


def _entry(path: str, shown: str, status: os.stat_result) -> Entry:
    if not stat.S_ISREG(status.st_mode):
        what = f"{shown!r} is no file, folder or link"
        raise TransferProblem(
            NOT_A_FILE, what, "devices, sockets and pipes have no content", "remove it, or send what is beside it"
        )
    size = status.st_size
    # Set-user-id and the like are left behind: they would mean another user there.
    return Entry(path, FILE, size, stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns, status.st_blocks * 512 < size)


def check_link(path: str, target: str) -> None:
    """Problem `link-refused` where the link at `path` could lead out of the folder that is sent.

    Steps upwards are taken at the beginning alone: after another component, which may be a link itself, one can't tell
    from the names where `..` leads.
    """
    steps = target.split("/")
    upwards = 0
    while upwards < len(steps) and steps[upwards] == "..":
        upwards += 1
    fault = ""
    if not target or target[0] == "/":
        fault = "its target is absolute" if target else "it has no target"
    elif upwards > path.count("/"):
        fault = "it leads out of the folder"
    elif ".." in steps[upwards:]:
        fault = "a step upwards within its target may lead out of the folder"
    elif "\0" in target or len(target) > 4096:
        fault = "its target is no name"
    if fault:
        what = f"the symbolic link {path!r} to {target[:200]!r} is refused"
        raise TransferProblem(LINK_REFUSED, what, fault, "replace it by what it points to")


def pack(listing: Listing) -> bytes:
    """It as bytes for `unpack`."""
    packer = zlib.compressobj(1)
    header = [_FORMAT, listing.name, listing.is_folder, listing.mode, listing.mtime_ns]
    packed = [packer.compress(_line(header)), *(packer.compress(_line(entry)) for entry in listing.entries)]
    return b"".join([*packed, packer.flush()])


def _line(fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def unpack(packed: bytes) -> Listing:
    """It again, with everything checked as from an enemy; problems: bad-name, link-refused, too-many."""
    lines = _lines(packed)
    try:
        form, name, is_folder, mode, mtime_ns = json.loads(next(lines))
        if form != _FORMAT or not (type(is_folder) is bool and _is_number(mode, 0o777) and _is_number(mtime_ns)):
            raise _no_listing("another format")
        if len(check_relative(_text(name))) != 1:
            raise _no_listing("a path as its name")
        entries = _checked_tree(lines) if is_folder else _checked_file(lines)
        return Listing(name, is_folder, entries, mode, mtime_ns)
    except (ValueError, TypeError, StopIteration, zlib.error, RecursionError) as error:
        raise _no_listing(str(error)) from error


def _lines(packed: bytes) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    rest, total = b"", 0
    for start in range(0, len(packed), _LONGEST_LINE):
        feed = packed[start : start + _LONGEST_LINE]
        while feed and not unpacker.eof:
            part = unpacker.decompress(feed, _LONGEST_LINE)
            feed = unpacker.unconsumed_tail
            total += len(part)
            *whole, rest = (rest + part).split(b"\n")
            if len(rest) > _LONGEST_LINE or total > _MOST_UNPACKED:
                raise _too_many("the listing")
            yield from whole
    if not unpacker.eof:
        raise _no_listing("it is cut off")
    if rest:
        raise _no_listing("it is cut off")


def _checked_tree(lines: Iterator[bytes]) -> list[Entry]:
    entries: list[Entry] = []
    folders, total = {""}, 0
    others: set[str] = set()
    for line in lines:
        entry = _checked(line)
        check_relative(entry.path)
        if entry.path.rpartition("/")[0] not in folders or entry.path in folders or entry.path in others:
            raise TransferProblem(
                BAD_NAME, f"the name {entry.path!r} is refused", "it is there twice, or outside every folder"
            )
        (folders if entry.kind == FOLDER else others).add(entry.path)
        if entry.kind == LINK:
            check_link(entry.path, entry.target)
        entries.append(entry)
        total += entry.size
        if len(entries) > MOST_ENTRIES or total > _LARGEST:
            raise _too_many("the listing")
    return entries


def _checked_file(lines: Iterator[bytes]) -> list[Entry]:
    entries = [_checked(line) for line, _ in zip(lines, range(2), strict=False)]
    if len(entries) != 1 or entries[0].path or entries[0].kind != FILE:
        raise _no_listing("no single file")
    return entries


def _checked(line: bytes) -> Entry:
    path, kind, size, mode, mtime_ns, sparse, target = json.loads(line)
    if kind not in {FILE, FOLDER, LINK} or type(sparse) is not bool:
        raise _no_listing("an unknown kind of file")
    if not (_is_number(size, _LARGEST) and _is_number(mode, 0o777) and _is_number(mtime_ns)) or (size and kind != FILE):
        raise _no_listing("a number that can't be")
    return Entry(_text(path), kind, size, mode, mtime_ns, sparse, _text(target))


def _is_number(given: object, most: int = (1 << 63) - 1) -> bool:
    return type(given) is int and (0 <= given <= most or (most > _LARGEST and -most <= given < 0))


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise _no_listing("a name that is no text")
    os.fsencode(given)  # a UnicodeEncodeError is a ValueError
    return given


def _no_listing(why: str) -> TransferProblem:
    return TransferProblem(BAD_NAME, "what the sender sent as its listing is none", why, "use the same version at both ends")


def _too_many(what: str) -> TransferProblem:
    return TransferProblem(
        TOO_MANY, f"{what} holds more than {MOST_ENTRIES:,} files", "", "pack it into one file, or send its parts"
    )


def content_id(listing: Listing, chunk_size: int, algorithm: str) -> str:
    """Names the content, whatever it is called: two transfers of the same id can take each other's chunks. Hexadecimal.

    It leaves out `sparse`, which the file system may see otherwise a moment later.
    """
    known = hashlib.sha256(_line([_FORMAT, listing.is_folder, listing.mode, listing.mtime_ns, chunk_size, algorithm]))
    for path, kind, size, mode, mtime_ns, _, target in listing.entries:
        known.update(_line((path, kind, size, mode, mtime_ns, target)))
    return known.hexdigest()
