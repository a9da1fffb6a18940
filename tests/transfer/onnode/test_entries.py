"""A source's listing: without following a link, and safe to take from anyone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import event, given, settings
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


VALID: list[list[object]] = [
    ["ws-listing-1", "top", True, 0o755, 0],
    ["a", "dir", 0, 0o755, 1, False, ""],
    ["a/b", "dir", 0, 0o755, 1, False, ""],
    ["a/b/big", "file", 1 << 40, 0o644, 10**18, True, ""],
    ["a/b/link", "link", 0, 0o777, 1, False, "../file"],
    ["a/file", "file", 5, 0o600, 1, False, ""],
    ["z", "link", 0, 0o777, -1, False, "a/b"],
]
"""A listing that is good, line by line."""

odd_names = st.lists(st.sampled_from(["..", ".", "", "a", "b", "file", "new", "\0", "\ud800", "x" * 256]), max_size=4)
numbers = st.integers() | st.sampled_from(
    [-1, 0, 5, 0o777, 0o1000, 0o4755, 1 << 62, 1 << 63, 1.5, float("inf"), float("nan")]
)
kinds = st.sampled_from(["file", "dir", "link", "device", ""])
aims = st.sampled_from(["a", "../..", "a/../..", "../../..", "/etc/passwd", "..", "."]) | odd_names.map("/".join)
odd_fields = st.one_of(
    st.tuples(st.just(0), odd_names.map("/".join) | st.text(max_size=8)),
    st.tuples(st.just(1), kinds),
    st.tuples(st.integers(2, 4), numbers),
    st.tuples(st.just(5), st.booleans()),
    st.tuples(st.just(6), aims),
    st.tuples(st.integers(0, 6), st.sampled_from([None, True, 0, "", [], {}, ["a"]])),
)


@settings(max_examples=600)
@given(st.integers(0, len(VALID) - 1), odd_fields)
def test_a_listing_with_one_odd_field_is_refused_or_does_no_harm(at: int, odd: tuple[int, object]) -> None:
    field, value = odd
    lines = [list(line) for line in VALID]
    lines[at][field % len(lines[at])] = value
    take_or_refuse(lines)


some_lines = st.lists(st.sampled_from(VALID[1:]), max_size=7)
in_order = st.sets(st.integers(1, len(VALID) - 1)).map(lambda chosen: [VALID[at] for at in sorted(chosen)])


@given(some_lines | in_order, st.sampled_from([True, True, True, False]))
def test_lines_that_are_missing_twice_or_in_another_order_are_refused_or_do_no_harm(
    lines: list[list[object]], whole: bool
) -> None:
    take_or_refuse([VALID[0], *lines] if whole else lines)


def take_or_refuse(lines: list[list[object]]) -> None:
    packed = zlib.compress(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    try:
        listing = unpack(packed)
    except TransferProblem as problem:
        event(problem.code)
        assert problem.code in {"bad-name", "link-refused", "too-many"}
    else:
        event("taken")
        assert unpack(pack(listing)) == listing
        assert [list(entry) for entry in listing.entries] == lines[1:]
        assert_harmless(listing)


def assert_harmless(listing: Listing) -> None:
    """Each entry is below the top, after its folder, and alone under its name; each link leads to somewhere below it."""
    known = {"/top": "dir"}
    assert "/" not in listing.name and listing.name not in {"", ".", ".."}
    for entry in listing.entries:
        path = f"/top/{entry.path}" if listing.is_folder else "/top"
        assert os.path.normpath(path) == path
        assert b"\0" not in os.fsencode(path)
        if listing.is_folder:
            assert path not in known
            assert known[path.rpartition("/")[0]] == "dir"
        known[path] = entry.kind
        assert entry.kind in {"file", "dir", "link"}
        assert 0 <= entry.size <= 1 << 62 if entry.kind == "file" else type(entry.size) is int and not entry.size
        assert 0 <= entry.mode <= 0o777 and type(entry.mode) is int
        assert abs(entry.mtime_ns) < 1 << 63
        if entry.kind == "link":
            led = os.path.normpath(f"{path.rpartition('/')[0]}/{entry.target}")
            assert led == "/top" or led.startswith("/top/")


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(junk: bytes) -> None:
    """Hardly any of them are a listing at all."""
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
