"""A site that is made up: a small healthy cluster with its test network, of which a test changes what it wants.

site = FakeSite()                                   # all as it should be
site.change("ray-gpu", state="paused")              # a container, see `Seen`
site.expect("ray-gpu", shm_size=1)                  # what the config says of it, see `Expected`
site.remove("health")                               # no such container
site.answer("ray --version", "ray, version 2.59.0", node="ray-gpu")   # what a program there prints
site.port("ray-cpu", 6379, outcome="refused")       # what netprobe finds
site.says("links", [{"event": "link", …}])          # what a program of ws.verify.programs says
site.board.rows = [ray_node("ray-cpu", head=True)]  # what the dashboard shows
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from tests.verify.fake_dashboard import EVERYONE, FakeDashboard, ray_node
from ws.cluster.dashboard import Dashboard
from ws.errors import EnvironmentProblem, WsError
from ws.process import Completed
from ws.verify import programs
from ws.verify.site import Expected, Head, Seen
from ws.verify.verdict import Check, Link, Recorder, ScenarioResult, Verdict

MAIN, TEST, HOST = "ray-network", "test-network", "172.17.0.1"
INSIDE, OUTSIDE = ("health", "ray-cpu", "ray-gpu"), ("test-ray-worker", "test-ray-joiner")
MEMORY, SHM, STORE = 4 << 30, 1330 << 20, 1250 << 20
INNER_PORT = 44217  # that a node listens on, and nobody publishes
ACTIVE = "Active:\n 1 node_{}\n 1 node_{}\n 1 node_{}\nPending:\n (no pending nodes)\n"
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token"}
TCP = "  sl  local_address rem_address   st\n"

Event = dict[str, Any]
Script = Sequence[Event] | Callable[[Mapping[str, Any]], Sequence[Event]]


class FakeSite:
    """As `ws.verify.site.Site`; see the head of this module for how to change it. `ran` is each program that was run."""

    def __init__(self) -> None:
        self.project = "made-up"
        self.host_address = HOST
        self.whitelist: Sequence[str] = ["ray-cpu", "ray-gpu"]
        self.expected: dict[str, Expected] = _expected()
        self.containers: dict[str, Seen] = {name: as_expected(node, place) for place, (name, node) in self._present()}
        self.others: dict[str, Seen] = {}
        self.logs = {name: _log(name) for name in self.containers}
        self.heads: list[Head | None] = [Head("ray-cpu", "ray-cpu:6379", 3)]
        self.lease_answer: Mapping[str, object] | None = {
            "lease": {"holder": "ray-cpu", "address": "ray-cpu:6379", "epoch": 3},
            "released": False,
        }
        self.board = FakeDashboard(
            [ray_node("ray-cpu", head=True), ray_node("ray-gpu"), ray_node("test-ray-worker", cpus=1)]
        )
        self.links: list[Link] = []
        self.watch: Any = None
        self.first_head: Head | None = self.heads[0]
        self.failed = False
        self.ran: list[tuple[str, list[str]]] = []
        self.joiners: list[Mapping[str, str]] = []
        self._answers: list[tuple[str, str, Completed | WsError]] = []
        self._scripts: dict[tuple[str, str], Script] = {}
        self._ports: dict[tuple[str, str, int], Event] = {}
        _healthy_answers(self)

    def _present(self) -> list[tuple[int, tuple[str, Expected]]]:
        return list(enumerate(item for item in self.expected.items() if item[1].role != "joiner"))

    # Changing it

    def change(self, name: str, **fields: Any) -> None:
        self.containers[name] = replace(self.containers[name], **fields)

    def expect(self, name: str, **fields: Any) -> None:
        self.expected[name] = replace(self.expected[name], **fields)

    def remove(self, name: str) -> None:
        self.containers.pop(name, None)

    def answer(self, needle: str, stdout: str = "", *, node: str = EVERYONE, code: int = 0, stderr: str = "") -> None:
        """What a program prints whose command line has `needle` in it; the latest answer counts."""
        self._answers.insert(0, (node, needle, Completed(code, stdout, stderr)))

    def fails(self, needle: str, error: WsError, *, node: str = EVERYONE) -> None:
        """That running such a program raises this."""
        self._answers.insert(0, (node, needle, error))

    def says(self, program: str, script: Script, *, node: str = EVERYONE) -> None:
        """The events of a program, or a function of its parameters that makes them; `done` is added unless `broken`."""
        self._scripts[node, program] = script

    def port(self, host: str, port: int, *, node: str = EVERYONE, **fields: Any) -> None:
        """What netprobe finds there instead of an open port: outcome, speaks, ip, detail."""
        self._ports[node, host, port] = fields

    # Being a site

    def run(self, node: str, argv: Sequence[str], *, timeout: float) -> Completed:
        self.ran.append((node, list(argv)))
        line = " ".join(argv)
        for place, needle, answer in self._answers:
            if place in (node, EVERYONE) and needle in line:
                if isinstance(answer, WsError):
                    raise answer
                return answer
        raise AssertionError(f"nobody has said what {line!r} prints on {node}")

    def spawn(self, node: str, argv: Sequence[str]) -> subprocess.Popen[str]:
        self.ran.append((node, list(argv)))
        name = next(name for name in _program_names() if programs.text(name) == argv[3])
        script = self._scripts.get((node, name)) or self._scripts.get((EVERYONE, name)) or self.netprobe(node)
        params = json.loads(argv[4])
        events = list(script(params) if callable(script) else script)
        broken = [event["why"] for event in events if event["event"] == "broken"]  # a line that is no event, as they say it
        said = [json.dumps(event) for event in events if event["event"] != "broken"]
        lines = "\n".join(said + (broken or [json.dumps({"event": "done"})]))
        return subprocess.Popen(
            [sys.executable, "-S", "-c", f"print({lines!r})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def netprobe(self, node: str) -> Callable[[Mapping[str, Any]], list[Event]]:
        """What netprobe says on a node: what `port` was told, and otherwise what is right."""
        return lambda params: [self._found(node, host, port) for host, port in params["targets"]]

    def _found(self, node: str, host: str, port: int) -> Event:
        changed = self._ports.get((node, host, port)) or self._ports.get((EVERYONE, host, port)) or {}
        inner = host in {address for seen in self.containers.values() for address in seen.addresses.values()}
        speaks = "health" if port == 8080 else "dashboard" if port in (8265, 8266) else "grpc"
        outcome = "timeout" if inner else "refused" if port == INNER_PORT else "open"
        found = {"ip": host if inner else HOST, "outcome": outcome, "speaks": speaks if outcome == "open" else None}
        return {"event": "target", "host": host, "port": port, "detail": "", **found, **changed}

    def ws(self, arguments: Sequence[str], *, timeout: float) -> Completed:
        raise AssertionError(f"nobody has said what `ws {' '.join(arguments)}` does")

    def seen(self, name: str) -> Seen | None:
        return self.containers.get(name)

    def strangers(self) -> Mapping[str, Seen]:
        return self.others

    def log(self, name: str) -> str:
        if name not in self.logs:
            raise EnvironmentProblem(f"there is no container for {name!r}")
        return self.logs[name]

    def head(self) -> Head | None:
        """The first of `heads`, which is then used up, unless it is the last."""
        return self.heads.pop(0) if len(self.heads) > 1 else self.heads[0]

    def lease(self) -> Mapping[str, object] | None:
        return self.lease_answer

    def dashboard(self) -> Dashboard:
        return self.board  # type: ignore[return-value]

    def start_joiner(self, environment: Mapping[str, str]) -> None:
        self.joiners.append(environment)
        name, node = next((name, node) for name, node in self.expected.items() if node.role == "joiner")
        self.containers[name] = as_expected(replace(node, environment={**node.environment, **environment}), 9)

    def stop_joiner(self) -> None:
        for name, node in self.expected.items():
            if node.role == "joiner":
                self.remove(name)


def performed(module: ModuleType, site: FakeSite) -> dict[str, Check]:
    """Run a module's SCENARIO on this site; its checks by what they look at."""
    made: list[Check] = []
    scenario = module.SCENARIO
    recorder = Recorder(ScenarioResult(scenario.name, scenario.title), lambda _, check: made.append(check))
    scenario.run(site, recorder)
    checks = {check.what: check for check in made}
    assert len(checks) == len(made), "two checks have the same words"
    return checks


