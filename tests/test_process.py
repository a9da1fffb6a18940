"""Running other programs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ws.errors import CommandFailed, EnvironmentProblem, StillRunning
from ws.process import Completed, attached, run


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_both_streams_and_the_exit_code_come_back() -> None:
    program = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert run(python(program), check=False) == Completed(3, "out\n", "err\n")


def test_a_failure_carries_all_that_is_known() -> None:
    argv = python("import sys; print('out'); print('the cause', file=sys.stderr); sys.exit(3)")
    with pytest.raises(CommandFailed) as caught:
        run(argv)
    error = caught.value
    assert (error.argv, error.code, error.output) == (tuple(argv), 3, "out\nthe cause\n")
    assert error.what.endswith("ended with exit code 3")
    assert error.why == "out\nthe cause"
    assert error.exit_code == 4


def test_a_signal_is_a_negative_code() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert caught.value.code == -9


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(EnvironmentProblem, match="`no-such-program` is not installed") as caught:
        run(["no-such-program", "--version"], check=False)
    assert not isinstance(caught.value, CommandFailed)


def test_a_program_that_may_not_be_run(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(EnvironmentProblem, match="is not installed") as caught:
        run([str(tmp_path / "program")])
    assert caught.value.why == "Permission denied"


def test_a_folder_that_is_not_there_is_not_taken_for_the_program(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="there is no folder"):
        run(python("pass"), cwd=tmp_path / "gone")


def test_what_takes_too_long_is_ended_and_its_output_kept() -> None:
    began = time.monotonic()
    argv = python("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    with pytest.raises(StillRunning, match="exit code -1") as caught:
        run(argv, timeout=2)
    assert time.monotonic() - began < 300
    pid, _, told = caught.value.output.partition("\n")
    assert told.strip() == "still running after 2 s"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_program_on_this_terminal_ends_with_its_own_code(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import os, sys; print(os.environ['MORE']); sys.exit(7)"
    assert attached(python(program), {"MORE": "told"}) == 7
    assert capfd.readouterr().out == "told\n"
    assert attached(python("import os; os.kill(os.getpid(), 15)")) == 143


def test_what_can_not_be_run_on_this_terminal_has_the_codes_of_a_shell(tmp_path: Path) -> None:
    for mode, text in ((0o644, "#!/bin/sh\n"), (0o755, "neither text nor program")):
        program = tmp_path / f"program-{mode:o}"
        program.write_text(text, encoding="utf-8")
        program.chmod(mode)
        with pytest.raises(EnvironmentProblem, match="can't be run") as caught:
            attached([str(program)])
        assert caught.value.exit_code == 126
    with pytest.raises(EnvironmentProblem, match="there is no program `no-such-program`") as caught:
        attached(["no-such-program"])
    assert caught.value.exit_code == 127
    assert EnvironmentProblem.exit_code == 4


def test_variables_come_on_top_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    done = run(python("import os; print(os.environ['OURS'], os.environ['MORE'])"), env={"MORE": "2"})
    assert done.stdout == "1 2\n"


def test_stdin_is_what_is_given_or_empty() -> None:
    program = "import sys; print(repr(sys.stdin.read()))"
    assert run(python(program), stdin="text").stdout == "'text'\n"
    assert run(python(program)).stdout == "''\n"


def test_output_that_is_no_text_is_no_error() -> None:
    assert run(python("import os; os.write(1, b'a\\xff\\n')")).stdout == "a\N{REPLACEMENT CHARACTER}\n"


def test_it_runs_where_it_is_told(tmp_path: Path) -> None:
    assert run(python("import os; print(os.getcwd())"), cwd=tmp_path).stdout.strip() == str(tmp_path.resolve())
