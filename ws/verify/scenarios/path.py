"""Scenario path: `ray` and `python` are found in every way, their versions agree, and `/dev/shm` holds the object store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ws.errors import WsError
from ws.verify.diagnose_state import SHM, shared_memory_wanted
from ws.verify.scenarios import Scenario
from ws.verify.scenarios.looking import absence, brings_up, for_each, listed, made_anew, ray_nodes, running
from ws.verify.site import Expected, Site
from ws.verify.verdict import Cause, Check, Recorder

_LIMIT = 30.0  # seconds for one program on a node
_AGENT_LINE = re.compile(r"Ray (.+?), Python (\S+), advertised as")
# As `su - USER` does for the container's user, which only root could call: the shell that /etc/passwd names, as a login
# shell in its home folder, without the variables of its container, PATH among them.
_FIND = "id -un && command -v ray && { command -v python3 || command -v python; }"
_LOGIN = f"""IFS=: read -r name _ _ _ _ home shell <<EOF
$(getent passwd "$(id -u)")
EOF
cd "$home" && exec env -i HOME="$home" SHELL="$shell" USER="$name" LOGNAME="$name" "${{shell:-/bin/sh}}" -lc '{_FIND}'"""


@dataclass(frozen=True)
class _Answer:
    """What a program said, on its first line, and whether it ended well."""

    ok: bool
    text: str


@dataclass(frozen=True)
class _Found:
    """The answers of one node; `shm` is the size of /dev/shm there in bytes, None where it could not be seen."""

    ray: _Answer
    python: _Answer
    login: _Answer
    shm: int | None


def _run(site: Site, record: Recorder) -> None:
    clients = [node for node in site.expected.values() if node.role == "client"]
    nodes = [*ray_nodes(site), *clients]
    found = for_each([node.name for node in running(site, nodes)], lambda name: _look(site, name))
    for node in nodes:
        _check(
            site,
            record,
            node,
            found,
            "finds `ray` and `python` by `docker exec`",
            "ray --version, python3 --version",
            _direct,
        )
    for node in ray_nodes(site):
        _check(
            site,
            record,
            node,
            found,
            "finds them in a login shell of its user",
            "the container's user's own shell, with -lc and no variables, as `su - USER` starts it",
            _in_login_shell,
        )
    logs = {node.name: site.log(node.name) for node in ray_nodes(site) if site.seen(node.name)}
    for node in ray_nodes(site):
        _check_agent(record, node, logs.get(node.name, ""))
    _check_versions(site, record, nodes, found, logs)
    for node in ray_nodes(site):
        how = "`df /dev/shm` there, against the config's shm_size, 30% of its memory, and its object store"
        _check(site, record, node, found, "has a /dev/shm that holds its objects", how, _shm_judge(site))


def _look(site: Site, name: str) -> _Found:
    ray = _ask(site, name, "ray", "--version")
    python = _ask(site, name, "python3", "--version")
    if not python.ok:
        python = _ask(site, name, "python", "--version")
    login = site.run(name, ["sh", "-c", _LOGIN], timeout=_LIMIT)
    user, *places = login.stdout.split() or ["unknown"]
    in_login_shell = _Answer(login.code == 0, f"user {user}: {listed(places) or login.stderr.strip() or 'neither'}")
    df = site.run(name, ["df", "-B1", SHM], timeout=_LIMIT).stdout.splitlines()
    size = df[-1].split()[1:2] if df else []
    return _Found(ray, python, in_login_shell, int(size[0]) if size and size[0].isdigit() else None)


def _ask(site: Site, name: str, *argv: str) -> _Answer:
    done = site.run(name, argv, timeout=_LIMIT)
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines() or [""]
    return _Answer(done.code == 0, lines[-1])


Judge = Callable[[Check, Expected, _Found], None]


def _check(
    site: Site, record: Recorder, node: Expected, found: Mapping[str, _Found | WsError], what: str, how: str, judge: Judge
) -> None:
    """A check of one node by what was found there; where it does not run, that is the failure."""
    with record.check(f"{node.name} {what}", f"{node.container}: {how}") as check:
        answers = found.get(node.name)
        if answers is None:
            gone = absence(node, site.seen(node.name))
            check.failed(gone.what, gone) if gone else check.unseen("it came up only now")
        elif isinstance(answers, WsError):
            raise answers
        else:
            judge(check, node, answers)


def _direct(check: Check, node: Expected, found: _Found) -> None:
    missing = [name for name, answer in (("ray", found.ray), ("python", found.python)) if not answer.ok]
    evidence = f"{found.ray.text}; {found.python.text}"
    if missing:
        said = found.python.text if found.ray.ok else found.ray.text
        what = f"`docker exec {node.container} {missing[0]} --version` fails: {said}"
        check.failed(evidence, Cause("no-ray-on-path", what, _other_image(node, "has Ray on the PATH of the image itself")))
    else:
        check.passed(evidence)


def _in_login_shell(check: Check, node: Expected, found: _Found) -> None:
    if found.login.ok:
        check.passed(found.login.text)
        return
    what = f"a login shell in {node.container} does not find both `ray` and `python`: {found.login.text}"
    remedy = (
        f"template/ray-ep.sh puts the PATH into the user's profile at its start: `docker restart {node.container}`; "
        "without effect, the image's own profile resets PATH"
    )
    check.failed(found.login.text, Cause("no-ray-on-path", what, remedy))


def _other_image(node: Expected, property_: str) -> str:
    how = f"`ws image build` makes one; then {brings_up(node)}"
    return f"services.ray.image in config.yaml must name an image that {property_}: {how}"


# Versions


def _agents_versions(log: str) -> tuple[str, str] | None:
    """Ray's and Python's version as the agent saw them at its last start."""
    found = _AGENT_LINE.findall(log)
    return found[-1] if found else None


def _check_agent(record: Recorder, node: Expected, log: str) -> None:
    with record.check(f"the agent of {node.name} finds `ray` and `python`", "its log: `Ray …, Python …`") as check:
        versions = _agents_versions(log)
        if versions:
            check.passed(f"Ray {versions[0]}, Python {versions[1]}")
        elif "no `ray` on the PATH" in log or "no Python on the PATH" in log:
            what = next(line for line in log.splitlines() if " on the PATH" in line).strip("✗ ")
            check.failed(what, Cause("no-ray-on-path", f"{node.name}: {what}", _other_image(node, "has Ray for its user")))
        else:
            check.unseen(f"its log does not say so: {log.strip().splitlines()[-1:] or 'it is empty'}")


def _check_versions(
    site: Site,
    record: Recorder,
    nodes: list[Expected],
    found: Mapping[str, _Found | WsError],
    logs: Mapping[str, str],
) -> None:
    with record.check(
        "Ray and Python are the same everywhere", "`ray --version`, `python3 --version`, the agents' logs"
    ) as check:
        versions = {
            node.name: known for node in nodes if (known := _versions(found.get(node.name), logs.get(node.name, "")))
        }
        head = site.head()
        leader = head.name if head and head.name in versions else next(iter(versions), None)
        if leader is None:
            check.unseen("no node's versions could be seen")
            return
        evidence = listed(f"{name}: Ray {ray}, Python {python}" for name, (ray, python) in versions.items())
        causes = []
        for node in nodes:
            if node.name in versions and (cause := _differs(node, versions[node.name], leader, versions[leader])):
                causes.append(cause)
        patches = {python for _, python in versions.values()}
        note = "; Python's patch releases differ, which Ray has accepted" if len(patches) > 1 and not causes else ""
        check.failed(evidence, *causes) if causes else check.passed(evidence + note)


def _versions(found: _Found | WsError | None, log: str) -> tuple[str, str] | None:
    """What the agent runs with, else what `docker exec` finds."""
    by_agent = _agents_versions(log)
    if by_agent:
        return by_agent
    if isinstance(found, _Found) and found.ray.ok and found.python.ok:
        return found.ray.text.split()[-1], found.python.text.split()[-1]
    return None


def _differs(node: Expected, own: tuple[str, str], leader: str, its: tuple[str, str]) -> Cause | None:
    if own[0] != its[0]:
        what = f"{node.name} has Ray {own[0]}, the head {leader} has {its[0]}"
        return Cause("ray-version", what, _other_image(node, f"has Ray {its[0]}"))
    minor = ".".join(its[1].split(".")[:2])
    if ".".join(own[1].split(".")[:2]) != minor:
        what = f"{node.name} has Python {own[1]}, the head {leader} has {its[1]}"
        return Cause("python-version", what, _other_image(node, f"has Python {minor}"))
    return None


# /dev/shm


def _shm_judge(site: Site) -> Judge:
    def judge(check: Check, node: Expected, found: _Found) -> None:
        if found.shm is None:
            check.unseen("`df` gives no size")
            return
        seen = site.seen(node.name)
        given = f"; Docker gave it {_mebibytes(seen.shm_size)}" if seen else ""
        wanted = shared_memory_wanted(node, seen.environment if seen else {})
        evidence = f"{_mebibytes(found.shm)}{given}; it needs {_mebibytes(wanted)}"
        if found.shm >= wanted:
            check.passed(evidence)
            return
        what = f"{SHM} of {node.name} has {_mebibytes(found.shm)}, it needs {_mebibytes(wanted)}"
        setting = f"services.ray.{node.name.removeprefix('ray-')}.shm_size" if node.inside else "cluster_test.worker.memory"
        remedy = f"{made_anew(node)}; where config.yaml itself says so, raise {setting} there before"
        check.failed(evidence, Cause("shm-small", what, remedy))

    return judge


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


SCENARIO = Scenario("path", "`ray` and `python` are found, of one version, with room for objects", 90.0, _run)