def bad(checks: Mapping[str, Check]) -> dict[str, list[str]]:
    """The keys of the causes of each check that did not pass; `inconclusive` where it was not seen."""
    return {
        what: ["inconclusive"] if check.verdict is Verdict.INCONCLUSIVE else [cause.key for cause in check.causes]
        for what, check in checks.items()
        if check.verdict is not Verdict.PASS
    }


def as_expected(node: Expected, place: int) -> Seen:
    """A container as the config wants it."""
    subnet = "172.28.0" if node.inside else "172.30.0"
    return Seen(
        hostname=node.name,
        state="running",
        image=node.image,
        environment=dict(node.environment),
        published=node.published,
        addresses={node.network: f"{subnet}.{place + 2}"},
        extra_hosts=dict.fromkeys(OUTSIDE if node.inside else INSIDE, HOST),
        shm_size=node.shm_size,
        started_at=1000.0,
    )


def listening(*ports: int, loopback: Sequence[int] = ()) -> str:
    """/proc/net/tcp of a node that listens on these."""
    rows = [f"   0: 00000000:{port:04X} 00000000:0000 0A" for port in ports]
    rows += [f"   0: 0100007F:{port:04X} 00000000:0000 0A" for port in loopback]
    return TCP + "\n".join(rows) + "\n"


