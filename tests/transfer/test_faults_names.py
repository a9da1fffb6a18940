"""A sender that lies about names, in whole transfers: whatever it lists, nothing outside the target's place is touched."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tests.transfer.onnode.copying import picture
from tests.transfer.parties import Cluster, NodeRemote
from ws.transfer import running
from ws.transfer.events import Stream
from ws.transfer.onnode.entries import FILE, FOLDER, LINK, Entry, Listing, pack
from ws.transfer.onnode.layout import Layout, root_hash
from ws.transfer.outcome import Outcome, Settings

CHUNK = 100
SENDER, RECIPIENT = "ray_node_1", "ray_node_2"


SAYINGS = {"bad-name", "link-refused", "exists", "no-such-file", "read-only"}
"""What a listing that is refused may be told as."""

plain = st.sampled_from(["a", "b", "sub", "out", "file", "new", "~", "a.part", "\udcff", "x" * 255])
odd = st.sampled_from(["..", ".", "", "\0", "a\n", "x" * 256, "/", "//outside", "../../outside/file"])
modes = st.sampled_from([0, 0o600, 0o644, 0o777])


def paths(steps: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(steps, min_size=1, max_size=3).map("/".join)


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    """Half of them have names that must be refused; the others are harmful by what is at the target already, or not at all.

    What is above an entry is listed before it as a folder: else all would be refused for that.
    """
    steps = draw(st.sampled_from([plain, plain | odd]))
    name = draw(st.just("top") | steps)
    if draw(st.integers(0, 5)) == 0:
        return Listing(name, False, [Entry("", FILE, draw(st.integers(0, 300)), 0o644, 10**18)])
    listed: dict[str, Entry] = {}
    for path in draw(st.lists(paths(steps), max_size=6)):
        above = path.split("/")[:-1]
        for depth in range(1, len(above) + 1):
            folder = "/".join(above[:depth])
            listed.setdefault(folder, Entry(folder, FOLDER, 0, 0o755, 10**18))
        kind = draw(st.sampled_from([FILE, FILE, FOLDER, LINK]))
        size = draw(st.integers(0, 3 * CHUNK)) if kind == FILE else 0
        target = draw(paths(plain) | st.sampled_from(["..", "../../outside", "/etc", "out/../.."])) if kind == LINK else ""
        if kind == FOLDER or not any(other.startswith(path + "/") for other in listed):
            listed[path] = Entry(path, kind, size, draw(modes), 10**18, draw(st.booleans()), target)
    return Listing(name, True, list(listed.values()), 0o755, 10**18)


@pytest.mark.parametrize(
    ("path", "offered"),
    [("result.bin", ".ssh"), ("a/result.bin", "other.bin"), (".", ".ssh"), ("..", ".profile"), ("~", ".x")],
)
def test_a_sender_does_not_choose_the_name(tmp_path: Path, path: str, offered: str) -> None:
    """`ws fetch node:result.bin ~/` from a node that lies must not write to `~/.ssh`."""
    cluster = Cluster(tmp_path)
    try:
        outcome = send(cluster, Listing(offered, True, [Entry("authorized_keys", FILE, 5)]), False, path)
        assert [each["code"] for each in outcome.problems.values()] == ["bad-name"]
        assert repr(offered) in str(outcome.problems[RECIPIENT])
        assert list(cluster.root(RECIPIENT).iterdir()) == []
    finally:
        cluster.close()


def test_a_root_that_is_a_link_is_called_as_it_was_asked_for(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "a").write_text("!")
        (tmp_path / SENDER).symlink_to(tmp_path / "store")
        source = (SENDER, str(tmp_path / SENDER))
        outcome = running.Transfer(cluster.party, source, [RECIPIENT], Settings(fsync=False), Stream()).run()
        assert outcome.state == "done", outcome
        assert (cluster.root(RECIPIENT) / SENDER / "a").read_text() == "!"
    finally:
        cluster.close()


class Invention:
    """The content of what is listed: there is none on any disk."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.hashes = b"".join(self.digest(index) for index in range(layout.count))

    def wait_for(self, index: int, timeout: float) -> bool:
        return True

    def is_hole(self, index: int) -> bool:
        return False

    def pieces(self, index: int) -> Iterator[memoryview]:
        yield memoryview(b"!" * self.layout.length(index))

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(b"!" * self.layout.length(index)).digest()


