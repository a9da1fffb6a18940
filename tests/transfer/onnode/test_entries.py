"""A source's listing: without following a link, and safe to take from anyone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ws.transfer.onnode.entries import Entry, Listing, content_id, pack, scan, scan_here, unpack
from ws.transfer.onnode.names import Place
from ws.transfer.onnode.problems import TransferProblem


def place(path: Path) -> Place:
    return Place(str(path.parent), (path.name,))


def code_of(action: object, *arguments: object) -> str:
    with pytest.raises(TransferProblem) as caught:
        action(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_a_folder_is_listed_in_order_with_links_as_links(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "b" / "inner").mkdir(parents=True)
    (top / "b" / "file").write_bytes(b"12345")
    (top / "b" / "file").chmod(0o4640)
    (top / "a").symlink_to("b/file")
    (top / "b" / "up").symlink_to("../a")
    os.utime(top / "b" / "file", ns=(1, 1_234_567_890))
    listing = scan(place(top))
    assert (listing.name, listing.is_folder) == ("top", True)
    assert [(entry.path, entry.kind) for entry in listing.entries] == [
        ("a", "link"),
        ("b", "dir"),
        ("b/file", "file"),
        ("b/inner", "dir"),
        ("b/up", "link"),
    ]
    file = listing.entries[2]
    assert (file.size, file.mode, file.mtime_ns) == (5, 0o640, 1_234_567_890)
    assert listing.entries[0].target == "b/file"
    assert unpack(pack(listing)) == listing
    assert code_of(scan, place(top), "refuse") == "link-refused"


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "b/../../x", "b/../c"])
def test_a_link_that_may_lead_out_is_refused_by_name(tmp_path: Path, target: str) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(target)
    with pytest.raises(TransferProblem, match="link") as caught:
        scan(place(tmp_path / "top"))
    assert caught.value.code == "link-refused"
    assert "'link'" in caught.value.what


def test_what_has_no_content_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    os.mkfifo(tmp_path / "top" / "pipe")
    with pytest.raises(TransferProblem, match="top/pipe"):
        scan(place(tmp_path / "top"))
    assert code_of(scan, place(tmp_path / "top" / "pipe")) == "not-a-file"
    assert code_of(scan, place(tmp_path / "none")) == "no-such-file"
    (tmp_path / "link").symlink_to("top")
    assert code_of(scan, place(tmp_path / "link")) == "link-refused"


def test_names_that_are_no_text_travel(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    os.close(os.open(os.fsencode(tmp_path) + b"/top/\xff\xfe", os.O_CREAT))
    listing = scan(place(tmp_path / "top"))
    assert unpack(pack(listing)).entries[0].path == "\udcff\udcfe"
    assert len(content_id(listing, 1, "sha256")) == 64


def test_a_users_own_path_may_be_a_link_and_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    where, listing = scan_here(str(tmp_path / "link"))
    assert where == place(tmp_path / "file")
    assert listing.name == "link"
    assert [entry.path for entry in listing.entries] == [""]
    monkeypatch.chdir(tmp_path)
    assert scan_here(".")[1].name == tmp_path.name
    assert code_of(scan_here, "/") == "bad-name"
    assert code_of(scan_here, "none") == "no-such-file"


def test_the_content_has_one_id_whatever_its_name() -> None:
    one = Listing("a", False, [Entry("", "file", 5)])
    known = content_id(one, 8, "sha256")
    assert known == content_id(one._replace(name="b"), 8, "sha256")
    later = one._replace(entries=[Entry("", "file", 5, mtime_ns=1)])
    others = [content_id(one, 9, "sha256"), content_id(one, 8, "blake3"), content_id(later, 8, "sha256")]
    assert known not in others


names = st.text(st.characters(codec="utf-8", exclude_characters="/\x7f", min_codepoint=32), min_size=1, max_size=5)
files = st.builds(
    Entry,
    path=names.filter(lambda name: name not in {".", ".."}),
    kind=st.just("file"),
    size=st.integers(0, 1 << 50),
    mode=st.integers(0, 0o777),
    mtime_ns=st.integers(-(1 << 62), 1 << 62),
    sparse=st.booleans(),
    target=st.just(""),
)


@given(st.lists(files, unique_by=lambda entry: entry.path, max_size=20))
def test_packing_loses_nothing(entries: list[Entry]) -> None:
    listing = Listing("top", True, entries)
    assert unpack(pack(listing)) == listing


def hostile(*lines: object, header: object = ("ws-listing-1", "top", True, 0o755, 0)) -> bytes:
    return zlib.compress(b"".join(json.dumps(line).encode() + b"\n" for line in (header, *lines)))


def line(
    path: object = "a", kind: object = "file", size: object = 0, target: object = "", mode: object = 0o644
) -> list[object]:
    return [path, kind, size, mode, 0, False, target]


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"nonsense",
        zlib.compress(b"[" * 50_000 + b"\n"),
        zlib.compress(b"")[:-2],
        pack(Listing("top", True, []))[:-3],
        hostile(header=["other", "top", True, 0, 0]),
        hostile(header=["ws-listing-1", "../x", True, 0, 0]),
        hostile(header=["ws-listing-1", "a/b", True, 0, 0]),
        hostile(line("../x")),
        hostile(line("/x")),
        hostile(line("a/b")),
        hostile(line("a"), line("a/b")),
        hostile(line("a"), line("a")),
        hostile(line("a", "dir"), line("a", "link", target="b")),
        hostile(line("a", "link", target="b"), line("a/b")),
        hostile(line("a", "link", target="../b")),
        hostile(line("a", "link", target="/b")),
        hostile(line("a", "link", target="")),
        hostile(line("a", "device")),
        hostile(line("a", size=-1)),
        hostile(line("a", size=1 << 63)),
        hostile(line("a", size=True)),
        hostile(line("a", size=1.5)),
        hostile(line("a", mode=0o4755)),
        hostile(line("a", "dir", size=5)),
        hostile(line(["a"])),
        hostile(line("\ud800")),
        hostile(["a"]),
        hostile(line("b"), header=["ws-listing-1", "top", False, 0, 0]),
        hostile(line(""), line(""), header=["ws-listing-1", "top", False, 0, 0]),
        hostile(header=["ws-listing-1", "top", False, 0, 0]),
    ],
)
def test_a_hostile_listing_is_refused(packed: bytes) -> None:
    assert code_of(unpack, packed) in {"bad-name", "link-refused", "too-many"}


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(junk: bytes) -> None:
    for packed in (junk, zlib.compress(junk)):
        assert code_of(unpack, packed) in {"bad-name", "link-refused", "too-many"}


def test_a_listing_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    assert code_of(unpack, zlib.compress(b"x" * (50 << 20))) == "too-many"


def test_it_all_runs_where_ws_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    by_value = """
import ray.cloudpickle as pickle, sys
import ws.transfer.onnode
from ws.transfer.onnode import entries, layout, names, reader, sink
pickle.register_pickle_by_value(ws.transfer.onnode)

