"""The cluster as a Ray Client outside sees it: names, ports, versions, then Ray itself. Needs Ray and grpcio.

Without parameters it is the main program of the container test-ray-client: it prints a line for people for each step, and
then stays alive until SIGTERM. Entries come from WS_CLIENT_ENTRIES, the health server's `host:port` from WS_CLIENT_HEALTH.
With PARAMS it prints events: {"entries": [{"name", "gcs", "client", "dashboard"}, …] (default: WS_CLIENT_ENTRIES; a port
that is not given is not tried), "health": "host:port" or "", "nodes": names that must be alive, "without_token": false}.

Events:
- {"event": "check", "check", "entry", "ok", "detail", "cause", "seconds", "evidence"}; detail: a sentence for people; cause:
  a key of `ws.verify.causes` where it failed, else null; evidence: an object.
  Of each entry `resolve`, `ping` (by TCP where ICMP is impossible), `gcs-port`, `client-port`; `health` where one is given
  (its entry is null). Then, through the first entry whose name and client port are right: `init`, `resources`, `tasks` (one
  on every living node), `actor`, `object`. Where one of them hangs it fails at its limit, and the rest is not made.
- {"event": "versions", "mine": {"ray", "python"}, "cluster": {"ray", "python"} or null}: before connecting; where they
  differ by more than Python's patch release, `init` fails without an attempt.
- with "without_token" nothing but, for the first entry, {"event": "refused", "entry", "ok", "how", "seconds"}: ok is null
  where it could not be seen, false where the cluster lets in a client without a token.
- {"event": "done"}

Whatever uses gRPC or Ray is done in a child process, which may hang or die: a verdict always comes.
"""

import json
import os
import platform
import signal
import sys
import time

from around import TIMEOUT, check, entry_checks, health_check
from child import CUT, step, supervised
from common import brief, call, emit, parameters
from identity import CLUSTER_INFO

LIMITS = {"ports": 40.0, "init": 30.0, "resources": 15.0, "tasks": 25.0, "actor": 20.0, "object": 20.0, "refused": 12.0}
REFUSALS = ("UNAUTHENTICATED", "PERMISSION_DENIED")
SIZE = 2_000_000  # bytes; a smaller object would travel inside a message


# Names, ports and versions


def look_around(entries, health, say):
    """Check names and ports, and find the cluster's versions; runs in a child."""
    say(step("ports"))
    cluster = None
    for entry in entries:
        for event in entry_checks(entry):
            say(event)
            versions = event["evidence"].get("versions")
            cluster = cluster if cluster and cluster["python"] else versions or cluster
    if health:
        say(health_check(health))
    say({"event": "versions", "mine": my_versions(), "cluster": cluster})


def my_versions():
    from importlib.metadata import PackageNotFoundError, version

    try:
        ray = version("ray")
    except PackageNotFoundError:
        ray = None
    return {"ray": ray, "python": platform.python_version()}


def difference(mine, cluster):
    """(cause, words) where Ray would refuse this client, or None."""
    if cluster is None:
        return None
    if cluster["ray"] and mine["ray"] != cluster["ray"]:
        return "ray-version", f"Ray {mine['ray']} here, Ray {cluster['ray']} in the cluster"
    minor = [(known["python"] or "").split(".")[:2] for known in (mine, cluster)]
    if cluster["python"] and minor[0] != minor[1]:
        return "python-version", f"Python {mine['python']} here, Python {cluster['python']} in the cluster"
    return None


# Ray itself


def use_ray(entry, expected, say):
    """The checks through Ray Client; runs in a child, which a hanging step does not outlive."""
    name, address = entry["name"], f"ray://{entry['name']}:{entry['client']}"
    say(step("init"))
    began = time.monotonic()
    ray = init(address)
    say(check("init", name, True, "Ray client connected", began, address=address))
    for what, use in (("resources", resources), ("tasks", tasks), ("actor", actor), ("object", an_object)):
        say(step(what))
        began = time.monotonic()
        try:
            ok, detail, evidence = use(ray, expected)
        except Exception as error:
            ok, detail, evidence = False, brief(error), {}
        say(check(what, name, ok, detail, began, "ray-error", **evidence))


def init(address):
    os.environ.update(RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_ENABLE_AUTO_CONNECT="0")  # as in `common.connect`
    import ray

    ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    return ray


def resources(ray, expected):
    total = ray.cluster_resources()
    living = sorted(node["NodeName"] for node in ray.nodes() if node["Alive"])
    missing = sorted(set(expected) - set(living))
    detail = (
        f"cluster resources: {total.get('CPU', 0):g} CPUs, {total.get('memory', 0) / 2**30:.1f} GiB; {', '.join(living)}"
    )
    if missing:
        detail += f"; not alive: {', '.join(missing)}"
    return not missing, detail, {"nodes": living, "resources": total}


def tasks(ray, expected):
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def where():
        import ray

        return ray.get_runtime_context().get_node_id()

    where = ray.remote(num_cpus=0, max_retries=0)(where)
    nodes = {node["NodeID"]: node["NodeName"] for node in ray.nodes() if node["Alive"]}
    began = time.monotonic()
    running = {
        where.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): node for node in nodes
    }
    found, deadline = {}, began + LIMITS["tasks"] - 5.0
    while running and time.monotonic() < deadline:
        ready, _ = ray.wait(list(running), num_returns=1, timeout=0.5)
        for ref in ready:
            node = running.pop(ref)
            found[nodes[node]] = answer(ray, ref, node, began)
    found.update({nodes[node]: "no answer in time" for node in running.values()})
    bad = {name: why for name, why in found.items() if not isinstance(why, float)}
    words = ", ".join(f"{name} {took}" if name in bad else f"{name} {took:.1f} s" for name, took in sorted(found.items()))
    return not bad, f"a task on every node: {words}", {"nodes": found, "failed": sorted(bad)}