def _expected() -> dict[str, Expected]:
    nodes = [
        _health(),
        _candidate("cpu", 31000, {"head": 6379, "dashboard": 8265, "client": 10001}),
        _candidate("gpu", 31024, {"head": 6380, "dashboard": 8266, "client": 10002}),
        _external("test-ray-worker", "made-up-test-worker", "external", 31048),
        _external("test-ray-joiner", "made-up-test-joiner", "joiner", 31072),
        Expected("test-ray-client", "made-up-test-client", "client", TEST, environment=TOKEN),
    ]
    return {node.name: node for node in nodes}


def _health() -> Expected:
    published = frozenset({"127.0.0.1:8080", f"{HOST}:8080"})
    environment = {"HEALTH_PORT": "8080", "HEAD_WHITELIST": "ray-cpu,ray-gpu"}
    return Expected(
        "health", "made-up-health", "health", MAIN, environment=environment, ports={"health": 8080}, published=published
    )


def _candidate(key: str, first: int, entries: dict[str, int]) -> Expected:
    block = _block(first)
    published = {f"{address}:{port}" for address in ("127.0.0.1", HOST) for port in entries.values()}
    return Expected(
        name=f"ray-{key}",
        container=f"made-up-ray-{key}",
        role="candidate",
        network=MAIN,
        cpus=4,
        environment={"HEAD_WHITELIST": "ray-cpu,ray-gpu", "HEAD_ADDRESS_CFG": "", **_environment(first)},
        ports={**block, **entries},
        published=frozenset(published | {f"{HOST}:{port}" for port in block.values()}),
        entries=entries,
        shm_size=SHM,
    )


def _external(name: str, container: str, role: str, first: int) -> Expected:
    environment = {"HEAD_WHITELIST": "ray-cpu,ray-gpu", "HEAD_ADDRESS": "ray-cpu:6379", **_environment(first)}
    block = _block(first)
    published = frozenset(f"{HOST}:{port}" for port in block.values())
    return Expected(name, container, role, TEST, "", 1, environment, block, published, shm_size=SHM)


def _environment(first: int) -> dict[str, str]:
    return {
        "HEALTH_URL": "http://health:8080",
        "WS_MEMORY": str(MEMORY),
        "WS_OBJECT_STORE_MEMORY": str(STORE),
        "WS_NODE_PORTS": ",".join(f"{name}={port}" for name, port in _block(first).items()),
        **TOKEN,
    }


def _block(first: int) -> dict[str, int]:
    fixed = ("node_manager", "object_manager", "runtime_env_agent", "dashboard_agent_grpc", "dashboard_agent_listen")
    names = [*fixed, "metrics_export", "transfer", "agent", f"worker_{first + 8}", f"worker_{first + 9}"]
    return {name: first + offset for offset, name in enumerate(names)}


def _log(name: str) -> str:
    mode = "head" if name == "ray-cpu" else "worker"
    return f"Hostname: {name}\n→ Ray 2.60.0, Python 3.11.7, advertised as {name}\nMode: {mode}\n✓ Ray is up after 3.1 s\n"


def _healthy_answers(site: FakeSite) -> None:
    site.says("listener", [{"event": "listening", "ports": [45001, 45002]}])
    for name, mode in (("ray-cpu", "head"), ("ray-gpu", "worker")):
        view = {"name": name, "state": "up", "mode": mode, "address": "ray-cpu:6379", "leader": "ray-cpu", "epoch": 3}
        site.answer("__main__.py look", json.dumps(view), node=name)
    site.answer("ray status", ACTIVE.format(*(row.node_id for row in site.board.rows)))
    site.answer("glob", json.dumps({"places": [], "variables": 20, "lines": 9, "empty": False}))
    site.answer("ray --version", "ray, version 2.60.0\n")
    site.answer("python3 --version", "Python 3.11.7\n")
    site.answer("getent passwd", "ray\n/home/ray/anaconda3/bin/ray\n/home/ray/anaconda3/bin/python3\n")
    site.answer("df -B1", f"Filesystem 1B-blocks Used Available Use% Mounted on\nshm {SHM} 0 {SHM} 0% /dev/shm\n")
    for name, node in site.expected.items():
        fixed = [port for role, port in node.ports.items() if not role.startswith("worker") and role != "transfer"]
        inner = [INNER_PORT] if node.ray_node else []
        site.answer("/proc/net/tcp", listening(*fixed, *inner, loopback=[11]), node=name)


def _program_names() -> list[str]:
    return [path.stem for path in programs.FOLDER.glob("*.py") if path.stem not in ("__init__", "common")]
