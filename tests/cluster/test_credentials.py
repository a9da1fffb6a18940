from __future__ import annotations

from pathlib import Path

import pytest

from ws.cluster.credentials import find_token
from ws.errors import EnvironmentProblem


def test_a_file_wins_over_the_environment_as_the_token_does_over_its_path(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    other = tmp_path / "other"
    other.write_text("from-path")
    environ = {"RAY_AUTH_TOKEN": " from-environ ", "RAY_AUTH_TOKEN_PATH": str(other)}
    assert find_token(file, environ).reveal() == "from-file"
    assert find_token(None, environ).reveal() == "from-environ"
    assert find_token(None, {"RAY_AUTH_TOKEN_PATH": str(other)}).reveal() == "from-path"
    assert not find_token(None, {})
    assert not find_token(None, {"HOME": str(tmp_path)})
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("from-home")
    assert find_token(None, {"HOME": str(tmp_path)}).reveal() == "from-home"
    assert find_token(None, {"HOME": str(tmp_path)}, tmp_path / "project").reveal() == "from-home"
    (tmp_path / "project" / ".ws").mkdir(parents=True)
    (tmp_path / "project" / ".ws" / "token").write_text("from-project")
    assert find_token(None, {"HOME": str(tmp_path)}, tmp_path / "project").reveal() == "from-project"
    assert find_token(None, environ, tmp_path / "project").reveal() == "from-environ"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "can't be read"),
        (b"", "is empty"),
        (b"\xff\xfe", "can't be read"),
        (b"two\nlines", "holds no token"),
        ("schlüssel".encode(), "holds no token"),
    ],
)
def test_a_file_that_holds_no_token_is_named(tmp_path: Path, content: bytes | None, what: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(EnvironmentProblem, match=what) as caught:
        find_token(file, {})
    assert "lines" not in str(caught.value)


def test_a_variable_that_holds_no_token_is_named_and_not_shown() -> None:
    with pytest.raises(EnvironmentProblem, match="RAY_AUTH_TOKEN holds no token") as caught:
        find_token(None, {"RAY_AUTH_TOKEN": "two words"})
    assert "words" not in str(caught.value)
