"""A source and a target on one disk, and what passes between them, for the tests of both."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ws.transfer.onnode.entries import scan_here
from ws.transfer.onnode.layout import Layout
from ws.transfer.onnode.names import Place
from ws.transfer.onnode.reader import Reader
from ws.transfer.onnode.sink import Sink

CHUNK = 64 << 10  # bytes; small, so that small files make many chunks
algorithm = "sha256"
"""What chunks are checked with where nothing else is said; a suite may run with either."""


class Copy:
    """`source` on its way to `target`, in chunks of 64 KiB."""

    def __init__(self, source: Path, target: Path, root: Path | None = None, **options: Any) -> None:
        where, self.listing = scan_here(str(source))
        chunk_size, hashed_by = options.pop("chunk_size", CHUNK), options.pop("algorithm", algorithm)
        self.layout = Layout(self.listing.entries, chunk_size, hashed_by)
        self.reader = Reader(where, self.listing, self.layout)
        root = root or target.parent
        self.sink = Sink(Place(str(root), target.relative_to(root).parts), self.listing, self.layout, fsync=False, **options)

    def pass_chunks(self, chunks: Iterable[int] | None = None) -> None:
        for chunk in self.sink.missing() if chunks is None else chunks:
            pass_chunk(self.reader, self.sink, chunk)

    def run(self) -> dict[str, Any]:
        self.sink.prepare()
        if self.sink.identical_candidates():
            self.sink.offer_existing(self.reader.digests())
        self.pass_chunks()
        return self.sink.publish(self.reader.digests())

    def close(self, discard: bool = False) -> None:
        self.reader.close()
        self.sink.close(discard)


def pass_chunk(reader: Reader | Sink, sink: Sink, chunk: int) -> None:
    if reader.is_hole(chunk):
        sink.put_hole(chunk, reader.digest(chunk))
        return
    writer = sink.writer(chunk)
    try:
        for piece in reader.pieces(chunk):
            writer.write(piece)
        writer.commit(reader.digest(chunk))
    finally:
        writer.abort()


@contextmanager
def copying(source: Path, target: Path, root: Path | None = None, **options: Any) -> Iterator[Copy]:
    copy = Copy(source, target, root, **options)
    try:
        yield copy
    finally:
        copy.close(discard=True)


def make_tree(top: Path, *, seed: int = 0) -> None:
    """A folder with all there is: small files, big ones, empty ones, links, folders within folders, a sparse file."""
    (top / "inner" / "deep").mkdir(parents=True)
    (top / "empty folder").mkdir()
    for number in range(30):
        (top / "inner" / f"{number:02}").write_bytes(content(number * 371, seed + number))
    (top / "inner" / "deep" / "big").write_bytes(content(300_000, seed + 100))
    (top / "exactly").write_bytes(content(CHUNK, seed + 101))
    (top / "two").write_bytes(content(2 * CHUNK, seed + 102))
    (top / "nothing").write_bytes(b"")
    (top / "link").symlink_to("inner/07")
    (top / "inner" / "up").symlink_to("../two")
    with (top / "sparse").open("wb") as sparse:
        sparse.truncate(1_000_000)
        sparse.seek(500_000)
        sparse.write(content(1000, seed + 103))
    (top / "inner" / "03").chmod(0o600)
    (top / "inner" / "04").chmod(0o555)
    (top / "inner" / "deep").chmod(0o750)
    for number, path in enumerate(sorted(top.rglob("*"))):
        os.utime(path, ns=(10**18, 10**18 + number * 1_000_000_007), follow_symlinks=False)
    os.utime(top, ns=(10**18, 10**18))


def content(length: int, seed: int) -> bytes:
    """Not random, and nowhere the same."""
    line = b"".join(((seed * 7919 + number) % 65_521).to_bytes(2, "big") for number in range(min(length // 2 + 1, 5000)))
    return (line * (length // len(line) + 1))[:length]


def picture(top: Path) -> dict[str, tuple[Any, ...]]:
    """All that a copy must keep."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [top, *top.rglob("*")]:
        status = path.lstat()
        held = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(top))] = (status.st_mode & 0o170777, status.st_mtime_ns, held)
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