def answer(ray, ref, node, began):
    """Seconds until a task was done on its node, or why it was not."""
    try:
        ran_on = ray.get(ref, timeout=5)
    except Exception as error:
        return brief(error)
    return round(time.monotonic() - began, 3) if ran_on == node else "it ran on another node"


def actor(ray, _expected):
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self, number):
            self.count += number
            return self.count

    counter = ray.remote(num_cpus=0)(Counter).remote()
    counts = [ray.get(counter.add.remote(number), timeout=15) for number in (2, 3)]
    return counts == [2, 5], f"an actor keeps its state: {counts[0]} + 3 = {counts[1]}", {"counts": counts}


def an_object(ray, _expected):
    sent = os.urandom(SIZE)
    back = ray.get(ray.put(sent), timeout=15)
    return back == sent, f"an object of {SIZE} bytes there and back", {"bytes": SIZE, "equal": back == sent}


# All of it


def run(params, tell):
    """Make all checks, and `tell` each event."""
    entries = params["entries"]
    seen, first = [], entries[0]["name"] if entries else None
    for event in supervised(lambda say: look_around(entries, params.get("health"), say), LIMITS):
        seen.append(event)
        tell(as_check(event, first, "ports"))
    entry = next((entry for entry in entries if usable(entry, seen)), None)
    if entry is None:
        return
    versions = next((event for event in seen if event["event"] == "versions"), {"mine": {}, "cluster": None})
    differs = difference(versions["mine"], versions["cluster"])
    if differs:
        cause, words = differs
        tell(check("init", entry["name"], False, f"Ray Client refuses other versions: {words}", time.monotonic(), cause))
        return
    for event in supervised(lambda say: use_ray(entry, params.get("nodes", []), say), LIMITS):
        tell(as_check(event, entry["name"], "init"))


def usable(entry, seen):
    """Whether name and client port were found right."""
    passed = {event["check"] for event in seen if event.get("entry") == entry["name"] and event.get("ok")}
    return {"resolve", "client-port"} <= passed


def as_check(event, entry, first):
    """A step that was cut, as the check that it was to be."""
    if event["event"] != CUT:
        return event
    words = "ray.init" if event["step"] == "init" else event["step"]
    return {
        **check(event["step"] or first, entry, False, f"{words}: {event['why']}", 0.0, "ray-error"),
        "seconds": event["seconds"],
    }


def without_token(entry):
    """The event `refused` for one entry: first what its server says to a call, then what `ray.init` makes of it."""
    began = time.monotonic()
    said, connected, cut = [], False, ""
    for event in supervised(lambda say: try_without_token(entry, say), LIMITS):
        if event["event"] == "status":
            said = event["said"]
        connected = connected or event["event"] == "connected"
        cut = event["why"] if event["event"] == CUT else cut
    seconds = round(time.monotonic() - began, 3)
    if connected:
        ok, how = False, "a client without a token was let in"
    elif said and said[0] in REFUSALS:
        ok, how = True, f"the server answers {said[0]} ({said[1]}); ray.init: {cut or 'refused'}"
    else:
        ok, how = None, " ".join(said) or cut or "no answer"
    return {"event": "refused", "entry": entry["name"], "ok": ok, "how": how, "seconds": seconds}


def try_without_token(entry, say):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        os.environ.pop(name, None)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    say(step("refused"))
    said = call(entry["name"], entry["client"], CLUSTER_INFO, timeout=TIMEOUT)[:2]
    say({"event": "status", "said": said})
    if said[0] in (*REFUSALS, "OK", "NOT_FOUND"):  # else it is no Ray Client server, or none that answers
        init(f"ray://{entry['name']}:{entry['client']}")
        say({"event": "connected"})


# For people


def line(event):
    """What people read of an event."""
    if event["event"] == "versions":
        cluster = event["cluster"] or {}
        mine = event["mine"]
        known = f"; the cluster: Ray {cluster.get('ray')}, Python {cluster.get('python') or 'unknown'}" if cluster else ""
        return f"→ Ray {mine['ray']}, Python {mine['python']} here{known}"
    if event["event"] == "check" and event["check"] == "resolve" and event["ok"]:
        return f"→ {event['detail']}"
    return f"{'✓' if event['ok'] else '✗'} {event['detail']}"


def people(params):
    """The container's main program."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    failed, made = [], []

    def tell(event):
        print(line(event), flush=True)
        if event["event"] == "check":
            made.append(event)
            failed.extend([event] if not event["ok"] else [])

    print(
        f"→ testing {', '.join(entry['name'] for entry in params['entries']) or 'nothing: no entries are given'}", flush=True
    )
    run(params, tell)
    verdict = f"✗ {len(failed)} of {len(made)} tests failed" if failed else f"✓ {len(made)} tests passed"
    print(f"{verdict}; this container stays, to be looked into", flush=True)
    while True:
        signal.pause()


def main():
    entries = json.loads(os.environ.get("WS_CLIENT_ENTRIES") or "[]")
    if len(sys.argv) < 2:
        people({"entries": entries, "health": os.environ.get("WS_CLIENT_HEALTH", "")})
    params = {"entries": entries, **parameters()}
    if params.get("without_token"):
        emit(**without_token(params["entries"][0]))
    else:
        run(params, lambda event: emit(**event))
    emit("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
