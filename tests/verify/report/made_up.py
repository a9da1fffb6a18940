"""Made-up runs, as `ws test` would report them."""

from __future__ import annotations

from ws.verify.verdict import Cause, Check, Link, PictureNode, Report, ScenarioResult, Verdict

GATEWAY = "172.17.0.1"
NODES = ("ray-cpu", "ray-gpu", "test-ray-worker")


def passing() -> Report:
    """Three scenarios that pass, the picture of the default config, and links between three nodes."""
    return Report(
        started=1_795_273_445.0,
        seconds=81.3,
        about={"project": "cslr-exp-platform", "address": "ray-cpu:6379", "Ray": "2.60.0", "Python": "3.11.14"},
        scenarios=[
            ScenarioResult(
                "self-election",
                "Whoever got the lease leads, and the others joined it",
                [
                    passed("one head", "the lease, the logs, GCS and `ray status`", "ray-cpu, epoch 1, by all four", 0.4),
                    passed("ray-gpu joined it", "its log", "Mode: worker\njoined ray-cpu:6379", 0.1),
                ],
                seconds=0.6,
            ),
            ScenarioResult(
                "external-worker",
                "A node outside the whitelist becomes a worker that works",
                [
                    passed("a task on test-ray-worker", "`ray.remote` with its node id", "answered in 0.31 s", 0.3),
                    passed("an object to it", "16 MiB from ray-cpu", "16777216 bytes in 0.12 s", 0.2),
                    passed("a task with a `runtime_env` on it", "an environment variable", "FLAG=1", 2.9),
                ],
                seconds=3.9,
            ),
            ScenarioResult(
                "links", "Every node reaches every other", [passed("all links", "actor calls", "6 links", 4.2)], seconds=4.2
            ),
            ScenarioResult(
                "stability",
                "Nodes stay alive beyond the health-check window",
                [passed("test-ray-worker stays alive", "GCS, twice a second", "alive for 65.4 s, window 65 s", 65.4)],
                seconds=65.4,
            ),
        ],
        picture=nodes(),
        links=[link(one, other) for one in NODES for other in NODES if one != other],
        logs={
            "ray-cpu": "Mode: head\n",
            "ray-gpu": "Mode: worker\n",
            "test-ray-worker": "Mode: worker\n",
            "test-ray-client": "✓\n",
        },
    )


def failing() -> Report:
    """Two failed checks in two scenarios, three causes in all, one of them named by both; one link dead both ways."""
    blocked = Cause(
        "port-blocked",
        "port 31049 (object manager) of test-ray-worker is refused at 172.17.0.1, while it listens in its container",
        "publish it: `172.17.0.1:31049:31049` under `ports` of test-ray-worker in cluster-test.compose.yaml, then `ws test`",
    )
    small = Cause("shm-small", "`/dev/shm` of test-ray-worker is 64 MiB, Ray wants 614 MiB", "set `shm_size` in config.yaml")
    dead = Cause(
        "link-dead", "nothing passes from ray-gpu to test-ray-worker", "`docker logs cslr-exp-platform-test-worker`"
    )
    report = passing()
    external, links = report.scenarios[1], report.scenarios[2]
    external.checks[1].failed("ray.exceptions.ObjectFetchTimedOutError: <object>\nno byte in 20 s & more", blocked, small)
    links.checks[0].failed("ray-gpu → test-ray-worker: no answer in 20 s", dead, blocked)
    report.links = [
        link(one.source, one.target, trouble="no answer in 20 s")
        if {one.source, one.target} == {"ray-gpu", "test-ray-worker"}
        else one
        for one in report.links
    ]
    report.links[0] = link("ray-cpu", "ray-gpu", median=9.4, bandwidth=31e6)
    report.links[1] = link("ray-cpu", "test-ray-worker", trouble="connection refused at 172.17.0.1:31049")
    return report


def inconclusive() -> Report:
    """One check that could not be observed, no links, and a scenario that made no check."""
    report = passing()
    report.scenarios[1].checks[2].unseen("docker exec in test-ray-worker did not answer within 20 s")
    report.scenarios[2].checks.clear()
    report.links = []
    return report


def passed(what: str, how: str, evidence: str, seconds: float) -> Check:
    return Check(what, how, Verdict.PASS, evidence, seconds=seconds)


def link(source: str, target: str, *, median: float = 0.62, bandwidth: float = 412e6, trouble: str = "") -> Link:
    return Link(source, target, trouble=trouble) if trouble else Link(source, target, median, median * 3, bandwidth)


def nodes() -> list[PictureNode]:
    return [
        PictureNode("health", "health", "ray-network", "172.28.0.2", (f"{GATEWAY}:8080", "127.0.0.1:8080")),
        PictureNode("ray-cpu", "head", "ray-network", "172.28.0.3", published(6379, 8265, 10001, *range(31000, 31024))),
        PictureNode("ray-gpu", "worker", "ray-network", "172.28.0.4", published(6380, 8266, 10002, *range(31024, 31048))),
        PictureNode("test-ray-worker", "worker", "test-network", "172.30.0.2", published(*range(31048, 31064))),
        PictureNode("test-ray-client", "client", "test-network", "172.30.0.3"),
    ]


def published(*ports: int) -> tuple[str, ...]:
    entries = [port for port in ports if port < 31000]
    return (*(f"127.0.0.1:{port}" for port in entries), *(f"{GATEWAY}:{port}" for port in ports))