def copy(path, folder):
    where, listing = entries.scan_here(path)
    listing = entries.unpack(entries.pack(listing))
    plan = layout.Layout(listing.entries)
    source, target = reader.Reader(where, listing, plan), sink.Sink(names.Place(folder, ("copy",)), listing, plan)
    target.prepare()
    for chunk in target.missing():
        writer = target.writer(chunk)
        for piece in source.pieces(chunk):
            writer.write(piece)
        writer.commit(source.digest(chunk))
    result = target.publish(source.digests())
    target.close()
    source.close()
    return result

copy.__module__ = "__main__"
sys.stdout.buffer.write(pickle.dumps(copy))
"""
    pickled = subprocess.run([sys.executable, "-c", by_value], capture_output=True, check=True).stdout
    (tmp_path / "pickled").write_bytes(pickled)
    elsewhere = f"""
import pickle, sys
sys.path[:] = [path for path in sys.path if path]
sys.modules["ws"] = None
copy = pickle.load(open({str(tmp_path / "pickled")!r}, "rb"))
assert copy({str(tmp_path / "file")!r}, {str(tmp_path)!r})["bytes"] == 7
"""
    subprocess.run([sys.executable, "-c", elsewhere], check=True, cwd=tmp_path)
    assert (tmp_path / "copy").read_bytes() == b"content"
