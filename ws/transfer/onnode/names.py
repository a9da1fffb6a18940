"""Names from elsewhere, and the folders below which a node serves and accepts: nothing leads out of these."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ws.transfer.onnode.problems import (
    BAD_NAME,
    LINK_REFUSED,
    NO_SUCH_FILE,
    OUTSIDE_ROOTS,
    TransferProblem,
    reading_problem,
    writing_problem,
)

ROOTS_VARIABLE = "WS_TRANSFER_ROOTS"
LONGEST_NAME, LONGEST_PATH, MOST_COMPONENTS = 255, 4096, 100  # bytes, bytes, components
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_relative(path: str) -> tuple[str, ...]:
    """Its components, where it is a name that can do no harm below any folder; else the problem `bad-name`.

    Bytes that are no UTF-8 come as surrogate escapes, as everywhere in Python, and are allowed.
    """
    parts = tuple(path.split("/"))
    fault = _fault(path, parts)
    if fault:
        shown = repr(path) if len(path) <= LONGEST_NAME else f"{path[:60]!r}… of {len(path)} characters"
        raise TransferProblem(BAD_NAME, f"the name {shown} is refused", fault, "rename it")
    return parts


def name_of(path: str) -> str:
    """What the source is called that is asked for by `path`; empty where that ends in no name, as `.` does."""
    name = PurePosixPath(path).name
    return "" if name == ".." or path.rstrip("/") == "~" else name


def _fault(path: str, parts: tuple[str, ...]) -> str:
    if not path:
        return "it is empty"
    if path[0] == "/":
        return "it is absolute"
    if not path.isprintable() and any(mark < " " or mark == "\x7f" for mark in path):
        return "it holds a control character"
    if len(path) * 4 > LONGEST_NAME:  # else no component can be too long, in whatever encoding
        try:
            encoded = [len(os.fsencode(part)) for part in parts]
        except UnicodeEncodeError:
            return "it can't be written as bytes"
        if max(encoded) > LONGEST_NAME:
            return f"a component is longer than {LONGEST_NAME} bytes"
        if sum(encoded) + len(parts) - 1 > LONGEST_PATH:
            return f"it is longer than {LONGEST_PATH} bytes"
    elif not path.isprintable():
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            return "it can't be written as bytes"
    if len(parts) > MOST_COMPONENTS:
        return f"it is deeper than {MOST_COMPONENTS} folders"
    for part in parts:
        if part in {"", ".", ".."}:
            return f"{part!r} is no name of a file or folder"
    return ""


class Place(NamedTuple):
    """A name below a root; `root` is absolute and free of links, the parts are checked names."""

    root: str
    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        return "/".join((self.root.rstrip("/"), *self.parts)) or "/"

    @property
    def name(self) -> str:
        """The last component, that of the root where there are no parts."""
        return self.parts[-1] if self.parts else self.root.rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The folder that it is in; a root has none here."""
        if not self.parts:
            raise TransferProblem(BAD_NAME, f"{self.text!r} is a root", "it can't be replaced", "name something below it")
        return Place(self.root, self.parts[:-1])

    def below(self, *parts: str) -> Place:
        return Place(self.root, (*self.parts, *parts))


