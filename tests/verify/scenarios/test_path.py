"""Path on a site that is made up."""

from __future__ import annotations

import os
import pwd
import subprocess

import pytest

from tests.verify.fake_site import SHM, FakeSite, bad, performed
from ws.errors import StillRunning
from ws.verify.diagnose_case import Case
from ws.verify.diagnose_state import shared_memory
from ws.verify.scenarios import path

VERSIONS = "Ray and Python are the same everywhere"


def test_a_healthy_cluster_passes() -> None:
    checks = performed(path, FakeSite())
    assert bad(checks) == {}
    assert checks["ray-cpu finds `ray` and `python` by `docker exec`"].evidence == "ray, version 2.60.0; Python 3.11.7"
    assert "test-ray-client: Ray 2.60.0, Python 3.11.7" in checks[VERSIONS].evidence


def test_no_ray_by_docker_exec() -> None:
    site = FakeSite()
    site.answer("ray --version", code=127, stderr='exec: "ray": executable file not found in $PATH', node="ray-gpu")
    check = performed(path, site)["ray-gpu finds `ray` and `python` by `docker exec`"]
    assert [cause.key for cause in check.causes] == ["no-ray-on-path"]
    assert "`docker exec made-up-ray-gpu ray --version` fails" in check.causes[0].what


def test_python_may_be_called_so() -> None:
    site = FakeSite()
    site.answer("python --version", "Python 3.11.7")
    site.answer("python3 --version", code=127, stderr="not found")
    assert bad(performed(path, site)) == {}


def test_a_login_shell_that_finds_nothing() -> None:
    site = FakeSite()
    site.answer("getent passwd", "ray\n", code=1, node="ray-gpu")
    checks = performed(path, site)
    assert bad(checks) == {"ray-gpu finds them in a login shell of its user": ["no-ray-on-path"]}
    assert checks["ray-gpu finds them in a login shell of its user"].evidence == "user ray: neither"
    assert "`su - USER`" in checks["ray-cpu finds them in a login shell of its user"].how


def test_the_login_shell_is_that_of_whoever_runs_it_and_has_nothing_of_its_environment() -> None:
    """As it is, on this machine."""
    told = path._LOGIN.replace(path._FIND, 'id -un; echo "$HOME"; echo "${LEAK:-clean}"')
    done = subprocess.run(["sh", "-c", told], env={**os.environ, "LEAK": "x"}, capture_output=True, text=True, check=True)
    owner = pwd.getpwuid(os.getuid())
    assert done.stdout.split() == [owner.pw_name, owner.pw_dir, "clean"]


def test_both_looks_at_dev_shm_have_one_rule() -> None:
    """What the scenario finds too small is so for the diagnosis, too, and the other way round."""
    for size in (SHM - 4096, SHM):
        site = FakeSite()
        df = f"Filesystem 1B-blocks Used Available Use% Mounted on\nshm {size} 0 {size} 0% /dev/shm\n"
        site.answer("df -B1", df, node="ray-gpu")
        site.change("ray-gpu", shm_size=size)
        diagnosed = bool(shared_memory(Case(site, "ray-gpu")))
        assert ("ray-gpu has a /dev/shm that holds its objects" in bad(performed(path, site))) is diagnosed


def test_an_agent_that_has_found_no_ray() -> None:
    site = FakeSite()
    site.logs["ray-gpu"] = "✗ no `ray` on the PATH (/usr/bin): use an image with Ray installed\n"
    check = performed(path, site)["the agent of ray-gpu finds `ray` and `python`"]
    assert check.causes[0].what == "ray-gpu: no `ray` on the PATH (/usr/bin): use an image with Ray installed"


def test_an_agent_that_has_said_nothing_yet() -> None:
    site = FakeSite()
    site.logs["ray-gpu"] = ""
    assert bad(performed(path, site)) == {"the agent of ray-gpu finds `ray` and `python`": ["inconclusive"]}


@pytest.mark.parametrize("name", ["test-ray-worker", "test-ray-client"])
def test_another_ray_is_named_with_both_versions(name: str) -> None:
    site = FakeSite()
    if name in site.logs:
        site.logs[name] = site.logs[name].replace("Ray 2.60.0", "Ray 2.59.1")
    site.answer("ray --version", "ray, version 2.59.1", node=name)
    check = performed(path, site)[VERSIONS]
    assert [cause.key for cause in check.causes] == ["ray-version"]
    assert check.causes[0].what == f"{name} has Ray 2.59.1, the head ray-cpu has 2.60.0"


def test_the_version_of_a_node_that_has_ended_is_in_its_log() -> None:
    site = FakeSite()
    site.change("test-ray-worker", state="restarting", exit_code=4, restarts=3)
    site.logs["test-ray-worker"] = "→ Ray 2.59.1, Python 3.11.7, advertised as test-ray-worker\n"
    checks = performed(path, site)
    assert [cause.key for cause in checks[VERSIONS].causes] == ["ray-version"]
    assert bad(checks)["test-ray-worker finds `ray` and `python` by `docker exec`"] == ["node-exited"]


def test_another_minor_release_of_python() -> None:
    site = FakeSite()
    site.answer("python3 --version", "Python 3.12.1", node="test-ray-client")
    check = performed(path, site)[VERSIONS]
    assert [cause.key for cause in check.causes] == ["python-version"]
    assert check.causes[0].what == "test-ray-client has Python 3.12.1, the head ray-cpu has 3.11.7"


def test_another_patch_release_of_python_is_noted() -> None:
    site = FakeSite()
    site.answer("python3 --version", "Python 3.11.9", node="test-ray-client")
    check = performed(path, site)[VERSIONS]
    assert check.verdict == "pass"
    assert check.evidence.endswith("Python's patch releases differ, which Ray has accepted")


@pytest.mark.parametrize("size", [64 << 20, SHM - 4096])
def test_a_small_dev_shm(size: int) -> None:
    site = FakeSite()
    site.answer(
        "df -B1", f"Filesystem 1B-blocks Used Available Use% Mounted on\nshm {size} 0 {size} 0% /dev/shm\n", node="ray-gpu"
    )
    site.change("ray-gpu", shm_size=size)
    check = performed(path, site)["ray-gpu has a /dev/shm that holds its objects"]
    assert [cause.key for cause in check.causes] == ["shm-small"]
    assert "it needs 1,330.0 MiB" in check.causes[0].what
    assert "services.ray.gpu.shm_size" in check.causes[0].remedy


def test_a_dev_shm_that_the_config_makes_too_small_for_the_memory() -> None:
    site = FakeSite()
    size = 512 << 20
    site.expect("ray-gpu", shm_size=size)
    site.answer(
        "df -B1", f"Filesystem 1B-blocks Used Available Use% Mounted on\nshm {size} 0 {size} 0% /dev/shm\n", node="ray-gpu"
    )
    assert bad(performed(path, site)) == {"ray-gpu has a /dev/shm that holds its objects": ["shm-small"]}


def test_what_hangs_is_inconclusive() -> None:
    site = FakeSite()
    site.fails("ray --version", StillRunning(["docker", "exec"], -1, "still running after 30 s"), node="ray-gpu")
    found = bad(performed(path, site))
    assert set(map(tuple, found.values())) == {("inconclusive",)}
