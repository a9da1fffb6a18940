"""`template/ray-ep.sh` by real bash, with a fake home and PATH, and small scripts for `ray` and the agent."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.stage import LONG, soon
from ws.resources import packaged

TOOLS = ["id", "getent", "cut", "setpriv", "env", "bash", "cat", "grep", "dirname", "sh", "sleep"]
NOBODY = "no-such-user-of-ray"
# Tells who runs it with what, and ends with 7 on SIGTERM; `python3` is what the entry point hands over to.
AGENT = r"""#!/bin/sh
echo "agent: $*"
echo "user: $(id -un) home: $HOME name: $USER in: $(pwd)"
echo "ray: $(command -v ray)"
test -n "$AGENT_EXIT" && exit "$AGENT_EXIT"
trap 'echo "asked to end"; exit 7' TERM
echo ready
while :; do sleep 0.05; done
"""


class Image:
    """What the entry point finds: a home, a PATH of its own, itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.log = folder / "log"
        for made in (self.home, self.bin):
            made.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.program("ray", "#!/bin/sh\n")
        self.program("python3", AGENT)
        self.script = Path(shutil.copy(packaged("template/ray-ep.sh"), folder))
        self.processes: list[subprocess.Popen[bytes]] = []

    def program(self, name: str, text: str, folder: Path | None = None) -> None:
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        told = {"HOME": str(self.home), "PATH": str(self.bin), "WS_RAY_USER": NOBODY, "WS_AGENT": "/the/agent", **environ}
        with self.log.open("wb") as output:
            process = subprocess.Popen(
                [str(shutil.which("bash")), str(self.script)], env=told, stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def run(self, **environ: str) -> tuple[int, list[str]]:
        """Its exit code and lines, where it ends by itself."""
        code = self.start(**environ).wait(timeout=LONG)
        return code, self.lines

    @property
    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def start_and_wait(self, **environ: str) -> subprocess.Popen[bytes]:
        process = self.start(**environ)

        def ready() -> bool:
            assert process.poll() is None, self.lines
            return "ready" in self.lines

        soon("the agent", ready)
        return process


@pytest.fixture
def image() -> Iterator[Image]:
    """In a folder that every user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Image(Path(folder))
        yield made
        for process in made.processes:
            process.kill()
            process.wait()


def test_it_hands_over_to_the_agent_and_returns_its_exit_code(image: Image) -> None:
    code, lines = image.run(AGENT_EXIT="4")
    assert code == 4
    assert lines[0] == "agent: -u /the/agent agent"
    assert f"in: {image.home}" in lines[1]
    assert lines[2] == f"ray: {image.bin}/ray"


def test_ray_of_the_official_images_is_found(image: Image) -> None:
    image.program("ray", "#!/bin/sh\n", image.home / "anaconda3" / "bin")
    code, lines = image.run(AGENT_EXIT="0")
    assert code == 0
    assert lines[2] == f"ray: {image.home}/anaconda3/bin/ray"
    assert f'export PATH="{image.home}/anaconda3/bin:$PATH"' in (image.home / ".ws-profile").read_text()


def test_an_image_without_ray(image: Image) -> None:
    (image.bin / "ray").unlink()
    code, lines = image.run()
    assert code == 127
    assert lines == [
        f"✗ no `ray` on the PATH ({image.home}/anaconda3/bin:/home/ray/anaconda3/bin:{image.bin}): use an image with Ray "
        "installed (`ws image build` makes one)"
    ]


def test_an_image_without_python(image: Image) -> None:
    (image.bin / "python3").unlink()
    code, lines = image.run()
    assert code == 127
    assert lines[0].startswith("✗ no Python on the PATH")


def test_any_python_will_do(image: Image) -> None:
    (image.bin / "python3").rename(image.bin / "python")
    assert image.run(AGENT_EXIT="0")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_agents_exit_code_returned(image: Image, number: signal.Signals) -> None:
    process = image.start_and_wait()
    process.send_signal(number)
    assert process.wait(timeout=LONG) == 7
    assert image.lines[-1] == "asked to end"


def test_many_signals_end_it_no_other_way(image: Image) -> None:
    slow = AGENT.replace("trap 'echo \"asked to end\"; exit 7' TERM", "trap 'end=1' TERM")
    slow = slow.replace("while :; do sleep 0.05; done", 'while test -z "$end"; do sleep 0.05; done; trap "" TERM; exit 7')
    image.program("python3", slow)
    process = image.start_and_wait()
    for _ in range(50):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=LONG) == 7


def test_an_agent_that_a_signal_has_ended(image: Image) -> None:
    image.program("python3", '#!/bin/sh\nkill -9 "$$"\n')
    assert image.run()[0] == 137


def login(image: Image, command: str, shell: str = "bash") -> str:
    """What a login shell prints, which is told nothing but its home."""
    done = subprocess.run(
        [str(shutil.which(shell)), "-l", "-c", command],
        env={"HOME": str(image.home), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("existing", [None, ".profile", ".bash_profile", ".bash_login"])
def test_a_login_shell_finds_ray_and_the_token(image: Image, existing: str | None) -> None:
    if existing:
        (image.home / existing).write_text("export MINE=kept\n")
    told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token", "AGENT_EXIT": "0"}
    for _ in range(2):
        assert image.run(**told)[0] == 0
    said = login(image, 'echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN_PATH $(command -v ray) $MINE"')
    assert said == f"token /run/secrets/ray_token {image.bin}/ray{' kept' if existing else ''}"
    profile = (image.home / (existing or ".profile")).read_text()
    assert profile.count("ws-profile") == 1
    written = {path.name for path in image.home.iterdir()} - {".ws-profile", existing or ".profile"}
    assert written == set()


def test_the_profile_holds_where_the_token_is_and_not_the_token(image: Image) -> None:
    image.run(AGENT_EXIT="0", RAY_AUTH_TOKEN="the secret itself", RAY_AUTH_TOKEN_PATH="/run/secrets/ray_token")
    assert "the secret" not in "".join(path.read_text() for path in image.home.iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
class TestAsRoot:
    @pytest.fixture
    def user(self, image: Image) -> pwd.struct_passwd:
        """One that exists, with a home that it may not write to: nobody's profile is to be changed by this test."""
        for entry in pwd.getpwall():
            home = Path(entry.pw_dir)
            if entry.pw_uid != 0 and home.is_dir() and home.stat().st_uid == 0 and home.stat().st_mode & 0o007 == 0o005:
                return entry
        pytest.skip("there is no such user")

    def test_it_becomes_the_user_that_ray_belongs_to(self, image: Image, user: pwd.struct_passwd) -> None:
        code, _ = image.run(WS_RAY_USER=user.pw_name, AGENT_EXIT="5")
        assert code == 5
        who = f"user: {user.pw_name} home: {user.pw_dir} name: {user.pw_name} in: {Path(user.pw_dir).resolve()}"
        assert who in image.lines

    def test_signals_reach_the_agent_there_too(self, image: Image, user: pwd.struct_passwd) -> None:
        process = image.start_and_wait(WS_RAY_USER=user.pw_name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LONG) == 7

    def test_without_such_a_user_it_stays_root(self, image: Image) -> None:
        code, lines = image.run(AGENT_EXIT="0")
        assert code == 0
        assert lines[1].startswith("user: root ")