class Roots:
    """The folders below which a node serves and accepts. `paths`: absolute, or beginning with `~`; the first takes what
    comes with a relative name, and is made when it is wanted first.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._given = [_components(os.path.normpath(Path(_expanded(path)).absolute())) for path in paths]
        self._real: dict[tuple[str, ...], str] = {}
        if not self._given:
            raise TransferProblem(OUTSIDE_ROOTS, "this node has no root", "", f"set {ROOTS_VARIABLE} there")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Roots:
        given = [path for path in environ.get(ROOTS_VARIABLE, "").split(":") if path]
        return cls(given or ["~/data", *(["/data"] if Path("/data").is_dir() else [])])

    @property
    def paths(self) -> list[str]:
        return [_text(given) for given in self._given]

    @property
    def first(self) -> Place:
        """The first one itself; made where it is missing."""
        return Place(self._real_path(self._given[0]), ())

    def find(self, path: str) -> Place:
        """Where `path` is: below the first root, or, if it is absolute or begins with `~`, below one that holds it.

        Problems: `bad-name`; `outside-roots`.
        """
        trimmed = path.rstrip("/")
        if path[:1] == "~":
            trimmed = _expanded(trimmed)
        if trimmed[:1] != "/" and path[:1] != "/":
            return self.first.below(*check_relative(trimmed))
        if trimmed:
            check_relative(trimmed[1:])
        parts = _components(trimmed)
        for given in self._given:
            for root in (given, _components(self._real_path(given))):
                if parts[: len(root)] == root:
                    return Place(self._real_path(given), parts[len(root) :])
        raise TransferProblem(
            OUTSIDE_ROOTS,
            f"{path!r} is outside the folders that this node serves",
            f"these are {', '.join(self.paths)}",
            f"use one of them, or set {ROOTS_VARIABLE} on that node: services.ray.transfer_roots of a config.yaml",
        )

    def _real_path(self, given: tuple[str, ...]) -> str:
        real = self._real.get(given)
        if real is None:
            text = _text(given)
            if given == self._given[0]:
                try:
                    Path(text).mkdir(mode=0o755, parents=True, exist_ok=True)
                except OSError as error:
                    raise writing_problem(error, text) from error
            real = self._real[given] = os.path.realpath(text)
        return real


def _expanded(path: str) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:  # a user that this machine doesn't know
        raise TransferProblem(BAD_NAME, f"{path!r} can't be expanded", str(error), "write the folder out") from error


def _components(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _text(parts: tuple[str, ...]) -> str:
    return "/" + "/".join(parts)


def open_folder(
    place: Place | str, parts: Sequence[str] = (), *, make: bool = False, made: list[tuple[str, ...]] | None = None
) -> int:
    """A descriptor of the folder `parts` below `place` (or a root), opened component by component, links not followed.

    `make` makes what is missing, and notes it in `made` (parts below the root, outermost first).
    Problems: `link-refused` and `no-such-file` name the component; `read-only`, `no-space` where it can't be made.
    """
    root, inner = (place.root, (*place.parts, *parts)) if isinstance(place, Place) else (place, tuple(parts))
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise reading_problem(error, root) from error
    for depth, part in enumerate(inner):
        try:
            below = _step(folder, part, make)
        except OSError as error:
            raise _step_problem(folder, error, Place(root, inner[: depth + 1])) from error
        finally:
            os.close(folder)
        folder = below[0]
        if below[1] and made is not None:
            made.append(inner[: depth + 1])
    return folder


def _step(folder: int, part: str, make: bool) -> tuple[int, bool]:
    try:
        return os.open(part, FOLDER_FLAGS, dir_fd=folder), False
    except FileNotFoundError:
        if not make:
            raise
    fresh = True
    try:
        os.mkdir(part, 0o755, dir_fd=folder)
    except FileExistsError:  # someone else made it meanwhile
        fresh = False
    return os.open(part, FOLDER_FLAGS, dir_fd=folder), fresh


def _step_problem(folder: int, error: OSError, place: Place) -> TransferProblem:
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        try:
            is_link = stat.S_ISLNK(os.stat(place.name, dir_fd=folder, follow_symlinks=False).st_mode)
        except OSError:
            is_link = False
        if is_link:
            why = "links are not followed, wherever they lead"
            return TransferProblem(
                LINK_REFUSED, f"{place.text!r} is a symbolic link", why, "name the folder that it points to"
            )
        return TransferProblem(NO_SUCH_FILE, f"{place.text!r} is no folder", "", "name a folder")
    return reading_problem(error, place.text) if error.errno == errno.ENOENT else writing_problem(error, place.text)
