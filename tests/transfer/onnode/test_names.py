"""Names can do no harm, whoever made them; nothing leads out of the roots."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from ws.transfer.onnode.names import Place, Roots, check_relative, name_of, open_folder
from ws.transfer.onnode.problems import TransferProblem


def refusal(path: str) -> TransferProblem:
    with pytest.raises(TransferProblem) as caught:
        check_relative(path)
    return caught.value


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        (".", "no name"),
        ("..", "no name"),
        ("a/../../b", "no name"),
        ("a//b", "no name"),
        ("a/", "no name"),
        ("/etc/passwd", "absolute"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a/\x7f", "control"),
        ("x" * 256, "255 bytes"),
        ("ü" * 128, "255 bytes"),
        ("/".join(["x" * 200] * 21), "4096 bytes"),
        ("/".join(["x"] * 101), "deeper than 100"),
        ("\ud800", "bytes"),
    ],
)
def test_a_harmful_name_is_refused_by_name(path: str, why: str) -> None:
    problem = refusal(path)
    assert problem.code == "bad-name"
    assert why in problem.why
    assert repr(path)[1:20] in problem.what


@pytest.mark.parametrize("path", ["a", "a/b c/ü", "...", "a.part", "\udcff\udc80", "-rf", "x" * 255, "名/前"])
def test_what_is_only_odd_is_allowed(path: str) -> None:
    assert check_relative(path) == tuple(path.split("/"))


pieces = st.one_of(st.sampled_from(["..", ".", "", "/", "a", "\0", "\n", "~", "\udcff", "x" * 256]), st.text(max_size=8))


@given(st.lists(pieces, max_size=12).map("/".join))
def test_every_name_is_refused_or_stays_below(path: str) -> None:
    try:
        parts = check_relative(path)
    except TransferProblem as problem:
        assert problem.code == "bad-name"
        return
    joined = os.path.normpath("/root/folder/" + "/".join(parts))
    assert joined == "/root/folder/" + path
    assert all(mark >= " " and mark != "\x7f" for mark in path)
    assert all(len(os.fsencode(part)) <= 255 for part in parts)


def test_relative_names_are_below_the_first_root_which_is_made(tmp_path: Path) -> None:
    roots = Roots([str(tmp_path / "new" / "one"), str(tmp_path / "two")])
    assert roots.find("a/b/") == Place(str(tmp_path / "new" / "one"), ("a", "b"))
    assert (tmp_path / "new" / "one").is_dir()
    assert not (tmp_path / "two").exists()


def test_absolute_names_must_be_below_a_root_component_by_component(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    roots = Roots([str(tmp_path / "link"), str(tmp_path / "more")])
    real = str(tmp_path / "real")
    assert roots.find(f"{tmp_path}/link/x") == Place(real, ("x",))
    assert roots.find(f"{tmp_path}/real/x") == Place(real, ("x",))
    assert roots.find(f"{tmp_path}/more/x").parts == ("x",)
    assert roots.find(f"{tmp_path}/link/").parts == ()
    for outside in (f"{tmp_path}/linkx/a", f"{tmp_path}", "/", "/etc/passwd"):
        with pytest.raises(TransferProblem) as caught:
            roots.find(outside)
        assert caught.value.code == "outside-roots"
        assert "WS_TRANSFER_ROOTS" in caught.value.mend
        assert f"{tmp_path}/more" in caught.value.why
    with pytest.raises(TransferProblem, match="no name"):
        roots.find(f"{tmp_path}/link/../../etc")


def test_roots_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Roots.from_environ({"WS_TRANSFER_ROOTS": f"{tmp_path}/a:~/b"}).paths == [f"{tmp_path}/a", f"{tmp_path}/b"]
    default = Roots.from_environ({})
    assert default.paths[0] == f"{tmp_path}/data"
    assert default.find("~/data/x") == Place(f"{tmp_path}/data", ("x",))


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two roots, and links in the first one: out of it, to within it, to themselves; what is outside has the same names."""
    top = tmp_path_factory.mktemp("furnished")
    for folder in ("root/a/b", "other/a", "outside/a/b", "rooted/a"):
        (top / folder).mkdir(parents=True)
    (top / "alias").symlink_to("root")
    for folder in (top / "root", top / "root" / "a"):
        (folder / "out").symlink_to(top / "outside")
        (folder / "up").symlink_to("..")
        (folder / "etc").symlink_to("/etc")
        (folder / "in").symlink_to(top / "root" / "a" / "b")
        (folder / "loop").symlink_to("loop")
        (folder / "file").write_text("")
    return top