def send(cluster: Cluster, listing: Listing, overwrite: bool, path: str = ".") -> Outcome:
    """`path`: what is asked for; of a root no name is expected."""
    remote = cluster.party(SENDER)
    assert isinstance(remote, NodeRemote)
    party, store = remote.party, Invention(Layout(listing.entries, CHUNK))
    assert party._server
    serve = party._server.register

    def offer(tid: str, path: str, secret: bytes, options: Any) -> dict[str, Any]:
        serve(bytes.fromhex(tid), secret, store)
        layout = store.layout
        return {"listing": pack(listing), "content": "", "files": 1, "chunks": layout.count, "total": layout.total}

    made_up: Any = party
    made_up.offer = offer
    made_up.progress = lambda tid: {"done": 0, "total": 0, "retries": 0}
    made_up.hashes = lambda tid: {"hashes": store.hashes, "root": root_hash(store.layout, store.hashes)}
    wanted = Settings(fsync=False, chunk_size=CHUNK, overwrite=overwrite, hash="sha256")
    return running.Transfer(cluster.party, (SENDER, path), [RECIPIENT], wanted, Stream(), retry_pause=0.01).run()


def furnish(cluster: Cluster) -> None:
    """The recipient has links of its own that lead out, where names of the listing may meet them."""
    outside = cluster.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("not yours")
    (outside / "sub").mkdir()
    root = cluster.root(RECIPIENT)
    for folder in (root, root / "top", root / "top" / "sub"):
        folder.mkdir(exist_ok=True)
        (folder / "out").symlink_to(outside)
        (folder / "file").symlink_to(outside / "file")
    (root / "a.part").symlink_to(outside)
    (root / "new.part").symlink_to(outside / "sub")
    (root / "b.part.journal").symlink_to(outside / "journal")


def beyond(cluster: Cluster, name: str) -> dict[str, Any]:
    """All that a transfer of that name must leave alone: everything but the name itself at the recipient."""
    own = {f"{RECIPIENT}/{name}{suffix}" for suffix in ("", ".part", ".part.journal")} if _is_plain(name) else set()
    seen = picture(cluster.folder)
    return {
        path: held[2] if path in {".", RECIPIENT, SENDER} else held
        for path, held in seen.items()
        if not any(path == mine or path.startswith(mine + "/") for mine in own)
    }


def _is_plain(name: str) -> bool:
    return "/" not in name and name not in {"", ".", ".."}


@settings(max_examples=150, deadline=None)
@given(listing=listings(), overwrite=st.booleans())
@example(Listing("~", True, [Entry("x", FILE, 5)]), True)
@example(Listing("../outside/file", False, [Entry("", FILE, 5)]), True)
@example(Listing("out", True, [Entry("file", FILE, 5)]), True)
@example(Listing("file", False, [Entry("", FILE, 5)]), True)
@example(Listing("a", False, [Entry("", FILE, 5)]), True)
@example(Listing("new", True, [Entry("x", FILE, 5)]), True)
@example(Listing("b", False, [Entry("", FILE, 5)]), True)
@example(Listing("top", True, [Entry("out", FOLDER), Entry("out/file", FILE, 5)]), True)
@example(Listing("top", True, [Entry("sub", FOLDER), Entry("sub/file", FILE, 5), Entry("sub/out", LINK, target="..")]), True)
@example(Listing("top", True, [Entry("l", LINK, target="sub"), Entry("l/file", FILE, 5)]), True)
@example(Listing("top", True, [Entry("../../outside/file", FILE, 5)]), True)
def test_nothing_outside_the_targets_place_is_touched(listing: Listing, overwrite: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.root(SENDER)
            furnish(cluster)
            before = beyond(cluster, listing.name)
            outcome = send(cluster, listing, overwrite)
            event(outcome.state + ", ".join(each["code"] for each in outcome.problems.values()))
            assert beyond(cluster, listing.name) == before
            assert outcome.state == "done" or {each["code"] for each in outcome.problems.values()} <= SAYINGS, outcome
        finally:
            cluster.close()


def test_a_name_that_begins_like_a_home_folder_is_a_name(tmp_path: Path) -> None:
    """As the lock files of office programs have it."""
    cluster = Cluster(tmp_path)
    try:
        for name in ("~", "~root", "~$notes.docx"):
            assert send(cluster, Listing(name, False, [Entry("", FILE, 5)]), False).state == "done"
            assert (cluster.root(RECIPIENT) / name).read_bytes() == b"!!!!!"
    finally:
        cluster.close()