BEGINNINGS = [
    "",
    "",
    "/",
    "~/",
    "~root/",
    "//",
    "TOP/",
    "TOP/root/",
    "TOP/root/a/",
    "TOP/other/",
    "TOP/alias/",
    "TOP/outside/",
    "TOP/root/../",
]
plain = st.sampled_from(["a", "b", "a", "b", "up", "out", "in", "etc", "loop", "file", "new"])
harmful = st.sampled_from(["..", ".", "", "~", "root", "outside", "a\0", "\n"])
steps_down = st.lists(plain, max_size=4) | st.lists(plain | harmful, max_size=5)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(BEGINNINGS), steps_down, st.booleans())
@example("TOP/root/", ["a", "b"], False)
@example("", ["a", "out", "a"], True)
@example("", ["up", "outside"], True)
@example("TOP/alias/", ["in", "new"], True)
@example("TOP/root/../", ["outside"], False)
def test_no_name_leads_out_of_the_roots(furnished: Path, beginning: str, steps: list[str], make: bool) -> None:
    top = str(furnished)
    before = {str(path) for path in furnished.rglob("*")}
    roots = Roots([f"{top}/alias", f"{top}/other"])
    try:
        folder = open_folder(roots.find(beginning.replace("TOP", top) + "/".join(steps)), make=make)
    except TransferProblem as problem:
        event(problem.code)
        assert problem.code in {"bad-name", "outside-roots", "link-refused", "no-such-file"}
    else:
        event("opened")
        opened = str(Path(f"/proc/self/fd/{folder}").readlink())
        os.close(folder)
        assert any(opened == root or opened.startswith(root + "/") for root in (f"{top}/root", f"{top}/other"))
    made = sorted({str(path) for path in furnished.rglob("*")} - before, reverse=True)
    assert all(path.startswith((f"{top}/root/", f"{top}/other/")) for path in made)
    for path in made:
        Path(path).rmdir()


def test_a_link_on_the_way_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "out").symlink_to("/etc")
    (tmp_path / "a" / "file").write_text("")
    place = Place(str(tmp_path), ("a", "out", "ssl"))
    with pytest.raises(TransferProblem, match="a/out' is a symbolic link") as caught:
        open_folder(place)
    assert caught.value.code == "link-refused"
    with pytest.raises(TransferProblem, match="a/file' is no folder"):
        open_folder(str(tmp_path), ("a", "file", "x"), make=True)
    with pytest.raises(TransferProblem, match="there is no"):
        open_folder(str(tmp_path), ("b",))


def test_folders_are_made_on_the_way_and_noted(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    made: list[tuple[str, ...]] = []
    os.close(open_folder(Place(str(tmp_path), ("a",)), ("b", "c"), make=True, made=made))
    assert (tmp_path / "a/b/c").is_dir()
    assert made == [("a", "b"), ("a", "b", "c")]


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b", "b"), ("/a/b/", "b"), ("~x", "~x"), ("~", ""), ("~/", ""), (".", ""), ("/", ""), ("a/..", ""), ("a/.", "a")],
)
def test_a_source_is_called_as_its_path_says(path: str, name: str) -> None:
    assert name_of(path) == name
